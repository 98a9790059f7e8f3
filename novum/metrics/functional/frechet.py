"""Fréchet distance between two Gaussians (Heusel et al., 2017, arXiv 1706.08500)."""

from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor

from novum.core.errors import InputError, NotComputable
from novum.metrics.checks import check_features, check_same_width
from novum.metrics.functional.intervals import Interval, normal_interval
from novum.metrics.record import FeatureSets, Measure, Metric

WIDEST = 8192  # dimensions; a wider covariance takes over half a gigabyte


def frechet_distance(
    mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor, *, factor1: Tensor | None = None
) -> float:
    """|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^1/2).

    Tr (S1 S2)^1/2 is the sum of the square roots of the eigenvalues of A^T S2 A for any A with
    A A^T = S1: symmetric, so no complex roots. Keep `factor1 = covariance_factor(cov1)` for a
    reference that is used again.
    """
    mean1, cov1, mean2, cov2 = (x.double() for x in (mean1, cov1, mean2, cov2))
    _check_moments(mean1, cov1, mean2, cov2)
    factor = covariance_factor(cov1) if factor1 is None else factor1.double()
    roots = torch.linalg.eigvalsh(factor.T @ cov2 @ factor).clamp(min=0).sqrt()
    return _distance(mean1 - mean2, cov1.trace() + cov2.trace(), roots.sum())


def frechet_distance_from_features(real: Tensor, fake: Tensor) -> float:
    """Fréchet distance of two feature sets, exact for fewer samples than dimensions too."""
    check_features(real, "real", at_least=2)
    check_features(fake, "fake", at_least=2)
    check_same_width(real=real, fake=fake)
    moments_real, moments_fake = Moments().update(real), Moments().update(fake)
    if min(len(real), len(fake)) > real.shape[1]:
        return moments_real.frechet_distance(moments_fake)
    # With n <= d the covariance is singular, and roots of its eigenvalue noise would add up:
    # Tr (S1 S2)^1/2 is the nuclear norm of A1^T A2, which needs no matrix square root.
    factor_real, factor_fake = _thin_factor(real, moments_real), _thin_factor(fake, moments_fake)
    nuclear = torch.linalg.svdvals(factor_real.T @ factor_fake).sum()
    traces = factor_real.square().sum() + factor_fake.square().sum()
    return _distance(moments_real.mean - moments_fake.mean, traces, nuclear)


def frechet_distance_interval(
    real: "Tensor | Moments", fake: Tensor, confidence: float = 0.95
) -> Interval:
    """Fréchet distance with an interval for its mean over generated sets of this size.

    The reference is taken as it is. The bias of few samples stays in: never compare two sizes.
    """
    moments_real, moments_fake = _moments(real, fake), Moments().update(fake)
    distance, error = _distance_and_error(moments_real, moments_fake, fake)
    return normal_interval(distance, error, confidence)


