"""A progress bar that knows how long an endless loader will run, and how fast."""

import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar


class ProgressBar(TQDMProgressBar):
    """Steps to max_steps with ETA, images/s and the last logged losses.

    Args:
        refresh_rate: Steps between updates; each update waits for the device. Where steps are slow
            there is one every two seconds.
    """

    def __init__(self, refresh_rate: int = 50) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._mark: tuple[float, int] | None = None  # time and images_seen of the last update
        self._rate = 0.0
        self._shown = 0.0  # time of the last update

    def _should_update(self, current: int, total: int | float) -> bool:
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
        now, seen = time.perf_counter(), getattr(pl_module, "images_seen", 0)
        if self._mark is not None and seen > self._mark[1]:
            self._rate = (seen - self._mark[1]) / (now - self._mark[0])
        if self._mark is None or seen > self._mark[1]:
            self._mark = (now, seen)
        shown = {k.split("/")[-1]: v for k, v in items.items()}
        return {**shown, "images/s": f"{self._rate:.0f}"} if self._rate else shown

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._mark = None  # an evaluation is no training time

    def on_train_start(self, *args: Any) -> None:
        super().on_train_start(*args)
        self._mark = None
