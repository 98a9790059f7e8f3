"""Lightning's internals, and what its types do not declare, in one place.

Everything here has a test of its own in tests/core/test_lightning_compat.py: when a new Lightning
changes one of them, that test says which.
"""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from novum.core.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
    from pytorch_lightning import Callback, LightningModule, Trainer
    from pytorch_lightning.cli import LightningCLI
    from pytorch_lightning.core.optimizer import LightningOptimizer
    from pytorch_lightning.loggers import Logger
    from torch.amp.grad_scaler import GradScaler
    from torch.optim import Optimizer

# keys that the CLI adds to a module's saved arguments
CLI_KEYS = ("_class_path", "_instantiator", "_instantiator_path")
# file in which ddp_spawn hands a model's weights back, which is no checkpoint
SPAWN_RESULT = ".temp.ckpt"
# methods of LightningCLI that novum.cli.lightning_cli overrides
CLI_HOOKS = ("_add_instantiators", "_dump_config", "_parse_ckpt_path")


def built_by_cli() -> bool:
    """Return True while LightningCLI builds a module, whose whole config is then saved with it."""
    from pytorch_lightning.core.mixins.hparams_mixin import _given_hyperparameters

    return _given_hyperparameters.get() is not None


def model_instantiator(cli: "LightningCLI") -> Any:
    """Lightning's own function that builds the model and saves its arguments."""
    from pytorch_lightning.cli import _InstantiatorFn

    return _InstantiatorFn(cli=cli, key="model")


def attached_trainer(module: "LightningModule") -> "Trainer | None":
    """Trainer of a module, or None; the public attribute raises if there is none."""
    return module._trainer  # pyright: ignore[reportReturnType]


def evaluation_due(trainer: "Trainer") -> bool:
    """Return True if an evaluation follows the step that has just been taken."""
    fit = trainer.fit_loop
    assert fit._data_fetcher is not None
    return fit.epoch_loop._should_check_val_fx(fit._data_fetcher)


def batches_done(trainer: "Trainer") -> int:
    """Batches that training has processed, those before a resume included."""
    return cast(Any, trainer.fit_loop.epoch_loop.batch_progress.total).processed


def overfits(trainer: "Trainer") -> bool:
    """Return True if training repeats a few batches (overfit_batches)."""
    return bool(cast(Any, trainer).overfit_batches)


def overfitted(trainer: "Trainer", epoch: int) -> int:
    """Number of those batches, of an epoch of so many; at least 1."""
    asked = cast(Any, trainer).overfit_batches
    return max(1, min(epoch, asked) if isinstance(asked, int) else int(asked * epoch))


def disable_sigterm_broadcast(trainer: "Trainer") -> None:
    """Stop Lightning from agreeing on SIGTERM at every step.

    Its handler starts a collective wherever it interrupts, which hangs, and to hear of it all ranks
    wait for the device at every step. Preemption agrees about once a second instead.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None


def without_validation(batch: Any, batch_idx: int) -> None:
    """The validation_step of a module that has none."""


def ensure_validation(trainer: "Trainer", module: "LightningModule") -> None:
    """Let a run without a validation step or loader have an empty validation, where hooks fire."""
    from pytorch_lightning.trainer.connectors.data_connector import _DataLoaderSource

    if not trainer.enable_validation and trainer.limit_val_batches:
        module.validation_step = without_validation
        loop = trainer.fit_loop.epoch_loop.val_loop
        if not loop._data_source.is_defined():
            loop._data_source = _DataLoaderSource([0], "")


def never_validates(trainer: "Trainer") -> bool:
    """Return True if training goes on without end, and validation waits for an epoch's end."""
    endless = cast(Any, trainer.fit_loop).max_batches == float("inf")
    at_ends = trainer.val_check_batch == float("inf") or trainer.check_val_every_n_epoch != 1
    return endless and trainer.check_val_every_n_epoch is not None and at_ends


def validation_interval(trainer: "Trainer") -> int | float | None:
    """Batches, or share of an epoch, between validations; None if it is a time."""
    return getattr(trainer, "val_check_interval", None)


def evaluate_at_last_step(trainer: "Trainer") -> None:
    """Let a validation follow the last step of a run that is shorter than its first interval."""
    fit = trainer.fit_loop
    last_epoch = trainer.current_epoch + 1 == trainer.max_epochs
    ends = trainer.global_step == trainer.max_steps
    ends |= last_epoch and fit.epoch_loop.batch_progress.is_last_batch
    if not ends or fit.epoch_loop.val_loop.batch_progress.total.ready:
        return
    if getattr(trainer, "_val_check_time_interval", None) is not None:
        cast(Any, trainer)._last_val_time = float("-inf")
    elif trainer.check_val_every_n_epoch is None:
        trainer.val_check_batch = 1


