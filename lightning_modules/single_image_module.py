"""Base of modules whose parameter is an image: length, samples, checkpoints, logging."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, cast

import torch
from pytorch_lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from novum.core.errors import InputError
from novum.core.lightning_compat import (
    attached_trainer,
    datamodule,
    fast_dev_run,
    hide_model_summary,
    log_figures,
    logs_at,
    overfits,
    validation_interval,
)
from novum.core.pixels import unit_to_uint8
from novum.core.trainer_arguments import shortens_epochs
from novum.lightning_modules.module import Module
from novum.lightning_modules.networks.backbones import Backbone
from novum.lightning_modules.training_utils import LossWindow, require_finite

PRECISIONS = ("32-true", "bf16-mixed")
NO_EPOCHS = (None, -1, 1000)  # max_epochs where it is not given, the last by Lightning


class SingleImageModule(Module):
    """An image (or a few) improved step by step against a frozen network.

    A subclass says how many steps it takes (`total_steps`) and what its images are (`images`); each
    `training_step` ends in one optimizer step. `images_seen`, the x axis of what is logged, counts
    steps. The network is not part of the module's state: a checkpoint holds the image alone.
    """

    def __init__(self, backbone: Backbone, seed: int) -> None:
        super().__init__()
        self._frozen = [backbone]  # in a list: not a submodule, so in no checkpoint
        self.seed = seed
        self.losses = LossWindow()

    @property
    def backbone(self) -> Backbone:
        """The network, on this module's device."""
        (backbone,) = self._frozen
        return backbone if backbone.mean.device == self.device else backbone.to(self.device)

    @property
    def total_steps(self) -> int:
        raise NotImplementedError

    def images(self) -> Tensor:
        """The images as they are now, floats (n, 3, h, w) in [0, 1]."""
        raise NotImplementedError

    @property
    def titles(self) -> list[str]:
        """A name for each image, for file names."""
        trainer = attached_trainer(self)
        data = None if trainer is None else datamodule(trainer)
        source = str(data.train_reference().ids[0]) if data is not None else "image"
        return [PurePath(source).stem]

    def stage(self) -> str:
        """Return how far the work is, for the progress bar; '' where the steps say it."""
        return ""

    def check_trainer(self, trainer: Trainer, stage: str) -> None:
        precision = str(trainer.precision_plugin.precision)
        if precision not in PRECISIONS:
            raise InputError(
                f"trainer.precision is {precision}: the image itself is what is optimised, and its"
                f" pixels and their gradients need {' or '.join(PRECISIONS)}"
            )
        if trainer.num_devices > 1 or trainer.num_nodes > 1:
            raise InputError(
                "one image is not shared out: set trainer.devices and trainer.num_nodes to 1, and"
                " run one job per image"
            )
        if stage == "fit" and (given := _about_epochs(trainer)):
            raise InputError(
                f"one image has no epochs and no batches: leave out trainer.{given[0]}; the"
                " module's own steps end the run, or trainer.max_steps"
            )
        super().check_trainer(trainer, stage)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            hide_model_summary(self.trainer)  # of three parameters and no network
            self._set_length(self.trainer)
        super().setup(stage)

    def _set_length(self, trainer: Trainer) -> None:
        """The steps of the run where the config leaves them to the module, and its evaluations.

        The run is its only epoch: a share of it, and all of it, are shares of the run.
        """
        if trainer.max_steps < 0:
            trainer.fit_loop.epoch_loop.max_steps = self.total_steps
        if trainer.min_steps is not None:
            trainer.fit_loop.min_epochs = 0  # Lightning's is 1 then, and would never be over
        steps = max(1, min(self.total_steps, trainer.max_steps))
        interval = validation_interval(trainer)
        in_epochs = trainer.check_val_every_n_epoch == 1 and not fast_dev_run(trainer)
        if isinstance(interval, float) and in_epochs:
            interval, trainer.check_val_every_n_epoch = max(1, int(interval * steps)), None
        if interval is not None:
            trainer.val_check_interval = min(interval, steps)  # looked at at the end in any case

    @property
    def images_seen(self) -> int:
        return self.global_step

    @torch.inference_mode()
    def sample(self, n: int, *, seed: int | None = None, labels: Tensor | None = None) -> Tensor:
        """The n first images as uint8 (n, 3, h, w); those that there are, over and over."""
        images = unit_to_uint8(self.images())
        return images[torch.arange(n, device=images.device) % len(images)]

    def log_losses(self, **losses: Tensor) -> None:
        """Means of each loss every `log_every_n_steps` steps, without waiting for the device."""
        step = self.global_step
        self.losses.add(step, **losses)
        if logs_at(self.trainer, step):
            means = {f"loss/{name}": value for name, value in self.losses.pop().items()}
            log_figures(self, means)
            for logger in self.loggers:
                logger.log_metrics(means, step=step)

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Nothing: a validation is when callbacks look at the image."""

    test_step = validation_step

    def predict_dataloader(self) -> DataLoader:
        """(first, number) of the images that `predict` writes: all of them."""
        chunks = [(0, len(self.images()))]
        return DataLoader(cast("Dataset[tuple[int, int]]", chunks), batch_size=None)

    def predict_step(self, batch: tuple[int, int], batch_idx: int) -> Tensor:
        return self.sample(batch[1])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_finite(self)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Takes the checkpoint's image at the size that it has reached."""
        for name, parameter in self.named_parameters():
            if name in state_dict:
                parameter.data = torch.empty_like(state_dict[name], device=parameter.device)
        return super().load_state_dict(state_dict, strict, assign)


def _about_epochs(trainer: Trainer) -> list[str]:
    """Arguments given that count epochs, or batches of one."""
    if fast_dev_run(trainer):
        return []
    given = {
        "max_epochs": trainer.max_epochs not in NO_EPOCHS,
        "min_epochs": (trainer.min_epochs or 0) > 0 and trainer.min_steps is None,
        "overfit_batches": overfits(trainer),
        "limit_train_batches": shortens_epochs(trainer),
        "check_val_every_n_epoch": (trainer.check_val_every_n_epoch or 1) > 1,
    }
    return [name for name, found in given.items() if found]
