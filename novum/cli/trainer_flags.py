"""Flags of Lightning's Trainer: each works, or is refused in one line that says what to write."""

import importlib
from typing import Any

from jsonargparse import Namespace

from novum.callbacks.progress import ProgressBar
from novum.core.distributed import is_rank_zero
from novum.core.errors import InputError


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
    _refuse_search(trainer)
    if subcommand == "fit":
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
    if trainer.get("precision") == "16-true":
        raise InputError(
            "trainer.precision 16-true: losses and Adam's terms leave the range of float16: give"
            " 16-mixed, bf16-mixed or bf16-true"
        )
    if trainer.get("model_registry"):
        raise InputError(
            "trainer.model_registry is of Lightning's own cloud, which novum does not write to;"
            " leave it out"
        )


def _refuse_search(trainer: Namespace) -> None:
    """A run is repeated and goes on by the batch size in its config."""
    from pytorch_lightning.callbacks import BatchSizeFinder

    listed = trainer.get("callbacks") or []
    listed = listed if isinstance(listed, list) else [listed]  # one may stand by itself
    if any(_is_a(callback, BatchSizeFinder) for callback in listed):
        raise InputError(
            "BatchSizeFinder would train with another batch size than config.yaml says, and search"
            " anew at each resume: leave it out, and try sizes with --trainer.fast_dev_run=3"
            " --data.init_args.batch_size N"
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