def frechet_distance_infinity(
    real: "Tensor | Moments", fake: Tensor, *, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Fréchet distance of unlimited samples (Chong & Forsyth, 2020, 1911.07023); can be below 0.

    The line in 1 / n through the whole set and its random halves. Differs from the paper's least
    squares through 15 subsets: the halves share the sampling error of the whole, which cancels; the
    interval is honest. The reference is taken as it is.
    """
    moments_real = _moments(real, fake)
    check_features(fake, "fake", at_least=4 * max(1, moments_real.factor.shape[1]))
    order = torch.randperm(len(fake), generator=torch.Generator().manual_seed(seed))
    halves = [Moments().update(fake[rows.to(fake.device)]) for rows in order.tensor_split(2)]
    whole = Moments().merge(halves[0]).merge(halves[1])
    distance, error = _distance_and_error(moments_real, whole, fake)
    of_halves = sum(moments_real.frechet_distance(half) for half in halves) / 2
    step = sum(1 / half.n for half in halves) / 2 - 1 / whole.n
    return normal_interval(distance - (of_halves - distance) / step / whole.n, error, confidence)


def covariance_factor(cov: Tensor) -> Tensor:
    """Some A (d, r) with A A^T = cov, float64: Cholesky's if regular, else by eigenvectors."""
    cov = cov.double()
    lower, failed = torch.linalg.cholesky_ex(cov)
    pivots = lower.diagonal().square()
    noise = len(cov) * torch.finfo(torch.float64).eps
    if not failed and pivots.min() > 1e3 * noise * pivots.max():
        return lower.contiguous()  # sums depend on the layout, which files need not keep
    values, vectors = torch.linalg.eigh(cov)
    kept = values > noise * values[-1]
    return (vectors[:, kept] * values[kept].sqrt()).contiguous()


class Moments:
    """Streaming count, mean and scatter of features in float64 (Chan et al., 1983)."""

    def __init__(self) -> None:
        self.n = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, 0, dtype=torch.float64)  # sum of (x - mean)(x - mean)^T
        self._factor: Tensor | None = None

    def update(self, features: Tensor, rows: int = 8192) -> Self:
        """Add the rows of an (n, d) tensor."""
        check_features(features, at_least=0)
        for block in features.split(rows):
            if len(block):
                block = block.double()
                mean = block.mean(0)
                centred = block - mean
                self._add(len(block), mean, centred.T @ centred)
        return self

    def merge(self, other: "Moments") -> Self:
        """Add what `other` has seen."""
        self._add(other.n, other.mean, other.scatter)
        return self

    def all_reduce(self) -> Self:
        """Sum over the ranks of torch.distributed; every rank gets the same bits."""
        if not (dist.is_available() and dist.is_initialized()):
            return self
        width = self._summed(torch.tensor(len(self.mean)), dist.ReduceOp.MAX)
        if not self.n:  # a rank that saw nothing still takes part
            device = self.mean.device
            self.mean = torch.zeros(int(width), dtype=torch.float64, device=device)
            self.scatter = torch.zeros(int(width), int(width), dtype=torch.float64, device=device)
        total = int(self._summed(torch.tensor(self.n)))
        mean = self._summed(self.mean * self.n) / max(total, 1)
        shift = self.mean - mean
        self.scatter = self._summed(self.scatter + self.n * torch.outer(shift, shift))
        self.n, self.mean, self._factor = total, mean, None
        return self

    @property
    def cov(self) -> Tensor:
        """The unbiased covariance."""
        if self.n < 2:
            raise NotComputable(f"a covariance needs at least 2 samples, got {self.n}: add samples")
        return self.scatter / (self.n - 1)

    @property
    def factor(self) -> Tensor:
        """`covariance_factor(cov)`, computed once."""
        if self._factor is None:
            self._factor = covariance_factor(self.cov)
        return self._factor

    def to(self, device: torch.device) -> "Moments":
        """The same on a device."""
        moments = Moments()
        moments.n, moments.mean, moments.scatter = (
            self.n,
            self.mean.to(device),
            self.scatter.to(device),
        )
        moments._factor = None if self._factor is None else self._factor.to(device)
        return moments

    def state(self) -> dict[str, Tensor]:
        """All of it as tensors, for a file."""
        return {
            "n": torch.tensor(self.n),
            "mean": self.mean,
            "scatter": self.scatter,
            "factor": self.factor,
        }

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "Moments":
        """Moments from what `state` gave."""
        moments = cls()
        moments.n, moments.mean, moments.scatter = int(state["n"]), state["mean"], state["scatter"]
        factor = state["factor"]
        moments._factor = None if factor is None else factor.contiguous()
        return moments

    def frechet_distance(self, other: "Moments") -> float:
        """Fréchet distance to `other`; the factor of the side of lower rank is used and kept."""
        check_same_width(real=self.mean[None], fake=other.mean[None])
        low = other if other.n <= len(other.mean) and other.n < self.n else self
        high = self if low is other else other
        return frechet_distance(low.mean, low.cov, high.mean, high.cov, factor1=low.factor)

    def _add(self, n: int, mean: Tensor, scatter: Tensor) -> None:
        if not n:
            return
        if not self.n:
            self.n, self.mean, self.scatter = n, mean.clone(), scatter.clone()
            return
        check_same_width(seen=self.mean[None], new=mean[None])
        delta, total = mean - self.mean, self.n + n
        self.scatter += scatter + torch.outer(delta, delta) * (self.n * n / total)
        self.mean += delta * (n / total)
        self.n, self._factor = total, None

    def _summed(self, x: Tensor, op: Any = dist.ReduceOp.SUM) -> Tensor:
        x = x.to(self.mean.device)
        dist.all_reduce(x, op)
        return x


