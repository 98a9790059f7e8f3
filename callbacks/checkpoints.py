"""Checkpoints: the last one, to go on from, and the best by a quality metric, to use."""

from typing import Literal

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """checkpoints/best.ckpt by a metric of the evaluation (a GAN's loss says nothing of quality).

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
            raise ValueError(
                f"BestCheckpoint monitors {self.monitor}, which no callback logs; logged: {logged}"
            )
        super().on_validation_end(trainer, pl_module)


class LastCheckpoint(ModelCheckpoint):
    """checkpoints/last.ckpt after every evaluation, and when the run is interrupted."""

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False, save_on_exception=True)
