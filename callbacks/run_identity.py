"""Identity of a run: a record beside its config and in checkpoints, compared when it goes on."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from novum.core.errors import InputError
from novum.core.lightning_compat import datamodule, fast_dev_run
from novum.core.run_record import (
    FolderLock,
    code_version,
    novum_version,
    read_record,
    sorted_changes,
    write_record,
)

IN_CHECKPOINT = "run"


class RunRecord(Callback):
    """Keeps who a run is, locks its folder, and applies or refuses what changed on resume.

    `run.json` in the run's folder and every checkpoint hold an id, the settings and the data's
    fingerprints. When a run goes on:

    - other data is refused;
    - optimizers and schedules go on with the state of the checkpoint and the settings of now: what
      differs from what they were configured with, as the learning rate, is set, the rest kept;
    - an optimizer of another class is refused.

    `settings`, what the run's result depends on as plain values, is set by the command line.
    """

    def __init__(self) -> None:
        self.settings: dict[str, Any] | None = None
        self.record: dict[str, Any] = {}
        self._before: dict[str, Any] = {}  # record in the checkpoint
        self._configured: list[dict[str, Any]] = []  # optimizers and schedules as they were made
        self._lock: FolderLock | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or fast_dev_run(trainer):
            return
        folder = trainer.log_dir or "."  # a collective
        trouble = ""
        if trainer.is_global_zero and "://" not in folder:
            try:
                self._lock = FolderLock(Path(folder))
            except InputError as error:
                trouble = str(error)
        if trouble := trainer.strategy.broadcast(trouble):
            raise InputError(trouble)
        self.record = {
            "id": secrets.token_hex(8),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "novum": novum_version(),
            "code": code_version(),
            "torch": str(torch.__version__),
            "ranks": trainer.world_size,
            "data": _fingerprints(trainer),
            "loggers": {
                type(x).__name__: x.version for x in trainer.loggers if isinstance(x.version, str)
            },
        }

    # -- going on ------------------------------------------------------------------------------

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        found = checkpoint.get(IN_CHECKPOINT)
        if trainer.state.fn != TrainerFn.FITTING or not isinstance(found, dict):
            return
        self._before = found
        require_same_data(found, self.record.get("data", {}), trainer.ckpt_path)
        for what, name in (("code", "novum's code"), ("ranks", "the number of processes")):
            if what in found and self.record and found[what] != self.record[what]:
                rank_zero_info(
                    f"changed since the checkpoint: {name}, {found[what]} -> {self.record[what]}"
                )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before the state of a checkpoint is put into optimizers and schedules."""
        self._configured = _configured(trainer)
        known = self._before.get("configured")
        if isinstance(known, list):
            names = [[str(x.get("class")) for x in each] for each in (known, self._configured)]
            if names[0] != names[1]:
                raise InputError(
                    f"{trainer.ckpt_path} holds the state of {', '.join(names[0])}, which"
                    f" {', '.join(names[1])} cannot go on from: set the optimizers back, or start"
                    " another run without --ckpt_path"
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        known = self._before.get("configured")
        if isinstance(known, list):
            for part, before, now in zip(_parts(trainer), known, self._configured, strict=True):
                _apply(part, before, now)
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        """run.json: of the run that goes on, if it does so in its own folder."""
        folder = trainer.log_dir or "."  # a collective
        if fast_dev_run(trainer) or "://" in folder:
            return
        old = read_record(Path(folder))
        changed = []
        if self._before:
            changed = sorted_changes(self._before.get("settings"), self.settings)
            same = old.get("id") == self._before.get("id")
            self.record |= (
                {"id": old["id"], "started": old.get("started")}
                if same
                else {"from": str(self._before.get("id"))}
            )
            resumed = {"step": trainer.global_step, "changed": [str(x) for x in changed]}
            self.record["resumed"] = [*old.get("resumed", []), resumed] if same else [resumed]
        if trainer.is_global_zero:
            write_record(Path(folder), self.record)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            kept = {k: self.record[k] for k in ("id", "code", "ranks", "data") if k in self.record}
            checkpoint[IN_CHECKPOINT] = kept | {
                "settings": self.settings,
                "configured": self._configured,
            }

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._release()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def require_same_data(record: dict[str, Any], now: dict[str, str], path: object) -> None:
    """Raise InputError if the data is another than a checkpoint's record says."""
    if other := _other_data(record.get("data"), now):
        raise InputError(
            f"the {_named(other)} changed since {path} was written: give the same data, or start"
            " another run without --ckpt_path"
        )


def _other_data(before: Any, now: dict[str, str]) -> str:
    """The first part that is not among what there was; '' if all are, or nothing is known.

    A digest may begin with its kind, and is compared with others of that kind alone.
    """
    known = set(map(str, before.values())) if isinstance(before, dict) else set()
    kinds = {digest.rpartition(" ")[0] for digest in known}
    other = (n for n, x in now.items() if x.rpartition(" ")[0] in kinds and x not in known)
    return next(other, "")


def _named(part: str) -> str:
    return {"train": "training data", "heldout": "held-out data"}.get(part, f"image {part}")


def _fingerprints(trainer: Trainer) -> dict[str, str]:
    """Part of the data -> digest, where the DataModule says; the same on every rank."""
    fingerprints: Callable[[], dict[str, str]] | None
    fingerprints = getattr(datamodule(trainer), "fingerprints", None)
    return {} if fingerprints is None else dict(fingerprints())


def _parts(trainer: Trainer) -> list[Any]:
    schedules = [x.scheduler for x in trainer.lr_scheduler_configs]
    return [*trainer.optimizers, *schedules]


def _configured(trainer: Trainer) -> list[dict[str, Any]]:
    """Class and plain settings of each optimizer and schedule, as they were just made."""
    found = []
    for part in _parts(trainer):
        groups = getattr(part, "param_groups", None)
        kept = [_plain(group) for group in groups] if groups else [_plain(vars(part))]
        found.append({"class": type(part).__name__, "settings": kept})
    return found


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers, texts and lists of them: what a checkpoint may hold and a schedule is set by."""
    return {k: v for k, v in values.items() if k != "params" and _is_plain(v)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple | dict):
        inside = value.values() if isinstance(value, dict) else value
        return all(map(_is_plain, inside))
    return value is None or isinstance(value, bool | int | float | str)


def _apply(part: Any, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Set what is configured otherwise than it was, and keep the rest of the state."""
    groups = getattr(part, "param_groups", None) or [vars(part)]
    for group, old, new in zip(groups, before["settings"], now["settings"], strict=True):
        if "initial_lr" in old and "initial_lr" in new:  # of a schedule: how far it is stays
            group["lr"] *= new["initial_lr"] / (old["initial_lr"] or 1)
        for key in (old.keys() & new.keys()) - ({"lr"} if "initial_lr" in old else set()):
            if old[key] != new[key]:
                group[key] = new[key]
