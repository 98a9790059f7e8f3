"""Kernel distance: squared MMD with k(x, y) = (x.y / d + 1)^3 (Binkowski, 2018, 1801.01401).

With x = c + a and y = c + b for any centre c, x.y / d + 1 = w + t, where t = a.b / d and
w = |c|^2 / d + 1 + (c.a + c.b) / d. The statistic does not change if functions of x alone or of y
alone are added to the kernel, so w^3 is replaced by its mixed terms, a sum of products of the two,
and only k - w^3 = t (3 w (w + t) + t^2) is left for each pair. With c the mean, none of these is a
small difference of large numbers, however far the features are from the origin. Pairs are computed
in the precision of the features and summed in float64.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.core.precision import full_precision
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
    """Row sums of the three kernel matrices, less functions of either argument alone.

    Sufficient for the U-statistic and its jackknife.
    """

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


class _Centred(NamedTuple):
    """Features less a centre c, and where they are along it."""

    rows: Tensor  # (n, d) a = x - c
    along: Tensor  # (n,) float64 c.a / d
    square: Tensor  # () float64 |c|^2 / d + 1

    @classmethod
    def of(cls, x: Tensor, centre: Tensor) -> "_Centred":
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        rows, along = torch.empty_like(x, dtype=dtype), centre.new_empty(len(x))
        for i in range(0, len(x), 8192):
            part = slice(i, i + 8192)
            a = x[part].double() - centre
            rows[part], along[part] = a, a @ centre / len(centre)
        return cls(rows, along, centre.square().mean() + 1)

    def part(self, start: int, rows: int) -> "_Centred":
        end = start + rows
        return _Centred(self.rows[start:end], self.along[start:end], self.square)


def _kernel_sums(real: Tensor, fake: Tensor, rows: int = 2048) -> _KernelSums:
    centre = (_sum(real) + _sum(fake)) / (len(real) + len(fake))
    x, y = _Centred.of(real, centre), _Centred.of(fake, centre)
    with full_precision(real.device):
        real_to_fake, fake_to_real = _cross_sums(x, y, rows)
        return _KernelSums(_within_sums(x, rows), _within_sums(y, rows), real_to_fake, fake_to_real)


def _sum(x: Tensor) -> Tensor:
    return x.sum(0, dtype=torch.float64)


def _cross_sums(a: _Centred, b: _Centred, rows: int) -> tuple[Tensor, Tensor]:
    by_row, by_column = _mixed_sums(a, b), _mixed_sums(b, a)
    for i in range(0, len(a.rows), rows):
        for j in range(0, len(b.rows), rows):
            kernel = _kernel(a.part(i, rows), b.part(j, rows))
            by_row[i : i + rows] += kernel.sum(1, dtype=torch.float64)
            by_column[j : j + rows] += kernel.sum(0, dtype=torch.float64)
    return by_row, by_column


def _within_sums(a: _Centred, rows: int) -> Tensor:
    """Row sums of the kernel of a with itself, each pair of blocks computed once."""
    u = a.along
    sums = _mixed_sums(a, a) - 6 * u.square() * (a.square + u)
    for i in range(0, len(a.rows), rows):
        kernel = _kernel(a.part(i, rows), a.part(i, rows))
        sums[i : i + rows] += kernel.sum(1, dtype=torch.float64) - kernel.diagonal()
        for j in range(i + rows, len(a.rows), rows):
            kernel = _kernel(a.part(i, rows), a.part(j, rows))
            sums[i : i + rows] += kernel.sum(1, dtype=torch.float64)
            sums[j : j + rows] += kernel.sum(0, dtype=torch.float64)
    return sums


def _mixed_sums(a: _Centred, b: _Centred) -> Tensor:
    """Sums over the rows of b of w^3 less what depends on a or b alone: 3 u v (2 s + u + v)."""
    u, v = a.along, b.along
    return 3 * u * ((2 * a.square + u) * v.sum() + v.square().sum())


def _kernel(a: _Centred, b: _Centred) -> Tensor:
    """k - w^3 of each pair, (n, m) in the precision of the rows."""
    t = (a.rows @ b.rows.T).div_(a.rows.shape[1])
    w = ((a.along + a.square)[:, None] + b.along).to(t.dtype)
    return (w + t).mul_(w).mul_(3).addcmul_(t, t).mul_(t)


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
