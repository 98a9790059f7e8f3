"""Metrics on the manifold that balls to the k-th neighbour make of a feature set."""

from typing import NamedTuple

import torch
from torch import Tensor

from novum.metrics.checks import check_features, check_same_width
from novum.metrics.functional.intervals import Interval, wilson_interval
from novum.metrics.neighbours import (
    distinct_rows,
    knn,
    kth_neighbour_radii,
    neighbour_distances,
    sides_of_spheres,
    sphere_sides,
    squared_distances,
)
from novum.metrics.record import FeatureSets, Measure, Metric, Values
from novum.metrics.subsets import equal_sizes

NEAR = 1e-6  # of the squared norms: squared distances of less lose ten digits


class PrecisionRecall(NamedTuple):
    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    density: float
    coverage: float


class Spheres(NamedTuple):
    """Contents of three balls around each real row: to its third and fifth neighbour, clipped."""

    in_third: Tensor  # (m,) bool of the samples: inside any closed ball
    in_fifth: Tensor  # (n,) samples inside each open ball
    on_fifth: Tensor  # (n,) and on its sphere
    around: Tensor  # (m,) closed balls of radii up to their median, that hold each sample


def find_spheres(real: Tensor, fake: Tensor, near: Tensor) -> Spheres:
    """All of them in one pass over the pairs, from `neighbour_distances(real, 5)`."""
    first, inverse = distinct_rows(fake)
    times = inverse.bincount().float()  # whole numbers, whose sums in a block are exact
    kept, group = distinct_rows(real)
    centres = group.bincount().float()  # equal ones have equal radii
    radii = torch.stack([near[:, 3], near[:, 5], near[:, 5].clamp(max=near[:, 5].quantile(0.5))])
    in_third = torch.zeros(len(first), dtype=torch.bool, device=near.device)
    in_fifth, on_fifth = torch.zeros(2, len(kept), dtype=torch.float64, device=near.device)
    around = torch.zeros(len(first), dtype=torch.float64, device=near.device)
    for rows, columns, sides in sides_of_spheres(fake[first], real[kept], radii[:, kept]):
        third, fifth, clipped = sides
        in_third[rows] |= (third <= 0).any(1)
        in_fifth[columns] += times[rows] @ (fifth < 0).float()
        on_fifth[columns] += times[rows] @ (fifth == 0).float()
        around[rows] += (clipped <= 0).float() @ centres[columns]
    return Spheres(in_third[inverse], in_fifth[group], on_fifth[group], around[inverse])


def precision_recall(
    real: Tensor,
    fake: Tensor,
    k: int = 3,
    *,
    near: Tensor | None = None,
    spheres: Spheres | None = None,
) -> PrecisionRecall:
    """Share of each set inside the other's k-NN balls (Kynkäänniemi et al., 2019, 1904.06991).

    `near` is `neighbour_distances(real, k)`, or of more neighbours, and `spheres` are those of
    k = 3, where they are known.
    """
    _check(real, fake, k)
    check_features(fake, "fake", at_least=k + 1)
    near = neighbour_distances(real, k) if near is None else near
    inside = spheres.in_third if spheres else _inside_any(fake, real, near[:, k])
    precision = inside.double().mean()
    recall = _inside_any(real, fake, kth_neighbour_radii(fake, k)).double().mean()
    return PrecisionRecall(float(precision), float(recall))


def density_coverage(
    real: Tensor,
    fake: Tensor,
    k: int = 5,
    *,
    near: Tensor | None = None,
    spheres: Spheres | None = None,
    met: Tensor | None = None,
) -> DensityCoverage:
    """Real balls that hold a fake / k, and share of balls that hold one (Naeem, 2020, 2002.09797).

    A ball is open. Where duplicates crowd its sphere they share the places left of its k, and an
    exact copy is always inside: a set against itself gives 1 and 1, duplicates or not. `near` is
    `neighbour_distances(real, k)`, or of more neighbours, `spheres` are those of k = 5, and `met`
    (n, ...) has the distance of each real row to its nearest fake, where they are known.
    """
    _check(real, fake, k)
    near = (neighbour_distances(real, k) if near is None else near)[:, : k + 1]
    radii = near[:, k]
    counts = (spheres.in_fifth, spheres.on_fifth) if spheres else None
    inside, on_sphere = counts or _counts_by_ball(fake, real, radii)
    density = (inside + _sphere_share(real, near) * on_sphere).sum() / (k * len(fake))
    nearest = (knn(real, fake, 1).distances if met is None else met)[:, 0]
    coverage = ((nearest < radii) | (nearest == 0)).double().mean()
    return DensityCoverage(float(density), float(coverage))


def expected_coverage(n: int, m: int, k: int = 5) -> float:
    """Coverage that m samples of the real distribution itself reach on n real ones (Naeem, 2020).

    1 - prod (n - i) / (n + m - i) over i = 1..k: the chance that a fake is among the k nearest.
    """
    missed = 1.0
    for i in range(1, k + 1):
        missed *= (n - i) / (n + m - i)
    return 1 - missed


def realism(real: Tensor, fake: Tensor, k: int = 3, *, near: Tensor | None = None) -> Tensor:
    """max over real balls of radius / distance, (m,) float64 (Kynkäänniemi et al., 2019).

    Only the half of the balls with the smaller radii counts; a copy of a centre scores infinity.
    `near` is `neighbour_distances(real, k)` where it is known.
    """
    _check(real, fake, k)
    radii = kth_neighbour_radii(real, k) if near is None else near[:, k]
    kept = radii <= radii.median()
    real, radii = real[kept].double(), radii[kept]
    best = [
        (radii / _distances(block.double(), real))
        .nan_to_num(nan=torch.inf, posinf=torch.inf)
        .amax(1)
        for block in fake.split(256)
    ]
    return torch.cat(best)


