"""Checkpoints: the last one, to go on from, and the best by a quality metric, to use."""

import os
import sys
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from tqdm.auto import tqdm

from novum.callbacks.nearest_neighbours import last_judgement
from novum.callbacks.preemption import Preempted
from novum.core.checkpoints import KEPT_PATHS, read_checkpoint
from novum.core.distributed import is_rank_zero
from novum.core.errors import InputError
from novum.core.files import remove_partial_files, whole_file
from novum.core.lightning_compat import SPAWN_RESULT, evaluation_due, fast_dev_run
from novum.core.protocols import Recovering

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class AtomicCheckpoints(TorchCheckpointIO):
    """Atomic checkpoints: whole or absent, and checked for damage when they are read.

    Removes only what is where it has written itself: a checkpoint may name any file as an old one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._written: set[str] = set()  # folders

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """`storage_options` is the path that the checkpoint in that place before keeps, or None."""
        self._written.add(_folder_of(path))
        if "://" in str(path):  # object stores take an object whole or not at all
            return super().save_checkpoint(checkpoint, path)
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with whole_file(Path(path), storage_options) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            cause = error.__context__ if isinstance(error, RuntimeError) else error
            if not isinstance(cause, OSError):  # torch hides what went wrong behind its own error
                raise
            raise OSError(cause.errno, cause.strerror, str(path)) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if "://" not in str(path) and Path(path).name != SPAWN_RESULT:
            read_checkpoint(path)
        return super().load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: str | Path) -> None:
        if _folder_of(path) in self._written:
            super().remove_checkpoint(path)


def _folder_of(path: str | Path) -> str:
    remote = "://" in str(path)
    return str(path).rpartition("/")[0] if remote else os.path.dirname(os.path.realpath(path))


def use_atomic_checkpoints(trainer: Trainer) -> None:
    """Install `AtomicCheckpoints`, unless the trainer has a plugin of its own."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpoints()


class AtomicCheckpoint(ModelCheckpoint):
    """ModelCheckpoint that writes through `AtomicCheckpoints`, unless the trainer has a plugin."""

    _came_from = ""  # folder of the checkpoint that a run goes on from

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        folder = getattr(trainer, "run_folder", None)  # which loggers do not change
        if folder is not None and self.dirpath is None:
            self.dirpath = str(folder / "checkpoints")
        super().setup(trainer, pl_module, stage)
        use_atomic_checkpoints(trainer)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._came_from = _folder_of(trainer.ckpt_path) if trainer.ckpt_path else ""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Scores of this run's own checkpoints, wherever its folder lay before.

        Nothing of another run: neither its best score, nor the path of its best checkpoint.
        """
        if self.dirpath is None or self._came_from != _folder_of(f"{self.dirpath}/x"):
            return
        best = self._here(state_dict["best_model_path"])
        if best and (os.path.exists(best) or "://" in best):
            kept = {self._here(k): v for k, v in state_dict.get("best_k_models", {}).items()}
            paths = {k: self._here(state_dict[k]) for k in KEPT_PATHS if k in state_dict}
            moved = {"dirpath": self.dirpath, "best_k_models": kept}
            super().load_state_dict(state_dict | paths | moved)

    def _here(self, path: str) -> str:
        """The file of that name in this run's folder."""
        return f"{self.dirpath}/{path.rpartition('/')[2]}" if path else ""


