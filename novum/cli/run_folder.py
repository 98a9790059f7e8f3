"""Folder of a run of the command line, whichever loggers it has, and the meaning of `last`."""

import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning import Trainer

from novum.callbacks.checkpointing import LAST, PREVIOUS
from novum.core.checkpoints import read_checkpoint
from novum.core.distributed import is_rank_zero
from novum.core.errors import InputError
from novum.core.protocols import AXES
from novum.core.run_record import (
    RECORD,
    Change,
    claim_version,
    read_record,
    settings_of,
    sorted_changes,
)
from novum.core.security.configs import CONFIG, config_of_run, parse_config, read_text
from novum.core.security.untrusted import Untrusted

RUNS = "runs"  # save_dir of configs/default.yaml
PLACES = ("save_dir", "name", "version")
NAMED = ("TensorBoardLogger", "CSVLogger")  # whose name and version are folders
LIGHTNINGS_NAME = "lightning_logs"


class RunTrainer(Trainer):
    """A Trainer whose run has one folder, whichever loggers it has."""

    run_folder: Path | None = None
    asked_logger: Any = None  # as the config had it

    @property
    def log_dir(self) -> str | None:
        """The run's folder; a collective."""
        if self.run_folder is None:
            return super().log_dir
        return self.strategy.broadcast(str(self.run_folder))


class Place(NamedTuple):
    """A run's folder and what it goes on from."""

    root: str
    experiment: str
    version: str
    checkpoint: dict[str, Any] | None = None

    @property
    def folder(self) -> Path:
        return Path(self.root, self.experiment, self.version)

    @property
    def done(self) -> int | None:
        """Position on the x axis of all curves at the checkpoint."""
        checkpoint = self.checkpoint or {}
        return next((checkpoint[axis] for axis in AXES if axis in checkpoint), None)


def loggers_of(trainer: Any) -> list[Any]:
    """Loggers of a parsed trainer config, as namespaces with class_path and init_args."""
    configured = trainer.get("logger")
    every = configured if isinstance(configured, list) else [configured]
    return [x for x in every if hasattr(x, "class_path") and hasattr(x, "init_args")]


def kind(logger: Any) -> str:
    return logger.class_path.rsplit(".", 1)[-1]


def asked_place(trainer: Any, config_name: str) -> tuple[str, str, str | None]:
    """Root, experiment and version that the loggers or default_root_dir name; no version: null."""
    given = [(kind(x), x.init_args) for x in loggers_of(trainer)]
    roots = [args.get("save_dir") for _, args in given]
    root = next((str(x) for x in roots if x and str(x) not in (RUNS, ".", "./mlruns")), None)
    names = [args.get("name") for cls, args in given if cls in NAMED]
    name = next((x for x in names if x and x != LIGHTNINGS_NAME), None)
    version = next((args.get("version") for _, args in given if args.get("version")), None)
    version = f"version_{version}" if isinstance(version, int) else version
    return root or str(trainer.get("default_root_dir") or RUNS), name or config_name, version


def last_run(
    root: str, experiment: str, version: str | None, now: dict[str, Any] | None
) -> Path | None:
    """Folder of the run that `--ckpt_path last` goes on with; None if there is none yet.

    The run of that version; else the newest of the experiment with the same settings, or with any
    if these are None.

    Raises:
        InputError: If runs of the experiment have other settings only.
    """
    runs = Path(root, experiment)
    found = [p for name in (LAST, PREVIOUS) for p in runs.glob(f"*/checkpoints/{name}")]
    folders = [p.parent.parent for p in sorted(found, key=_written, reverse=True)]
    if version is not None:
        return next((folder for folder in folders if folder.name == version), None)
    return same_settings({folder: folder for folder in folders}, now)


def same_settings(folders: Mapping[Path, Path], now: dict[str, Any] | None) -> Path | None:
    """The first folder with the settings of now; None if there are no folders.

    Args:
        folders: Folder -> that of the run in it whose config tells its settings, the newest first.

    Raises:
        InputError: If there are folders with other settings only.
    """
    nearest: tuple[Path, list[Change]] | None = None
    for folder, run in folders.items():
        changed = sorted_changes(_settings_beside(run), now)
        if not changed:
            return folder
        nearest = nearest or (folder, changed)
    if nearest is not None:
        folder, changed = nearest
        mend = ""
        if folders[folder] == folder and not changed[0].fixed:
            mend = f"to go on from it all the same give --ckpt_path {_newest(folder)}; "
        raise InputError(
            f"no run in {folder.parent} has these settings: the newest, {folder.name}, differs in"
            f" {listed(changed)}; {mend}to start another leave --ckpt_path out"
        )
    return None


