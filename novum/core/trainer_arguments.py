"""Arguments of a Trainer that would do nothing, or fail far inside of Lightning, are refused.

From a command line, a config or code alike: a module checks the trainer that it is given.
"""

import os
from typing import TYPE_CHECKING

from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError
from novum.core.lightning_compat import (
    fast_dev_run,
    layer_sync,
    on_cpu,
    overfits,
    started_by_hand,
)

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

LEAST = {
    "min_epochs": 0,
    "min_steps": 0,
    "val_check_interval": 1,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": -1,
    "log_every_n_steps": 0,
    "accumulate_grad_batches": 1,
}
OF_GRADIENTS = {  # argument -> what it is where it does nothing
    "gradient_clip_val": (None,),
    "gradient_clip_algorithm": (None,),
    "accumulate_grad_batches": (1,),
}


def require_effect(trainer: "Trainer", stage: str) -> None:
    """Check the arguments of a trainer that do not depend on the module.

    Raises:
        InputError: For one that does nothing beside the others, with what to write instead.
    """
    for name, least in LEAST.items():
        value = getattr(trainer, name, None)  # there is no val_check_interval by time
        if isinstance(value, int) and value < least:
            raise InputError(f"trainer.{name} is {value}: give it {least} or more")
    _require_other_nodes(trainer)
    if stage == "fit" and not fast_dev_run(trainer):
        if layer_sync(trainer) is not None and on_cpu(trainer):
            raise InputError(
                "trainer.sync_batchnorm is for GPUs, and so is TorchSyncBatchNorm of"
                " trainer.plugins: torch has none for CPUs; leave it out"
            )
        _require_clipping(trainer)
        _require_order(trainer)
        _require_epochs(trainer)


def gradient_arguments(trainer: "Trainer") -> list[str]:
    """Names of the arguments about gradients that are given; Lightning takes no such for modules
    that step their optimizers themselves."""
    return [name for name, idle in OF_GRADIENTS.items() if getattr(trainer, name) not in idle]


def shortens_epochs(trainer: "Trainer") -> bool:
    """Return True if limit_train_batches is given."""
    limit = trainer.limit_train_batches  # the int 1 is one batch, 1.0 all
    return not overfits(trainer) and (isinstance(limit, int) or limit != 1.0)


def require_enough_steps(trainer: "Trainer") -> None:
    """Check that max_steps leaves room for min_epochs, once it is known how long an epoch is.

    Raises:
        InputError: If it ends the run before.
    """
    epochs, batches = trainer.min_epochs or 0, trainer.num_training_batches
    derived = epochs == 1 and trainer.min_steps is not None  # by Lightning
    steps = epochs * batches / trainer.accumulate_grad_batches
    if not (derived or fast_dev_run(trainer)) and 0 <= trainer.max_steps < steps:
        raise InputError(
            f"trainer.min_epochs is {epochs}, which takes {steps:.0f} steps, but max_steps ends the"
            f" run after {trainer.max_steps}: raise trainer.max_steps"
        )


def _require_other_nodes(trainer: "Trainer") -> None:
    known = "MASTER_ADDR" in os.environ and {"NODE_RANK", "GROUP_RANK"} & set(os.environ)
    if trainer.num_nodes > 1 and started_by_hand(trainer) and not known:
        raise InputError(
            f"trainer.num_nodes is {trainer.num_nodes}, but nothing says where the other nodes are:"
            " start one process a node by torchrun or srun (docs/scaling.md), or leave it out"
        )


def _require_clipping(trainer: "Trainer") -> None:
    limit = trainer.gradient_clip_val or 0
    if limit < 0:
        raise InputError(f"trainer.gradient_clip_val is {limit}: give it a number above 0, or null")
    if trainer.gradient_clip_algorithm is not None and not limit:
        rank_zero_warn(  # no error: a config's algorithm stays when its limit is taken away
            "nothing is clipped: trainer.gradient_clip_algorithm is given, and no gradient_clip_val"
        )


def _require_order(trainer: "Trainer") -> None:
    """A limit from below is not above that from above, which would win without a word."""
    for unit in ("steps", "epochs"):
        least, most = (getattr(trainer, f"{end}_{unit}") for end in ("min", "max"))
        if least and most and 0 < most < least:
            raise InputError(
                f"trainer.min_{unit} is {least}, but max_{unit} ends the run after {most}: raise"
                f" trainer.max_{unit}"
            )


def _require_epochs(trainer: "Trainer") -> None:
    """Shorter epochs change something where epochs are counted, or validated after."""
    if not shortens_epochs(trainer):
        return
    limit = trainer.limit_train_batches
    if limit == 0:
        raise InputError(
            "trainer.limit_train_batches is 0, so nothing would be trained: leave it out"
        )
    counted = trainer.max_epochs not in (None, -1) or trainer.min_epochs
    if not counted and trainer.check_val_every_n_epoch is None:
        raise InputError(
            f"trainer.limit_train_batches is {limit}, which makes epochs shorter, but this run"
            " counts steps: give --trainer.max_epochs too, or --trainer.max_steps instead"
        )