def counts_epochs(trainer: "Trainer | None") -> bool:
    """Return True if a trainer's arguments are about epochs, so that data must say how long one is.

    Otherwise, as the command line has it, max_steps alone ends a run.
    """
    if trainer is None:
        return False
    shares = (trainer.limit_train_batches, validation_interval(trainer))
    return (
        trainer.max_epochs not in (None, -1)
        or bool(trainer.min_epochs)
        or trainer.check_val_every_n_epoch is not None
        or overfits(trainer)
        or any(isinstance(x, float) and x != 1.0 for x in shares)
    )


def drop_events_after(logger: "Logger", step: int) -> None:
    """Let TensorBoard forget what was logged after a step, before a run goes on from there."""
    from pytorch_lightning.loggers import TensorBoardLogger

    if isinstance(logger, TensorBoardLogger):
        logger._kwargs["purge_step"] = step + 1


def layer_sync(trainer: "Trainer") -> Any:
    """Plugin that makes batch norms common to all ranks, which sync_batchnorm sets; or None."""
    return trainer._accelerator_connector._layer_sync


def on_cpu(trainer: "Trainer") -> bool:
    """Return True if a trainer computes on the CPU."""
    from pytorch_lightning.accelerators import CPUAccelerator

    return isinstance(trainer.accelerator, CPUAccelerator)


def started_by_hand(trainer: "Trainer") -> bool:
    """Return True if no launcher, such as torchrun or srun, started this process."""
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    return isinstance(cluster_environment(trainer), LightningEnvironment)


def cluster_environment(trainer: "Trainer") -> "ClusterEnvironment":
    """Environment that started the processes of this job."""
    return trainer._accelerator_connector.cluster_environment


# ---- public, but not declared in Lightning's types ----------------------------------------------


def datamodule(trainer: "Trainer") -> Any:
    """The DataModule of a trainer, or None."""
    return getattr(trainer, "datamodule", None)


def log_interval(trainer: "Trainer") -> int:
    """Steps between two logs: the argument log_every_n_steps, of which 0 is never."""
    return cast(Any, trainer).log_every_n_steps or sys.maxsize


def logs_at(trainer: "Trainer", steps: int) -> bool:
    """Return True if losses are logged after so many steps: at each interval, and at the end."""
    interval = log_interval(trainer)
    return steps % interval == 0 or (steps == trainer.max_steps and interval < sys.maxsize)


def hide_model_summary(trainer: "Trainer") -> None:
    """Keep Lightning's table of layers from being printed."""
    from pytorch_lightning.callbacks import ModelSummary

    for callback in callbacks_of(trainer):
        if isinstance(callback, ModelSummary):
            callback._max_depth = 0


def fast_dev_run(trainer: "Trainer") -> bool:
    """Return True in a trial run of one step."""
    return bool(cast(Any, trainer).fast_dev_run)


def grad_scaler(trainer: "Trainer") -> "GradScaler | None":
    """Scaler of losses and gradients in 16-mixed; None in any other precision."""
    return getattr(trainer.precision_plugin, "scaler", None)


def mixed_precision(trainer: "Trainer") -> bool:
    """Return True if weights are float32 and forward passes are under autocast."""
    return "mixed" in str(trainer.precision_plugin.precision)


def require_whole_model(trainer: "Trainer") -> None:
    """Refuse strategies that split a model's weights over devices.

    Raises:
        InputError: With the strategies to use instead.
    """
    from pytorch_lightning.strategies import (
        DeepSpeedStrategy,
        FSDPStrategy,
        ModelParallelStrategy,
    )

    strategy = trainer.strategy
    if isinstance(strategy, DeepSpeedStrategy | FSDPStrategy | ModelParallelStrategy):
        raise InputError(
            f"trainer.strategy is {type(strategy).__name__}, which splits a model's weights over"
            " devices: every network here fits into one, so use trainer.strategy=ddp"
        )


def log_figures(module: "LightningModule", figures: Mapping[str, float]) -> None:
    """Figures for the progress bar and for callbacks, the same on every rank.

    Lightning reads what a bar shows at every step, so they are tensors of the host's memory.
    """
    from torch import tensor

    on_host = {name: tensor(value) for name, value in figures.items()}
    module.log_dict(on_host, prog_bar=True, logger=False)


def callbacks_of(trainer: "Trainer") -> "list[Callback]":
    """Callbacks of a trainer, in their order."""
    return getattr(trainer, "callbacks", [])


def wrapped_optimizer(module: "LightningModule", index: int = 0) -> "LightningOptimizer":
    """One of a module's optimizers, in Lightning's wrapper, whose steps global_step counts."""
    every = module.optimizers()
    return cast("LightningOptimizer", every[index] if isinstance(every, list) else every)


def raw_optimizer(module: "LightningModule", index: int = 0) -> "Optimizer":
    """The same without the wrapper, so that its steps are not counted."""
    every = module.optimizers(use_pl_optimizer=False)
    return cast("Optimizer", every[index] if isinstance(every, list) else every)