def listed(changed: list[Change], most: int = 3) -> str:
    shown = ", ".join(map(str, changed[:most]))
    return shown + (f" and {len(changed) - most} more" if len(changed) > most else "")


def _written(path: Path) -> float:
    return path.stat().st_mtime


def _newest(folder: Path) -> Path:
    found = [folder / "checkpoints" / name for name in (LAST, PREVIOUS)]
    return next(path for path in found if path.is_file())


def _settings_beside(folder: Path) -> dict[str, Any] | None:
    """Settings in a run's config.yaml; None, which differs from nothing, if there is no such."""
    try:
        return settings_of(parse_config(read_text(folder / CONFIG)).values)
    except (OSError, Untrusted):
        return None


def newest_whole(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Read last.ckpt; if it is damaged, fall back to previous.ckpt and warn."""
    damages = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.is_file():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except ValueError as error:
            damages.append((path.stat().st_mtime, str(error)))
            continue
        for written, damage in damages:
            lost = max(0.0, written - path.stat().st_mtime)
            print(
                f"{damage}; going on from {path}, step {checkpoint['global_step']}, which was"
                f" written {lost:.0f} s earlier",
                file=sys.stderr,
            )
        return path, checkpoint
    told = "; ".join(damage for _, damage in damages)
    raise InputError(f"{told}: give another --ckpt_path, such as {folder / 'best.ckpt'}, or none")


def check_changes(path: str, checkpoint: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse settings that a run cannot go on with; print the others."""
    record = checkpoint.get("run")
    before = record.get("settings") if isinstance(record, dict) else None
    if before is None and (config := config_of_run(Path(path))):
        before = _settings_beside(config.parent)
    changed = sorted_changes(before, now)
    if fixed := [change for change in changed if change.fixed]:
        raise InputError(
            f"a run cannot go on with other data or another seed than {path} was written with:"
            f" {listed(fixed)}; set it back, or start another run without --ckpt_path"
        )
    if changed and is_rank_zero():
        print(f"changed since the checkpoint: {listed(changed, 10)}")


def claim(root: str, experiment: str, version: str | None) -> Place:
    """Folder of a new run, which is nobody else's.

    Raises:
        InputError: If that version is another run.
    """
    runs = Path(root, experiment)
    if version is None:
        version = claim_version(runs) if is_rank_zero() else "version_of_rank_zero"
    elif is_rank_zero() and any(
        (runs / version / name).exists() for name in (CONFIG, RECORD, "checkpoints")
    ):
        raise InputError(
            f"{runs / version} holds another run: give --ckpt_path last to go on with it, or"
            " another --trainer.logger.init_args.version"
        )
    return Place(root, experiment, version)


def place_loggers(trainer: Any, place: Place) -> None:
    """Let every logger write into the run's folder, and go on with its curves."""
    for logger in loggers_of(trainer):
        args, cls = logger.init_args, kind(logger)
        if cls in NAMED:
            args.save_dir, args.name, args.version = place.root, place.experiment, place.version
        elif cls == "WandbLogger":
            args.save_dir = str(place.folder)
            args.project = args.get("project") or place.experiment
            args.name = args.get("name") or f"{place.experiment}/{place.version}"
            if not args.get("id"):
                args.id, args.version = _run_id(place), None
        elif cls == "MLFlowLogger":
            if not args.get("tracking_uri") and str(args.get("save_dir")) in (RUNS, "./mlruns"):
                args.save_dir = str(Path(place.root) / "mlruns")
            if args.get("experiment_name") in (None, LIGHTNINGS_NAME):
                args.experiment_name = place.experiment
            args.run_name = args.get("run_name") or place.version
            known = read_record(place.folder).get("loggers", {})
            args.run_id = args.get("run_id") or known.get("MLFlowLogger")


def _run_id(place: Place) -> str:
    """Id for W&B: the same whenever this run goes on, and another for any other run."""
    known = read_record(place.folder).get("loggers", {}).get("WandbLogger")
    if isinstance(known, str):
        return known
    name = re.sub(r"[^\w-]", "_", f"{place.experiment}-{place.version}")
    return f"{name}-{secrets.token_hex(3)}"
