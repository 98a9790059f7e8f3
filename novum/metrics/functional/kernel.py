"""Kernel distance: squared MMD with k(x, y) = (x.y / d + 1)^3 (Binkowski, 2018, 1801.01401).

With x = c + a and y = c + b for any centre c, x.y / d + 1 = w + t, where t = a.b / d and
w = |c|^2 / d + 1 + (c.a + c.b) / d. The statistic does not change if functions of x alone or of y
alone are added to the kernel, so w^3 is replaced by its mixed terms, a sum of products of the two.
Of k - w^3 = 3 w^2 t + t^2 (3 w + t) the first term is linear in a and in b, so that a sum over b is
the product of a with a sum of vectors: only the second is left for each pair. With c the mean, none
of these is a small difference of large numbers, however far the features are from the origin. Pairs
are computed and summed tile by tile in the precision of the features, all else in float64.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.core.precision import full_precision
from novum.core.products import row_products
from novum.metrics.checks import check_features, check_same_width
from novum.metrics.functional.intervals import Interval, normal_interval
from novum.metrics.record import Measure, Metric
from novum.metrics.subsets import equal_sizes

TILE = 1024  # rows and columns of pairs at a time: they stay in a CPU's cache
DEVICE_TILE = 8192
BLOCK = 1024  # rows at a time in float64, small enough to be allocated without new pages


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
    x, y = _centred(real, fake)
    values = []
    for _ in range(subsets):
        of_fake = torch.from_numpy(rng.choice(len(fake), subset_size, replace=False))
        of_real = torch.from_numpy(rng.choice(len(real), subset_size, replace=False))
        values.append(_sums_of(x.part(of_real), y.part(of_fake)).distance())
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
        for i in range(0, len(x), BLOCK):
            part = slice(i, i + BLOCK)
            a = x[part].double() - centre
            rows[part], along[part] = a, a @ centre / len(centre)
        return cls(rows, along, centre.square().mean() + 1)

    def block(self, start: int, rows: int) -> "_Centred":
        return self.part(slice(start, start + rows))

    def part(self, rows: slice | Tensor) -> "_Centred":
        return _Centred(self.rows[rows], self.along[rows], self.square)


def _kernel_sums(real: Tensor, fake: Tensor, rows: int | None = None) -> _KernelSums:
    return _sums_of(*_centred(real, fake), rows)


def _centred(real: Tensor, fake: Tensor) -> tuple[_Centred, _Centred]:
    centre = (_sum(real) + _sum(fake)) / (len(real) + len(fake))
    return _Centred.of(real, centre), _Centred.of(fake, centre)


def _sums_of(x: _Centred, y: _Centred, rows: int | None = None) -> _KernelSums:
    if rows is None:
        rows = TILE if x.rows.device.type == "cpu" else DEVICE_TILE
    with full_precision(x.rows.device):
        real_to_fake, fake_to_real = _cross_sums(x, y, rows)
        return _KernelSums(_within_sums(x, rows), _within_sums(y, rows), real_to_fake, fake_to_real)


def _sum(x: Tensor) -> Tensor:
    return x.sum(0, dtype=torch.float64)


def _cross_sums(a: _Centred, b: _Centred, rows: int) -> tuple[Tensor, Tensor]:
    by_row, by_column = _separable_sums(a, b), _separable_sums(b, a)
    for i in range(0, len(a.rows), rows):
        for j in range(0, len(b.rows), rows):
            pairs = _pairs(a.block(i, rows), b.block(j, rows))
            by_row[i : i + rows] += pairs.sum(1)
            by_column[j : j + rows] += pairs.sum(0)
    return by_row, by_column


def _within_sums(a: _Centred, rows: int) -> Tensor:
    """Row sums of the kernel of a with itself, each pair of tiles computed once."""
    sums = _separable_sums(a, a) - _separable_diagonal(a)
    for i in range(0, len(a.rows), rows):
        pairs = _pairs(a.block(i, rows), a.block(i, rows))
        sums[i : i + rows] += pairs.fill_diagonal_(0).sum(1)
        for j in range(i + rows, len(a.rows), rows):
            pairs = _pairs(a.block(i, rows), a.block(j, rows))
            sums[i : i + rows] += pairs.sum(1)
            sums[j : j + rows] += pairs.sum(0)
    return sums


def _separable_sums(a: _Centred, b: _Centred) -> Tensor:
    """Sums over the rows of b of 3 w^2 t + 3 u v (2 s + u + v), where w = s + u + v.

    The latter is w^3 less what depends on a or b alone.
    """
    u, v, s = a.along, b.along, a.square + a.along
    mixed = u * ((s + a.square) * v.sum() + v.square().sum())
    totals = torch.zeros(3, b.rows.shape[1], dtype=torch.float64, device=v.device)
    for i in range(0, len(v), BLOCK):  # sums of b, v b and v^2 b
        part = b.block(i, BLOCK)
        weights = torch.stack([torch.ones_like(part.along), part.along, part.along.square()])
        totals += weights @ part.rows.double()
    once, times_v, times_v_squared = torch.cat(
        [x.double() @ totals.T for x in a.rows.split(BLOCK)]
    ).T
    linear = s * (s * once + 2 * times_v) + times_v_squared
    return 3 * (mixed + linear / a.rows.shape[1])


def _separable_diagonal(a: _Centred) -> Tensor:
    """The summands of `_separable_sums(a, a)` that are of a row with itself."""
    u = a.along
    t = torch.cat([x.double().square().mean(1) for x in a.rows.split(BLOCK)])
    return 6 * u.square() * (a.square + u) + 3 * (a.square + 2 * u).square() * t


def _pairs(a: _Centred, b: _Centred) -> Tensor:
    """t^2 (3 w + t) of each pair, (n, m) in the precision of the rows."""
    t = row_products(a.rows, b.rows).div_(a.rows.shape[1])
    w = t + (3 * (a.along + a.square)).to(t.dtype)[:, None]
    return w.add_((3 * b.along).to(t.dtype)).mul_(t).mul_(t)


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