class BestCheckpoint(AtomicCheckpoint):
    """checkpoints/best.ckpt by a metric of the evaluation (a GAN's loss says nothing of quality).

    A generator that copies its training images comes nearest to them. So an evaluation in which
    NearestNeighbours finds copying is passed over, with a line that says so.

    Args:
        monitor: Tag of the metric.
        mode: Whether less or more of it is better.
    """

    def __init__(
        self,
        monitor: str = "quality/frechet_distance/efficientnet_lite0",
        mode: Literal["min", "max"] = "min",
    ) -> None:
        super().__init__(monitor=monitor, mode=mode, filename="best", enable_version_counter=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and self.monitor not in trainer.callback_metrics:
            logged = ", ".join(sorted(trainer.callback_metrics)) or "none"
            raise InputError(
                f"BestCheckpoint monitors {self.monitor}, which no callback logs; logged: {logged}"
            )
        judged = None if trainer.sanity_checking else last_judgement(trainer)
        if judged is not None and judged.verdict.copying:
            rank_zero_info(f"not taken for best.ckpt: {judged.verdict.text.split('. ')[0]}")
            return
        super().on_validation_end(trainer, pl_module)


class LastCheckpoint(AtomicCheckpoint):
    """checkpoints/last.ckpt before and after every evaluation, at the end, and at a stop.

    The one before is kept as previous.ckpt. From one written before an evaluation, or in it, a run
    goes on with that evaluation.

    Args:
        every_n_steps: Steps between further checkpoints, which is what a crash can cost at most;
            null for those at evaluations alone.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise InputError(f"every_n_steps is {every_n_steps}: it must be at least 1")
        super().__init__(filename="last", enable_version_counter=False)
        self.every_n_steps = every_n_steps
        self._training = False
        self._writing = False
        self._saved_step = -1
        self._last_is_good = False  # a damaged last.ckpt never takes the place of a good one
        self._evaluate_first = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and trainer.is_global_zero and "://" not in str(self.dirpath):
            for folder in (self.folder, self.folder.parent):  # and reports
                remove_partial_files(folder)

    @property
    def folder(self) -> Path:
        """Folder of the checkpoints, once the run is set up."""
        assert self.dirpath is not None
        return Path(self.dirpath)

    def holds(self, trainer: Trainer) -> bool:
        """Return True if nothing is lost when the run ends now."""
        return self._saved_step == trainer.global_step and not self._writing

    # -- when ----------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training, self._saved_step = True, -1
        came_from = Path(trainer.ckpt_path or "").absolute()
        self._last_is_good = came_from == (self.folder / LAST).absolute()

    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        step = trainer.global_step
        regular = self.every_n_steps is not None and step % self.every_n_steps == 0
        due = step != self._saved_step and (regular or step == trainer.max_steps)
        if due and not evaluation_due(trainer):
            self._save(trainer)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)  # an evaluation is long, and uses what training does not

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, evaluated=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._saved_step != trainer.global_step:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = False

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Saves a state that is whole: between two steps, and if all ranks stop there."""
        if not self._training:
            return
        alone = trainer.world_size == 1 and between_steps(trainer)
        stopped = isinstance(exception, Preempted)
        if (alone or stopped) and not self.holds(trainer):
            self._save(trainer)
        self._training = False
        if stopped and is_rank_zero():
            tqdm.write(  # on a line of its own, not behind a bar
                f"{exception.signal}: stopped after step {trainer.global_step}, which"
                f" {self.best_model_path} holds; --ckpt_path last goes on from it"
            )
            sys.stdout.flush()  # somebody who waits for it may read a pipe

    # -- how -----------------------------------------------------------------------------------

    def _save(self, trainer: Trainer, evaluated: bool = False) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fast_dev_run(trainer) or not fitting:
            return
        module = trainer.lightning_module
        if not evaluated and isinstance(module, Recovering) and module.recover():
            return
        self._evaluate_first = not evaluated and (trainer.validating or evaluation_due(trainer))
        self._writing = True
        try:
            self._write(trainer)
        finally:
            self._writing = self._evaluate_first = False
        self._saved_step, self._last_is_good = trainer.global_step, True

    def _write(self, trainer: Trainer) -> None:
        self.best_model_path = str(self.folder / LAST)
        keeps = isinstance(trainer.strategy.checkpoint_io, AtomicCheckpoints) and self._last_is_good
        trainer.save_checkpoint(
            self.best_model_path,
            weights_only=False,
            storage_options=self.folder / PREVIOUS if keeps else None,
        )

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Says in Lightning's counts whether a run goes on with an evaluation or with a step."""
        loops = checkpoint["loops"]["fit_loop"]
        steps, evaluation = (
            loops[f"epoch_loop.{name}batch_progress"] for name in ("", "val_loop.")
        )
        done = evaluation["total"]["completed"]
        evaluation["total"] |= {"ready": done, "started": done, "processed": done}
        if self._evaluate_first:
            evaluation["total"] |= {"ready": done + 1, "started": done + 1}
            evaluation["current"] = dict.fromkeys(evaluation["current"], 0)
            for counts in (steps["total"], steps["current"]):
                counts["completed"] = counts["processed"]


def between_steps(trainer: Trainer) -> bool:
    """Return True if all networks have taken the same number of steps."""
    counts = trainer.fit_loop.epoch_loop.batch_progress.current
    return counts.ready == counts.completed
