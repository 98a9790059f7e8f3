"""Optimizers that a published recipe needs and torch lacks."""

from collections.abc import Callable, Iterable

import torch
from torch import nn


class DecayingMomentumSGD(torch.optim.SGD):
    """SGD whose rate decays and whose momentum grows with every update (Goodfellow et al., 2014).

    Both are functions of the update count, which is part of the optimizer's state.

    Args:
        params: What to optimise.
        lr: Learning rate before the first update.
        decay: The learning rate is divided by this after each update.
        min_lr: Limit of the decay.
        momentum: At the start.
        final_momentum: From update `saturate` on; linear before.
        saturate: Updates until then.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.1,
        decay: float = 1.000004,
        min_lr: float = 1e-6,
        momentum: float = 0.5,
        final_momentum: float = 0.7,
        saturate: int = 125_000,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum)
        for group in self.param_groups:
            group |= {
                "first_lr": lr,
                "decay": decay,
                "min_lr": min_lr,
                "first_momentum": momentum,
                "final_momentum": final_momentum,
                "saturate": saturate,
                "updates": 0,
            }

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        for group in self.param_groups:
            n = group["updates"]
            group["lr"] = max(group["first_lr"] * group["decay"] ** -n, group["min_lr"])
            share = min(n / group["saturate"], 1.0)
            span = group["final_momentum"] - group["first_momentum"]
            group["momentum"] = group["first_momentum"] + share * span
            group["updates"] = n + 1
        return super().step(closure)
