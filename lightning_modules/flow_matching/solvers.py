"""Solvers of ordinary differential equations, in which no item of a batch touches another.

`velocity` is a function of states (n, d) and times (n,); times from the first to the last are given
as a grid (k + 1,), in either direction.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from novum.core.errors import InputError, TrainingError

Velocity = Callable[[Tensor, Tensor], Tensor]
MOST_STEPS = 2000  # that RK45 tries

# Dormand & Prince (1980): nodes, rows of stages, and the two answers' difference
NODES = (0.2, 0.3, 0.8, 8 / 9, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
FIFTH = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


class Solution(NamedTuple):
    """States (n, d) at the last time, and how often each item's velocity was asked for (n,)."""

    x: Tensor
    evaluations: Tensor


def _at(t: Tensor, x: Tensor) -> Tensor:
    return t.expand(len(x))


class Euler:
    """Straight steps: one evaluation each, error of order 1.

    Args:
        steps: Of each path.
    """

    def __init__(self, steps: int = 50) -> None:
        self.steps = _positive(steps)

    def __call__(self, velocity: Velocity, x: Tensor, times: Tensor) -> Solution:
        for t, after in zip(times, times[1:], strict=False):
            x = x + (after - t) * velocity(x, _at(t, x))
        return Solution(x, torch.full((len(x),), float(len(times) - 1), device=x.device))


class Heun:
    """Steps by the mean of the velocities at either end: two evaluations each, order 2.

    Args:
        steps: Of each path.
    """

    def __init__(self, steps: int = 18) -> None:
        self.steps = _positive(steps)

    def __call__(self, velocity: Velocity, x: Tensor, times: Tensor) -> Solution:
        for t, after in zip(times, times[1:], strict=False):
            first = velocity(x, _at(t, x))
            second = velocity(x + (after - t) * first, _at(after, x))
            x = x + (after - t) * (first + second) / 2
        return Solution(x, torch.full((len(x),), 2.0 * (len(times) - 1), device=x.device))


class RK45:
    """Steps of a length that keeps the estimated error small, each item its own (order 5).

    Dormand & Prince (1980), with the customary controller. Items that have arrived wait for the
    slowest, and are not counted meanwhile.

    Args:
        rtol: Error of a step in units of the state.
        atol: The same beside it, absolute.
    """

    steps = 1  # a grid's ends are all that it uses

    def __init__(self, rtol: float = 1e-3, atol: float = 1e-3) -> None:
        for name, value in {"rtol": rtol, "atol": atol}.items():
            if not value > 0:
                raise InputError(f"{name} is {value}: it must be above 0")
        self.rtol, self.atol = rtol, atol

    def __call__(self, velocity: Velocity, x: Tensor, times: Tensor) -> Solution:
        end, span = times[-1].to(x), (times[-1] - times[0]).to(x)
        t = times[0].to(x).expand(len(x)).clone()
        slope, h = velocity(x, t), (span / 20).expand(len(x))
        evaluations = torch.ones(len(x), device=x.device)
        for _ in range(MOST_STEPS):
            active = t != end
            if not active.any():
                return Solution(x, evaluations)
            last = h.abs() >= (end - t).abs()
            h = torch.where(last, end - t, h)  # 0 of an item that has arrived
            after, slope_after, error = self._step(velocity, x, t, h, slope)
            if not error.isfinite().all():
                raise TrainingError("the velocity is not finite: the network has diverged")
            taken = active & (error <= 1)
            evaluations += 6 * active
            x = torch.where(taken[:, None], after, x)
            slope = torch.where(taken[:, None], slope_after, slope)
            t = torch.where(taken, torch.where(last, end, t + h), t)
            h = h * (0.9 * error.clamp_min(1e-8) ** -0.2).clamp(0.2, 5.0)
        raise InputError(
            f"RK45 did not arrive in {MOST_STEPS} steps at rtol {self.rtol} and atol {self.atol}:"
            " give larger ones"
        )

    def _step(
        self, velocity: Velocity, x: Tensor, t: Tensor, h: Tensor, slope: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The state after a step, its slope, and its error (n,), 1 being what is allowed."""
        slopes, length = [slope], h[:, None]
        for node, row in zip(NODES, STAGES, strict=True):
            slopes.append(velocity(x + length * _weighted(row, slopes), t + node * h))
        after = x + length * _weighted(FIFTH, slopes)
        slopes.append(velocity(after, t + h))
        scale = self.atol + self.rtol * torch.maximum(x.abs(), after.abs())
        error = length * _weighted(ERROR, slopes) / scale
        return after, slopes[-1], error.square().mean(1).sqrt()


def _weighted(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        total = total + weight * slope if weight else total
    return total


def _positive(steps: int) -> int:
    if steps < 1:
        raise InputError(f"steps is {steps}: give at least 1")
    return steps
