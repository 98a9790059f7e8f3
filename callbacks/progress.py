"""A progress bar that knows how long an endless loader will run, and how fast."""

import math
import resource
import shutil
import sys
import time
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar

from novum.core.bars import shows_bars
from novum.core.protocols import Staged, seen, unit

FEW = 3  # losses that are shown one by one
WIDE = 100  # columns that Lightning's bar needs beside losses and speed
NARROW = "{percentage:.0f}% {n_fmt}/{total_fmt} <{remaining}{postfix}"  # has room for them in 60


class ProgressBar(TQDMProgressBar):
    """Steps to max_steps with ETA, the last logged losses, speed and peak memory.

    Where there is no terminal to draw a bar on, as in a batch job, a line for each tenth of them.

    Args:
        refresh_rate: Steps between updates; each update waits for the device. Where steps are slow
            there is one every two seconds.
    """

    def __init__(self, refresh_rate: int = 50) -> None:
        super().__init__(refresh_rate=refresh_rate)
        if shutil.get_terminal_size().columns < WIDE:
            self.BAR_FORMAT = NARROW
        self._mark: tuple[float, int] | None = None  # time and count of the last update
        self._rate = 0.0
        self._shown = 0.0  # time of the last update
        self._tenth = 0  # of the steps, the last that a line was printed for

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if not shows_bars():
            self.disable()

    def _should_update(self, current: int, total: Any) -> bool:
        now = time.perf_counter()
        slow = self.is_enabled and now - self._shown > 2
        if not slow and not super()._should_update(current, total):
            return False
        self._shown = now
        return True

    @property
    def total_train_batches(self) -> int | float:
        return self.trainer.max_steps if self.trainer.max_steps > 0 else super().total_train_batches

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        now, done = time.perf_counter(), seen(pl_module)
        if self._mark is not None and done > self._mark[1]:
            self._rate = (done - self._mark[1]) / (now - self._mark[0])
        if self._mark is None or done > self._mark[1]:
            self._mark = (now, done)
        if isinstance(pl_module, Staged):
            return self._of_stages(pl_module.stage(), items, pl_module.device)
        shown = {on_bar(name): value for name, value in items.items()}
        if not self._rate:
            return shown
        name = unit(pl_module)
        speed = {f"{name}/s": f"{self._rate:.0f}"}
        if name == "images":
            speed["s/kimg"] = f"{1000 / self._rate:.3g}"
        return {**shown, **speed, "GiB": f"{peak_memory(pl_module.device) / 2**30:.2f}"}

    def _of_stages(
        self, stage: str, items: dict[str, Any], device: torch.device
    ) -> dict[str, int | str | float | dict[str, float]]:
        """A module's own terms, and the sum of its losses where they would fill the line."""
        losses = {k.split("/")[1]: v for k, v in items.items() if k.startswith("loss/")}
        if len(losses) > FEW:
            losses = {"loss": f"{sum(map(float, losses.values())):.4g}"}
        speed = {"s/step": f"{1 / self._rate:.2g}"} if self._rate else {}
        memory = {"GiB": f"{peak_memory(device) / 2**30:.2f}"} if self._rate else {}
        return {**({"at": stage} if stage else {}), **losses, **speed, **memory}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, *args, **kwargs)
        steps = self.total_train_batches
        if shows_bars() or not trainer.is_global_zero or not math.isfinite(steps):
            return
        done = trainer.fit_loop.total_batch_idx + 1
        if trainer.max_steps <= 0 and trainer.max_epochs is not None:
            steps *= max(trainer.max_epochs, 1)
        tenth = int(10 * done / steps)
        if tenth > self._tenth:
            self._tenth = tenth
            metrics = self.get_metrics(trainer, pl_module).items()
            shown = ", ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in metrics
            )
            print(f"training: {10 * tenth}%, step {done:,}: {shown}", file=sys.stderr, flush=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._mark = None  # an evaluation is not training time

    def on_train_start(self, *args: Any) -> None:
        super().on_train_start(*args)
        self._mark = None


def on_bar(name: str) -> str:
    """The shortest name of a figure that says which one it is."""
    if name.startswith("val/"):
        return name  # val/loss is beside the loss of training
    return "loss" if name == "loss/train" else name.split("/")[-1]


def peak_memory(device: torch.device) -> int:
    """Bytes: allocated on a GPU, resident on the CPU; the most so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
