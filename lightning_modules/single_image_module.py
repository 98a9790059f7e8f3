"""Base of modules whose parameter is an image: length, samples, checkpoints, logging."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from novum.core.errors import InputError
from novum.core.lightning_compat import (
    attached_trainer,
    datamodule,
    log_figures,
    log_interval,
)
from novum.core.pixels import unit_to_uint8
from novum.lightning_modules.module import Module
from novum.lightning_modules.networks.backbones import Backbone
from novum.lightning_modules.training_utils import LossWindow, require_finite

PRECISIONS = ("32-true", "bf16-mixed")


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

    def setup(self, stage: str) -> None:
        super().setup(stage)
        precision = str(self.trainer.precision_plugin.precision)
        if precision not in PRECISIONS:
            raise InputError(
                f"trainer.precision is {precision}: the image itself is what is optimised, and its"
                f" pixels and their gradients need {' or '.join(PRECISIONS)}"
            )
        if self.trainer.world_size > 1:
            raise InputError(
                "one image is not shared out: set trainer.devices to 1, and run one job per image"
            )
        if stage == "fit" and self.trainer.max_steps < 0:  # the config leaves it to the module
            self.trainer.fit_loop.epoch_loop.max_steps = self.total_steps
        if stage == "fit" and self.trainer.val_check_interval > self.total_steps:
            self.trainer.val_check_interval = self.total_steps  # looked at once, at the end

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
        if step % log_interval(self.trainer) == 0 or step == self.trainer.max_steps:
            means = {f"loss/{name}": value for name, value in self.losses.pop().items()}
            log_figures(self, means)
            for logger in self.loggers:
                logger.log_metrics(means, step=step)

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Nothing: a validation is when callbacks look at the image."""

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
