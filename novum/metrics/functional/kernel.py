"""Kernel distance: squared MMD with k(x, y) = (x.y / d + 1)^3 (Binkowski, 2018, 1801.01401).

Kernels are computed in the precision of the features and summed in float64: the rounding of so many
float32 entries cancels to far below the statistic's own error.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.metrics.checks import check_features, check_same_width
from novum.metrics.functional.intervals import Interval, normal_interval
from novum.metrics.record import Measure, Metric
from novum.metrics.subsets import equal_sizes


def kernel_distance(
    real: Tensor,
    fake: Tensor,
    *,
    subsets: int | None = None,
    subset_size: int = 1000,
    seed: int = 0,
) -> float:
    """Unbiased squared MMD: the exact U-statistic, or the customary mean over random subsets.

    With `subsets`, draws as torch-fidelity does with input1 = fake, input2 = real.
    """
    _check(real, fake, at_least=2)
    if subsets is None:
        return _kernel_sums(real, fake).distance()
    _check(real, fake, at_least=subset_size)
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        x = fake[torch.from_numpy(rng.choice(len(fake), subset_size, replace=False))]
        y = real[torch.from_numpy(rng.choice(len(real), subset_size, replace=False))]
        values.append(_kernel_sums(y, x).distance())
    return float(np.mean(values))


def kernel_distance_interval(real: Tensor, fake: Tensor, confidence: float = 0.95) -> Interval:
    """The exact U-statistic with an interval from its jackknife standard error."""
    _check(real, fake, at_least=3)
    sums = _kernel_sums(real, fake)
    return normal_interval(sums.distance(), sums.jackknife_error(), confidence)


class _KernelSums(NamedTuple):
    """Row sums of the three kernel matrices: sufficient for the U-statistic and its jackknife."""

    real: Tensor  # (n,), without the diagonal
    fake: Tensor  # (m,), without the diagonal
    real_to_fake: Tensor  # (n,)
    fake_to_real: Tensor  # (m,)

    def distance(self) -> float:
        n, m = len(self.real), len(self.fake)
        within = self.real.sum() / (n * (n - 1)) + self.fake.sum() / (m * (m - 1))
        return float(within - 2 * self.real_to_fake.sum() / (n * m))

    def jackknife_error(self) -> float:
        """Root of the sum of both samples' delete-one variances (Efron & Stein, 1981)."""
        n, m = len(self.real), len(self.fake)
        cross = self.real_to_fake.sum()
        within_real = self.real.sum() / (n * (n - 1))
        within_fake = self.fake.sum() / (m * (m - 1))
        without_real = (
            (self.real.sum() - 2 * self.real) / ((n - 1) * (n - 2))
            + within_fake
            - 2 * (cross - self.real_to_fake) / ((n - 1) * m)
        )
        without_fake = (
            within_real
            + (self.fake.sum() - 2 * self.fake) / ((m - 1) * (m - 2))
            - 2 * (cross - self.fake_to_real) / (n * (m - 1))
        )
        variance = sum((len(u) - 1) * u.var(correction=0) for u in (without_real, without_fake))
        return float(variance) ** 0.5


def _kernel_sums(real: Tensor, fake: Tensor, rows: int = 2048) -> _KernelSums:
    real_to_fake, fake_to_real = _cross_sums(real, fake, rows)
    return _KernelSums(
        _within_sums(real, rows), _within_sums(fake, rows), real_to_fake, fake_to_real
    )


def _cross_sums(a: Tensor, b: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    by_row = a.new_zeros(len(a), dtype=torch.float64)
    by_column = a.new_zeros(len(b), dtype=torch.float64)
    for i in range(0, len(a), rows):
        for j in range(0, len(b), rows):
            kernel = _kernel(a[i : i + rows], b[j : j + rows])
            by_row[i : i + rows] += kernel.sum(1, dtype=torch.float64)
            by_column[j : j + rows] += kernel.sum(0, dtype=torch.float64)
    return by_row, by_column


def _within_sums(a: Tensor, rows: int) -> Tensor:
    """Row sums of the kernel of a with itself, each pair of blocks computed once."""
    sums = a.new_zeros(len(a), dtype=torch.float64)
    for i in range(0, len(a), rows):
        kernel = _kernel(a[i : i + rows], a[i : i + rows])
        sums[i : i + rows] += kernel.sum(1, dtype=torch.float64) - kernel.diagonal()
        for j in range(i + rows, len(a), rows):
            kernel = _kernel(a[i : i + rows], a[j : j + rows])
            sums[i : i + rows] += kernel.sum(1, dtype=torch.float64)
            sums[j : j + rows] += kernel.sum(0, dtype=torch.float64)
    return sums


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    base = (x.to(dtype) @ y.to(dtype).T).div_(x.shape[1]).add_(1)
    return base.square().mul_(base)


def _check(real: Tensor, fake: Tensor, at_least: int) -> None:
    check_features(real, "real", at_least=at_least)
    check_features(fake, "fake", at_least=at_least)
    check_same_width(real=real, fake=fake)


MEASURES = (
    Measure(
        (
            Metric(
                "kernel_distance",
                "Kernel distance",
                "Squared maximum mean discrepancy with a cubic kernel; unbiased, so it can fall"
                " below 0.",
                better="lower",
                direction="lower",
            ),
        ),
        lambda sets: (kernel_distance_interval(*equal_sizes(sets.train, sets.fake)),),
        at_least=3,
        position=30,
    ),
)
