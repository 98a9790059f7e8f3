"""Sliced Wasserstein distance."""

import torch
from torch import Tensor

from novum.metrics.checks import check_features, check_same_width
from novum.metrics.record import Measure, Metric
from novum.metrics.subsets import equal_sizes


def sliced_wasserstein_distance(
    real: Tensor, fake: Tensor, projections: int = 1000, p: int = 2, *, seed: int = 0
) -> float:
    """(mean over random directions of W_p^p of the projections)^(1/p) (Bonneel et al., 2015).

    Exact in each direction, for sets of different sizes too.
    """
    check_features(real, "real")
    check_features(fake, "fake")
    check_same_width(real=real, fake=fake)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(projections, real.shape[1], generator=generator, dtype=torch.float64)
    directions = (directions / directions.norm(dim=1, keepdim=True)).to(real.device)
    i, j, weight = (x.to(real.device) for x in _matched_quantiles(len(real), len(fake)))
    total = 0.0
    for block in directions.split(max(1, 2**24 // len(i))):
        x = _project(real, block).sort(dim=1).values[:, i]
        y = _project(fake, block).sort(dim=1).values[:, j]
        total += float(((x - y).abs().pow(p) * weight).sum())
    return (total / projections) ** (1 / p)


def _project(features: Tensor, directions: Tensor) -> Tensor:
    return torch.cat([directions @ block.double().T for block in features.split(8192)], 1)


def _matched_quantiles(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ranks i of n and j of m that the 1-D optimal plan pairs, and each pair's mass."""
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])  # exact, in units of 1 / (n m)
    return starts // m, starts // n, (ends - starts).double() / (n * m)


MEASURES = (
    Measure(
        (
            Metric(
                "sliced_wasserstein_distance",
                "Sliced Wasserstein distance",
                "Mean distance between the sets along random directions.",
                better="lower",
                direction="lower",
            ),
        ),
        lambda sets: (
            sliced_wasserstein_distance(*equal_sizes(sets.train, sets.fake), seed=sets.seed),
        ),
        at_least=2,
        position=70,
    ),
)
