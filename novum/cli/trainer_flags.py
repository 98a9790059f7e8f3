"""Flags of Lightning's Trainer: each works, or is refused in one line that says what to write."""

import importlib
from typing import Any

from jsonargparse import Namespace

from novum.callbacks.progress import ProgressBar
from novum.core.distributed import is_rank_zero
from novum.core.errors import InputError

ONE_IMAGE = ("novum.datamodules.SingleImageDataModule", "novum.datamodules.StyleImageDataModule")
STEPPED_BY_HAND = {  # Lightning's flag -> an argument of techniques that step their networks
    "gradient_clip_val": "clip_gradient_norm",
    "accumulate_grad_batches": "accumulate",
}


def apply_flags(config: Namespace, subcommand: str) -> None:
    """Let flags of the trainer do what they say with what the config has.

    Raises:
        InputError: For those that would do nothing.
    """
    trainer = config.trainer
    if trainer.get("enable_progress_bar") is False:
        _drop(trainer, ProgressBar)
    if trainer.get("enable_checkpointing") is False:
        from pytorch_lightning.callbacks import Checkpoint

        _drop(trainer, Checkpoint)
    _refuse_without_effect(config)
    if subcommand == "fit":
        _refuse_of_other_loops(config)
        _evaluate_at_the_end(trainer)


def _drop(trainer: Namespace, kind: type) -> None:
    """Leave out the config's callbacks of a class."""
    kept = trainer.get("callbacks")
    if isinstance(kept, list):
        trainer.callbacks = [callback for callback in kept if not _is_a(callback, kind)]


def _is_a(callback: Any, kind: type) -> bool:
    """True for the config of a callback of this class, imported when it was parsed."""
    module, _, name = callback.class_path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    return isinstance(cls, type) and issubclass(cls, kind)


def _refuse_without_effect(config: Namespace) -> None:
    trainer = config.trainer
    ours = str(config.get("data.class_path", "")).startswith("novum.")
    if ours and trainer.get("use_distributed_sampler"):
        raise InputError(
            "trainer.use_distributed_sampler has no effect, since novum's data shards itself:"
            " leave it out"
        )
    if ours and trainer.get("reload_dataloaders_every_n_epochs"):
        raise InputError(
            "trainer.reload_dataloaders_every_n_epochs has no effect: novum's data is endless;"
            " leave it out"
        )
    counted = trainer.get("max_epochs") not in (None, -1) or trainer.get("overfit_batches")
    if str(config.get("data.class_path", "")).endswith(ONE_IMAGE) and counted:
        raise InputError(
            "one image has no epochs and no batches: leave out trainer.max_epochs and"
            " trainer.overfit_batches; the module's own steps end the run, or trainer.max_steps"
        )
    if trainer.get("model_registry"):
        raise InputError(
            "trainer.model_registry is of Lightning's own cloud, which novum does not write to;"
            " leave it out"
        )


def _refuse_of_other_loops(config: Namespace) -> None:
    trainer, model = config.trainer, config.get("model")
    arguments = dict(model.get("init_args") or {}) if model is not None else {}
    for flag, own in STEPPED_BY_HAND.items():
        idle = 1 if flag == "accumulate_grad_batches" else None
        if trainer.get(flag) not in (None, idle) and own in arguments:
            raise InputError(
                f"trainer.{flag} is not for this technique, which steps its networks itself: give"
                f" --model.init_args.{own} instead"
            )
    batches, epochs = trainer.get("limit_train_batches"), trainer.get("max_epochs")
    if isinstance(batches, int) and epochs in (None, -1):
        raise InputError(
            f"trainer.limit_train_batches is {batches}, which makes epochs shorter, but this run"
            " counts steps: give --trainer.max_epochs too, or --trainer.max_steps instead"
        )


def _evaluate_at_the_end(trainer: Namespace) -> None:
    """A run that is shorter than its first interval is evaluated at its end."""
    interval, steps = trainer.get("val_check_interval"), trainer.get("max_steps") or -1
    batches = steps * (trainer.get("accumulate_grad_batches") or 1)
    by_steps = isinstance(interval, int) and trainer.get("check_val_every_n_epoch") is None
    if by_steps and 0 < batches < interval:
        trainer.val_check_interval = batches
        if is_rank_zero():
            print(
                f"val_check_interval is {interval}, max_steps {steps}: evaluated once, at the end"
            )
