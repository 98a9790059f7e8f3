"""Going back to the last checkpoint when training breaks."""

import os
from typing import Any

import torch

from novum.core.distributed import rank_zero_warn
from novum.core.errors import TrainingError
from novum.lightning_modules.adversarial_training import AlternatingTraining
from novum.lightning_modules.training_utils import mean_of_ranks, require_finite

LIMIT = 3  # times


class RollBack(AlternatingTraining):
    """A module that, when a loss is not finite, takes its weights from the last checkpoint.

    Optimizers and `images_seen` go back with them; the data goes on, and since random numbers are
    a function of the step, what broke is not repeated. After three times training stops.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rollbacks = 0

    def _log_losses(self) -> None:
        if not self.recover():
            super()._log_losses()

    def on_validation_start(self) -> None:
        self.recover()  # a checkpoint follows, and must be a good one
        super().on_validation_start()

    def recover(self) -> bool:
        """Goes back if a loss or a weight is not finite; says whether it did."""
        message = self._broken()
        # all ranks go back if one must
        broken = torch.tensor(float(bool(message)), device=self.device)
        if not mean_of_ranks(broken):
            return False
        message = message or "a loss is not finite on another rank"
        path = self._last_checkpoint()
        if self.rollbacks == LIMIT or path is None:
            why = f"after {LIMIT} roll-backs" if path is not None else "before any checkpoint"
            raise TrainingError(f"stopped {why}: {message}")
        self._restore(torch.load(path, map_location=self.device, weights_only=True))
        self.rollbacks += 1
        rank_zero_warn(f"{message}; went back to {path} ({self.rollbacks} of {LIMIT} times)")
        return True

    def _broken(self) -> str:
        try:
            require_finite(self)
        except FloatingPointError as error:
            return str(error)
        return ""

    def _last_checkpoint(self) -> str | None:
        kept = (getattr(c, "best_model_path", "") for c in self.trainer.checkpoint_callbacks)
        paths = {path for path in kept if path and os.path.isfile(path)}
        path = max(paths, key=os.path.getmtime, default=self.trainer.ckpt_path)
        path = None if path is None else str(path)
        return self.trainer.strategy.broadcast(path)  # ranks must not choose two

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        self.load_state_dict(checkpoint["state_dict"])
        states = checkpoint["optimizer_states"]
        for optimizer, state in zip(self.trainer.optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        self.images_seen = checkpoint["images_seen"]
        self.losses.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["rollbacks"] = self.rollbacks

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.rollbacks = checkpoint.get("rollbacks", 0)
