"""Clipped Density and Clipped Coverage (Salvy et al., 2025, arXiv 2507.01761).

Both are calibrated: if a share x of the samples is good and the rest is far away, both are about
x. Density and Coverage (Naeem et al., 2020) are not, since a few balls in dense regions, or one
ball around an outlier, can hold most samples.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novum.metrics.checks import check_features, check_same_width
from novum.metrics.functional.manifold import Spheres, met_by_samples, spheres_of
from novum.metrics.neighbours import distinct_rows, knn, neighbour_distances, sphere_sides
from novum.metrics.record import FeatureSets, Measure, Metric
from novum.metrics.subsets import equal_sizes


class ClippedDensityCoverage(NamedTuple):
    density: float
    coverage: float


def clipped_density_coverage(
    real: Tensor,
    fake: Tensor,
    k: int = 5,
    *,
    near: Tensor | None = None,
    spheres: Spheres | None = None,
    met: Tensor | None = None,
    ideal: float | None = None,
) -> ClippedDensityCoverage:
    """Fidelity and coverage of samples, each in [0, 1] and linear in the share of good samples.

    Args:
        real: Training features (n, d), n > k.
        fake: Features of samples (m, d), m >= k.
        k: Neighbours that make the radius of a ball around a real row.
        near: `neighbour_distances(real, k)`, or of more neighbours, if known.
        spheres: Those of k = 5, if known.
        met: Distances (n, k) of each real row to the nearest fakes, if known.
        ideal: `ideal_density(real, radii)`, if known.

    Raises:
        NotComputable: If there are too few rows.
    """
    check_features(real, "real", at_least=k + 2)
    check_features(fake, "fake", at_least=k)
    check_same_width(real=real, fake=fake)
    radii = (neighbour_distances(real, k) if near is None else near)[:, k]
    return ClippedDensityCoverage(
        _clipped_density(real, fake, radii, k, spheres, ideal),
        _clipped_coverage(real, fake, radii, k, met),
    )


def _clipped_density(
    real: Tensor,
    fake: Tensor,
    radii: Tensor,
    k: int,
    spheres: Spheres | None,
    ideal: float | None,
) -> float:
    """Mean of min(balls that hold a sample / k, 1), over that of the real rows, at most 1.

    Radii are clipped to their median, so that balls around outliers hold no more than others.
    """
    clipped = radii.clamp(max=radii.quantile(0.5))
    around = spheres.around if spheres else _balls_around(fake, real, clipped)
    ideal = ideal_density(real, radii, k) if ideal is None else ideal
    return min(1.0, float(around.clamp(max=k).mean() / ideal))


def ideal_density(real: Tensor, radii: Tensor, k: int = 5) -> float:
    """Mean of min(other balls that hold a real row, k)."""
    clipped = radii.clamp(max=radii.quantile(0.5))
    return float((_balls_around(real, real, clipped) - 1).clamp(max=k).mean())  # less its own ball


def _balls_around(queries: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Number of closed balls that hold each query, (m,) float64."""
    first, inverse = distinct_rows(queries)
    kept, group = distinct_rows(centres)
    times = group.bincount().float()  # equal centres have equal radii; whole numbers, so exact
    counts = torch.zeros(len(first), dtype=torch.float64, device=radii.device)
    for rows, columns, side in sphere_sides(queries[first], centres[kept], radii[kept]):
        counts[rows] += (side <= 0).float() @ times[columns]
    return counts[inverse]


def _clipped_coverage(
    real: Tensor, fake: Tensor, radii: Tensor, k: int, met: Tensor | None
) -> float:
    """Share of good samples at which balls would be filled as they are.

    A ball is filled by min(samples inside, k) / k. It is open, but holds an exact copy.
    """
    distances = knn(real, fake, k).distances if met is None else met  # (n, k)
    inside = (distances < radii[:, None]) | (distances == 0)
    filled = float(inside.double().mean())
    expected = expected_filling(len(real), len(fake), k)
    above = int(torch.searchsorted(expected, filled))  # the first number of samples to fill so much
    if above > len(fake):
        return 1.0
    if above == 0:
        return 0.0
    low, high = expected[above - 1], expected[above]
    return float(above - 1 + (filled - low) / (high - low)) / len(fake)


def expected_filling(n: int, m: int, k: int = 5) -> Tensor:
    """E min(J, k) / k for 0, ..., m good samples, float64 (m + 1,), ascending.

    J, the samples inside a ball around one of n real rows up to its k-th neighbour, is
    beta-binomial: the ball's mass is Beta(k, n - k).
    """
    samples = torch.arange(m + 1, dtype=torch.float64)
    a, b = float(k), float(n - k)
    at_most = torch.zeros(m + 1, dtype=torch.float64)  # P(J <= j)
    missing = torch.zeros(m + 1, dtype=torch.float64)  # sum over j < k of P(J <= j)
    for j in range(k):
        rest = samples - j
        log_p = (
            (samples + 1).lgamma()
            - (rest + 1).clamp(min=1).lgamma()
            - math.lgamma(j + 1)
            + math.lgamma(a + j)
            + (b + rest).clamp(min=b).lgamma()
            - (a + b + samples).lgamma()
            - math.lgamma(a)
            - math.lgamma(b)
            + math.lgamma(a + b)
        )
        at_most += torch.where(rest >= 0, log_p.exp(), 0.0)
        missing += at_most
    return (1 - missing / k).clamp(min=0)


def _of_sets(sets: FeatureSets) -> ClippedDensityCoverage:
    real, fake = equal_sizes(sets.train, sets.fake)
    if sets.near is None:
        return clipped_density_coverage(real, fake)
    radii = sets.near[:, 5]

    def compute() -> NDArray[np.float64]:
        return np.array([[ideal_density(real, radii)]])

    return clipped_density_coverage(
        real,
        fake,
        near=sets.near,
        spheres=spheres_of(sets),
        met=met_by_samples(sets),
        ideal=float(sets.keep(f"ideal density of {len(real)}", compute, 1)[0, 0]),
    )


MEASURES = (
    Measure(
        (
            Metric(
                "clipped_density",
                "Clipped Density",
                "Share of samples that are as well surrounded by training images as these are by"
                " each other; no dense region counts for more than its due.",
                better="higher",
                direction="higher",
                unit="share",
            ),
            Metric(
                "clipped_coverage",
                "Clipped Coverage",
                "Share of good samples that would fill the neighbourhoods of training images as"
                " much.",
                better="higher",
                direction="higher",
                unit="share",
            ),
        ),
        _of_sets,
        at_least=7,
        position=60,
    ),
)