def rarity(real: Tensor, fake: Tensor, k: int = 3) -> Tensor:
    """Smallest radius of the real balls that hold a sample, (m,) float64 (Han, 2022, 2206.08549).

    NaN for a sample outside all balls.
    """
    _check(real, fake, k)
    radii = kth_neighbour_radii(real, k)
    score = torch.full((len(fake),), torch.inf, dtype=torch.float64, device=radii.device)
    for rows, columns, side in sphere_sides(fake, real, radii):
        smallest = torch.where(side <= 0, radii[columns], torch.inf).amin(1)
        score[rows] = torch.minimum(score[rows], smallest)
    return score.masked_fill(score.isinf(), torch.nan)


def _inside_any(queries: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Mask (m,) of queries inside a closed ball; equal rows are searched once."""
    first, inverse = distinct_rows(queries)
    kept, _ = distinct_rows(centres)
    inside = torch.zeros(len(first), dtype=torch.bool, device=radii.device)
    for rows, _, side in sphere_sides(queries[first], centres[kept], radii[kept]):
        inside[rows] |= (side <= 0).any(1)
    return inside[inverse]


def _sphere_share(real: Tensor, near: Tensor) -> Tensor:
    """Places of a ball's k that are left for each row on its sphere: 0 where there are no ties."""
    k, radii = near.shape[1] - 1, near[:, -1]
    left = k - (near[:, :k] < radii[:, None]).sum(1).double()
    tied = left > 0
    if tied.any():
        left[tied] /= _counts_by_ball(real, real[tied], radii[tied])[1]
    return left


def _counts_by_ball(queries: Tensor, centres: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """Queries inside and on the sphere of each ball, two (n,) float64."""
    first, inverse = distinct_rows(queries)
    times = inverse.bincount().float()  # whole numbers, whose sums in a block are exact
    kept, group = distinct_rows(centres)
    inside, on_sphere = torch.zeros(2, len(kept), dtype=torch.float64, device=radii.device)
    for rows, columns, side in sphere_sides(queries[first], centres[kept], radii[kept]):
        inside[columns] += times[rows] @ (side < 0).float()
        on_sphere[columns] += times[rows] @ (side == 0).float()
    return inside[group], on_sphere[group]


def _distances(queries: Tensor, reference: Tensor) -> Tensor:
    """(b, n) distances of float64 rows; near ones, whose digits cancel, by direct difference."""
    scale = queries.square().sum(1, keepdim=True) + reference.square().sum(1)
    squared = torch.addmm(scale, queries, reference.T, alpha=-2)
    row, column = (~(squared > NEAR * scale)).nonzero(as_tuple=True)
    for i, j in zip(row.split(4096), column.split(4096), strict=True):
        squared[i, j] = squared_distances(queries[i], reference[j])
    return squared.sqrt()


def _check(real: Tensor, fake: Tensor, k: int) -> None:
    check_features(real, "real", at_least=k + 1)
    check_features(fake, "fake")
    check_same_width(real=real, fake=fake)


def spheres_of(sets: FeatureSets) -> Spheres | None:
    """Spheres of sets of equal sizes, found once; None of too few rows, or if `near` is unknown."""
    near, (real, fake) = sets.near, equal_sizes(sets.train, sets.fake)
    if near is None:
        return None
    return sets.once("spheres", lambda: find_spheres(real, fake, near))


def met_by_samples(sets: FeatureSets) -> Tensor | None:
    """Distances (n, 5) of real rows to the nearest fakes, found once; None of fewer than 5."""
    real, fake = equal_sizes(sets.train, sets.fake)
    return sets.once("met", lambda: knn(real, fake, 5).distances) if len(fake) >= 5 else None


def _density_coverage(sets: FeatureSets) -> Values:
    real, fake = equal_sizes(sets.train, sets.fake)
    found = density_coverage(
        real, fake, k=5, near=sets.near, spheres=spheres_of(sets), met=met_by_samples(sets)
    )
    return *found, expected_coverage(len(real), len(fake), k=5)


def precision_with_interval(sets: FeatureSets) -> tuple[Interval, float]:
    """Precision with its interval, over draws of samples for the same training images; recall."""
    real, fake = equal_sizes(sets.train, sets.fake)
    found = precision_recall(real, fake, k=3, near=sets.near, spheres=spheres_of(sets))
    return wilson_interval(round(found.precision * len(fake)), len(fake)), found.recall


MEASURES = (
    Measure(
        (
            Metric(
                "precision",
                "Precision",
                "Samples that look like some training image.",
                better="higher",
                direction="higher",
                unit="share",
            ),
            Metric(
                "recall",
                "Recall",
                "Training images that look like some sample.",
                better="higher",
                direction="higher",
                unit="share",
            ),
        ),
        precision_with_interval,
        at_least=4,
        position=40,
    ),
    Measure(
        (
            Metric(
                "density",
                "Density",
                "How densely samples lie among training images; 1 for training data itself.",
                better="higher",
                direction="higher",
            ),
            Metric(
                "coverage",
                "Coverage",
                "Training images with a sample in their neighbourhood.",
                better="higher",
                direction="higher",
                unit="share",
            ),
            Metric(
                "expected_coverage",
                "Coverage of equals",
                "What samples as good as the training images would reach.",
                better="the ceiling",
                unit="share",
            ),
        ),
        _density_coverage,
        at_least=6,
        position=50,
    ),
)
