"""The LightningModule that all techniques are."""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self, cast

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from novum.core.checkpoints import build_module, read_checkpoint
from novum.core.errors import InputError
from novum.core.lightning_compat import (
    attached_trainer,
    evaluate_at_last_step,
    require_whole_model,
)
from novum.core.trainer_arguments import (
    gradient_arguments,
    require_effect,
    require_enough_steps,
)

OWN = {  # Lightning's argument -> that of a module which steps its optimizers itself
    "gradient_clip_val": "clip_gradient_norm",
    "gradient_clip_algorithm": "clip_gradient_norm",
    "accumulate_grad_batches": "accumulate",
}


class Module(LightningModule):
    """A LightningModule whose checkpoints are data, in programs and from code alike."""

    def check_trainer(self, trainer: Trainer, stage: str) -> None:
        """Refuse arguments of a trainer that do nothing, or the wrong thing, with this module.

        The command line does so before other processes are started.
        """
        require_whole_model(trainer)
        if stage == "fit" and not self.automatic_optimization:
            for name in gradient_arguments(trainer):
                taken = OWN[name] in inspect.signature(type(self)).parameters
                mend = f"give --model.init_args.{OWN[name]} instead" if taken else "leave it out"
                raise InputError(
                    f"trainer.{name} is not for {type(self).__name__}, which steps its optimizers"
                    f" itself: {mend}"
                )
        require_effect(trainer, stage)

    def setup(self, stage: str) -> None:
        self.check_trainer(self.trainer, stage)

    def check_batch(self, batch: Any) -> None:
        """Check a batch before it goes to the device, where looking at it waits for the device."""

    def _apply_batch_transfer_handler(
        self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0
    ) -> Any:
        """Overrides Lightning's, which warns of on_before_batch_transfer beside any DataModule."""
        trainer = attached_trainer(self)
        if trainer is not None and not trainer.predicting:  # which has numbers of samples
            self.check_batch(batch)
        return super()._apply_batch_transfer_handler(batch, device, dataloader_idx)

    def on_train_start(self) -> None:
        require_enough_steps(self.trainer)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        evaluate_at_last_step(self.trainer)

    def averages(self) -> Iterable[Tensor]:
        """Running averages, which stay in float32 at least: half precision loses small moves."""
        return ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = [x.data for x in self.averages()]
        super()._apply(fn, recurse)
        for average, value in zip(self.averages(), kept, strict=True):
            if average.dtype.itemsize < value.dtype.itemsize:
                average.data = value.to(average.device)
        return self

    @classmethod
    def load_from_checkpoint(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        checkpoint_path: str | Path,
        map_location: Any = "cpu",
        hparams_file: None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **given: Any,
    ) -> Self:
        """The module in a checkpoint; `given` arguments replace those saved in it.

        Lightning's own would build whatever classes the file names. `hparams_file`, `strict` and
        `weights_only` are Lightning's; nothing is ever unpickled.

        Raises:
            InputError: If the file is damaged, or its arguments name what is not on the list of
                `novum.core.security.allowed`; `novum.trusting` lifts that for your own.
        """
        if hparams_file is not None or strict is False or weights_only is False:
            raise InputError(
                "hparams_file, strict=False and weights_only=False are not taken: give arguments by"
                " name, or load the state_dict of novum.core.checkpoints.read_checkpoint"
            )
        module = build_module(cls, read_checkpoint(checkpoint_path), checkpoint_path, **given)
        return cast(Self, module.to(map_location or "cpu"))