def _moments(real: Tensor | Moments, fake: Tensor) -> Moments:
    check_features(fake, "fake", at_least=2)
    if isinstance(real, Moments):
        check_same_width(real=real.mean[None], fake=fake)
        return real
    check_features(real, "real", at_least=2)
    check_same_width(real=real, fake=fake)
    return Moments().update(real)


def _distance_and_error(real: Moments, moments: Moments, fake: Tensor) -> tuple[float, float]:
    """Fréchet distance and its infinitesimal jackknife standard error (Jaeckel, 1972).

    Its derivatives by m2 and S2 are 2 (m2 - m1) and I - T, with T = A (A^T S2 A)^-1/2 A^T the
    optimal transport map (A A^T = S1); at each sample they give that sample's pull.
    """
    factor = real.factor
    if moments.n > len(moments.mean):
        values, vectors = torch.linalg.eigh(factor.T @ moments.cov @ factor)
        roots = values.clamp(min=0).sqrt()
    else:  # no roots of eigenvalue noise, as above
        vectors, roots, _ = torch.linalg.svd(
            factor.T @ _thin_factor(fake, moments), full_matrices=False
        )
    kept = roots > 1e-6 * roots.sum()
    transport = factor @ (vectors[:, kept] * roots[kept].rsqrt())  # (d, r), T = its square
    shift = moments.mean - real.mean
    pulls = []
    for block in fake.split(8192):
        centred = block.double() - moments.mean
        quadratic = centred.square().sum(1) - (centred @ transport).square().sum(1)
        pulls.append(2 * centred @ shift + quadratic)
    distance = _distance(shift, real.cov.trace() + moments.cov.trace(), roots.sum())
    return distance, float(torch.cat(pulls).std()) / moments.n**0.5


def _thin_factor(features: Tensor, moments: Moments) -> Tensor:
    """A (d, r) with A A^T = covariance: the centred rows if they are fewer than d."""
    if len(features) > features.shape[1]:
        return moments.factor
    return (features.double() - moments.mean).T / (len(features) - 1) ** 0.5


def _distance(shift: Tensor, traces: Tensor, nuclear: Tensor) -> float:
    return max(0.0, float(shift.square().sum() + traces - 2 * nuclear))


def _check_moments(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> None:
    d = len(mean1)
    shapes = [tuple(x.shape) for x in (mean1, cov1, mean2, cov2)]
    if shapes != [(d,), (d, d), (d,), (d, d)]:
        raise InputError(f"moments must be (d,), (d, d), (d,), (d, d) of one d, got {shapes}")
    for name, x in (("mean1", mean1), ("cov1", cov1), ("mean2", mean2), ("cov2", cov2)):
        if not x.isfinite().all():
            raise InputError(f"{name} has NaN or infinite values: check the features")


def known_moments(sets: FeatureSets) -> Moments:
    """Moments of the training features; NotComputable if the space is too wide for them."""
    if sets.moments is None:
        raise NotComputable(
            f"{sets.train.shape[1]:,} dimensions are too many for a covariance (at most"
            f" {WIDEST:,}): use NAME@SIZE, such as pixels@32"
        )
    return sets.moments


def known_distance(sets: FeatureSets) -> Interval:
    """Fréchet distance of samples and training images, computed once for the sets."""

    def compute() -> Interval:
        return frechet_distance_interval(known_moments(sets), sets.fake)

    return sets.once("Fréchet distance", compute)


MEASURES = (
    Measure(
        (
            Metric(
                "frechet_distance",
                "Fréchet distance",
                "Between Gaussians fitted to the features of samples and training images; falls"
                " with more samples, so compare equal numbers only.",
                better="lower",
                direction="lower",
            ),
        ),
        lambda sets: (known_distance(sets),),
        at_least=2,
        position=10,
    ),
    Measure(
        (
            Metric(
                "frechet_distance_infinity",
                "Fréchet distance at infinity",
                "Extrapolated to infinitely many samples, so that different numbers can be"
                " compared.",
                better="lower",
                direction="lower",
            ),
        ),
        lambda sets: (frechet_distance_infinity(known_moments(sets), sets.fake, seed=sets.seed),),
        at_least=2,
        position=20,
    ),
)
