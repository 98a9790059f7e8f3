"""`train.py fit --twin`: a run on each half of the training data, then their comparison.

Both runs have one folder, runs/<config>/twin_N, and each is a run like any other in it: a and b.
"""

import contextlib
import importlib
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar, cast

from jsonargparse import Namespace

from novum.callbacks.checkpointing import LAST, PREVIOUS
from novum.callbacks.run_identity import require_same_data
from novum.cli.lightning_cli import TrainCLI, start
from novum.cli.run_folder import Place, asked_place, newest_whole, same_settings
from novum.cli.train import TWIN
from novum.core import distributed
from novum.core.errors import InputError
from novum.core.protocols import makes_new_images
from novum.core.run_record import LOCK, FolderLock, claim_version, read_record, write_record
from novum.datamodules.halves import HALVES, Half
from novum.datamodules.images import ImageDataModule
from novum.datamodules.text import TextDataModule
from novum.evaluation.twins import Models

PREFIX = "twin_"
STOPS = ("max_steps", "max_epochs", "max_time", "min_steps", "min_epochs")  # when a run is done


class TwinCLI(TrainCLI):
    """Trains on one half of the training data, or loads the run that has done so."""

    half: ClassVar[Half] = "a"
    folder: ClassVar[Path | None] = None  # of both runs; None before it is known, and of a trial
    lock: ClassVar[FolderLock | None] = None

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Without the flag, which is no key of a config."""
        typed, sys.argv = sys.argv, [a for a in sys.argv if a != TWIN]
        try:
            super().parse_arguments(parser, args)
        finally:
            sys.argv = typed

    def before_instantiate_classes(self) -> None:
        config = self.config["fit"]
        _require_generator(config)
        _require_halves(config)
        config.data.init_args.half = self.half
        super().before_instantiate_classes()

    def _find_place(self, config: Namespace) -> Place:
        files = config.get("config") or []
        name = Path(files[-1]).stem if files else "default"
        root, experiment, version = asked_place(config.trainer, name)
        if "://" in root:
            raise InputError(f"{TWIN} needs a folder on a disk of this machine, not {root}")
        runs, cls = Path(root, experiment), TwinCLI
        if cls.folder is None:
            settings = self._settings(config)
            cls.folder = runs / _choose(runs, version, config.get("ckpt_path"), settings)
            cls.lock = FolderLock(cls.folder) if distributed.is_rank_zero() else None
        config.ckpt_path = None
        place = Place(str(runs), cls.folder.name, self.half)
        if any((place.folder / "checkpoints" / x).is_file() for x in (LAST, PREVIOUS)):
            path, checkpoint = newest_whole(place.folder / "checkpoints")
            config.ckpt_path = str(path)
            return place._replace(checkpoint=checkpoint)
        if distributed.is_rank_zero() and place.folder.exists():  # it has nothing to go on from
            shutil.rmtree(place.folder)
        return place

    def _run_subcommand(self, subcommand: str) -> None:
        """Train, unless the run was done before."""
        if self._place is None:
            return super()._run_subcommand(subcommand)
        stops = {k: str(v) for k in STOPS if (v := self.config["fit"].trainer.get(k)) is not None}
        folder, checkpoint = self._place.folder, self._place.checkpoint
        if checkpoint is not None and read_record(folder).get("finished") == stops:
            say(f"twin {self.half} is done: {folder}")
            path = folder / "checkpoints" / LAST
            now = cast(Any, self.datamodule).fingerprints()
            require_same_data(checkpoint.get("run") or {}, now, path)
            self.model.on_load_checkpoint(checkpoint)
            self.model.load_state_dict(checkpoint["state_dict"], strict=self.model.strict_loading)
            return
        say(f"twin {self.half}: {folder}")
        super()._run_subcommand(subcommand)
        if distributed.is_rank_zero():
            write_record(folder, read_record(folder) | {"finished": stops})

    @classmethod
    def forget(cls) -> None:
        """Release the folder; remove it if no run in it began."""
        if cls.lock is not None and cls.folder is not None:
            cls.lock.release()
            if not any((cls.folder / half).exists() for half in HALVES):
                (cls.folder / LOCK).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # something else is in it
                    cls.folder.rmdir()
        cls.folder = cls.lock = None


def say(line: str) -> None:
    if distributed.is_rank_zero():
        print(line)


def train_twins() -> None:
    """Do what sys.argv says on each half, and compare."""
    models: dict[str, Any] = {}
    data: Any = None
    TwinCLI.folder, seed = None, 0
    try:
        for half in HALVES:
            TwinCLI.half = half
            cli = start(TwinCLI)
            models[half] = cli.model
            models[half].trainer = None  # which holds optimizers and callbacks
            if half == HALVES[-1]:  # one of the two is enough, and takes memory
                data, seed = cli.datamodule, int(cli.config["fit"].get("seed_everything") or 0)
                data.trainer = None
            del cli
        if TwinCLI.folder is None:
            say("twins: a trial compares nothing")
            return
        _compare(models, data, TwinCLI.folder, seed)
    finally:
        TwinCLI.forget()


def _compare(models: Models, data: Any, folder: Path, seed: int) -> None:
    """Compare the twins, and write twin.html, twin.json and events into the folder of both."""
    from novum.evaluation.twin_files import compare_twins

    say("comparing the twins")
    with distributed.process_group():
        report, page = compare_twins(models, data, folder, seed)
    say(f"Verdict: {report.verdict.text}")
    say(f"Twins:   {page}")


def _choose(runs: Path, version: str | None, asked: Any, settings: dict[str, Any]) -> str:
    """Name of the folder of both runs: of those to go on with, or a new one."""
    if asked not in (None, "last"):
        raise InputError(f"--ckpt_path is {asked}: {TWIN} goes on with last alone")
    if asked == "last":
        written = {
            path.parent.parent.parent: path.stat().st_mtime
            for name in (LAST, PREVIOUS)
            for path in runs.glob(f"{version or PREFIX + '*'}/[ab]/checkpoints/{name}")
        }
        newest = sorted(written, key=lambda folder: written[folder], reverse=True)
        found = same_settings({folder: folder / "a" for folder in newest}, settings)
        if found is not None:
            return found.name
        say(f"no twins under {runs}: starting from the beginning")
    if version is None:
        return claim_version(runs, PREFIX) if distributed.is_rank_zero() else f"{PREFIX}of_rank_0"
    if distributed.is_rank_zero() and (runs / version).exists():
        raise InputError(
            f"{runs / version} exists: give --ckpt_path last to go on with twins in it, or another"
            " --trainer.logger.init_args.version"
        )
    return version


def _require_generator(config: Namespace) -> None:
    """Raise InputError unless the model is one that can be made to learn from half of the data."""
    cls = _imported(config.model.class_path)
    if not hasattr(cls, "sample_text") and not makes_new_images(cls):
        raise InputError(
            f"{TWIN} compares generators that learn from data, such as GAN, FlowMatching or"
            f" CharLSTM: {cls.__name__} is none"
        )


def _require_halves(config: Namespace) -> None:
    arguments = config.data.get("init_args") or Namespace()
    known = issubclass(_imported(config.data.class_path), ImageDataModule | TextDataModule)
    if not known or "half" not in arguments:
        raise InputError(
            f"{TWIN} needs data that deals halves, ImageDataModule or TextDataModule:"
            f" {config.data.class_path.rsplit('.', 1)[-1]} does not"
        )
    if arguments.get("half") is not None:
        raise InputError(f"data.half is {arguments.half}: leave it out, {TWIN} trains on both")


def _imported(class_path: str) -> Any:
    """A class that the parser has found."""
    module, _, name = class_path.rpartition(".")
    return getattr(importlib.import_module(module), name)
