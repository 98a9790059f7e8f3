"""Nearest neighbours of samples in training and in held-out data."""

from typing import NamedTuple

import torch
from torch import Tensor

from novum.metrics.functional.intervals import Interval, wilson_interval
from novum.metrics.neighbours import Search, knn
from novum.metrics.record import Measure, Metric

FEW_CLUSTERS = 30  # below, cluster-robust variances are known to be too small


class Neighbours(NamedTuple):
    """Per sample: distance to and row of the nearest training and the nearest held-out image.

    Without held-out images the last three are None.
    """

    train_distance: Tensor  # (n,) float64
    train_row: Tensor  # (n,) int64
    heldout_distance: Tensor | None = None
    heldout_row: Tensor | None = None
    # (n,) in [0, 1]: mean over training folds of the held-out set's size
    closer_to_train: Tensor | None = None


class Parts(NamedTuple):
    """Rows of training followed by held-out data that are near samples: k of each of some parts."""

    neighbours: Neighbours
    distances: Tensor  # (n, parts * k) float64
    rows: Tensor  # (n, parts * k) int64
    known: Tensor  # (n,) all rows that are nearer than this are among them


def find_neighbours(
    fake: Tensor, train: Tensor, heldout: Tensor | None = None, *, search: Search = knn
) -> Neighbours:
    """Exact neighbours over both whole sets, from features (n, d).

    A larger set is nearer by chance. So training is cut into random folds of the held-out set's
    size, and `closer_to_train` counts in how many a sample is nearer to the fold (a tie: half):
    a fair coin for any generator that does not copy. `search` may be `knn_together`.
    """
    return search_parts(fake, train, heldout, 1, search=search).neighbours


def search_parts(
    fake: Tensor, train: Tensor, heldout: Tensor | None, k: int, *, search: Search = knn
) -> Parts:
    """`find_neighbours`, and k rows of each fold and of the held-out set that it finds by them."""

    def look(reference: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        distances, rows = search(fake, reference, min(k, len(reference)))
        return distances, numbers.to(rows.device)[rows]

    every = torch.arange(len(train))
    if heldout is None:
        near = look(train, every)
        return _parts(Neighbours(*(x[:, 0] for x in near)), [near], [len(train)], k)
    size = min(len(train), len(heldout))
    of_heldout = look(heldout, torch.arange(len(heldout)))
    rival = heldout_distance = of_heldout[0][:, 0]
    if len(heldout) > size:
        rival = search(fake, heldout[_shuffled(len(heldout))[:size]], 1).distances[:, 0]
    folds = _shuffled(len(train)).split(size)  # the last may be smaller: no coin is tossed for it
    of_folds = [look(train[fold], fold) for fold in folds]
    distance, rows = (torch.stack([x[:, 0] for x in of]) for of in zip(*of_folds, strict=True))
    full = distance[: len(train) // size]
    coins = (full < rival).double() + 0.5 * (full == rival)
    best = distance.min(0)
    row = rows.gather(0, best.indices[None])[0]
    found = Neighbours(best.values, row, heldout_distance, of_heldout[1][:, 0], coins.mean(0))
    near = [*of_folds, (of_heldout[0], of_heldout[1] + len(train))]
    return _parts(found, near, [*map(len, folds), len(heldout)], k)


def _parts(found: Neighbours, near: list[tuple[Tensor, Tensor]], sizes: list[int], k: int) -> Parts:
    distances, rows = (torch.cat(x, 1) for x in zip(*near, strict=True))
    known = torch.full_like(distances[:, 0], torch.inf)
    for (distance, _), size in zip(near, sizes, strict=True):
        if size > k:
            known = torch.minimum(known, distance[:, -1])
    return Parts(found, distances, rows, known)


def _shuffled(n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))


def share_interval(found: Neighbours) -> Interval:
    """Share of samples closer to training, with its 95% interval.

    Samples near one training or one held-out image share their luck: residuals are summed within
    such clusters, both ways (Cameron, Gelbach & Miller, 2011). The interval is Wilson's with as
    many draws as that variance amounts to; with few clusters (a collapsed generator) that variance
    is not to be trusted, and there are no more draws than clusters.
    """
    assert found.closer_to_train is not None and found.heldout_row is not None
    share = float(found.closer_to_train.mean())
    residuals = found.closer_to_train - share
    pair = torch.stack([found.train_row, found.heldout_row], 1)
    by_train, by_heldout, by_pair = (
        _cluster_variance(residuals, ids) for ids in (found.train_row, found.heldout_row, pair)
    )
    variance = max(by_train + by_heldout - by_pair, by_train, by_heldout)
    draws = share * (1 - share) / variance if variance > 1e-12 else len(residuals)
    clusters = min(_effective_clusters(found.train_row), _effective_clusters(found.heldout_row))
    if clusters < FEW_CLUSTERS:
        draws = min(draws, clusters)
    return wilson_interval(share * draws, draws)


def _effective_clusters(ids: Tensor) -> float:
    """(sum of sizes)^2 / sum of squared sizes: as many as there are when all are alike."""
    sizes = ids.unique(return_counts=True)[1].double()
    return float(sizes.sum() ** 2 / sizes.square().sum())


def _cluster_variance(residuals: Tensor, ids: Tensor) -> float:
    """Variance of the mean of residuals (n,) that may only be correlated within a cluster."""
    _, cluster = ids.unique(dim=0, return_inverse=True)
    sums = torch.zeros(int(cluster.max()) + 1, dtype=torch.float64)
    return float(sums.index_add_(0, cluster, residuals).square().sum()) / len(residuals) ** 2


MEASURES = (
    Measure(
        (
            Metric(
                "closer_to_train",
                "Closer to training",
                "Samples nearer to training than to held-out images, equally many of each; copying"
                " lifts it above 50%.",
                "novelty",
                "0.5 is fair",
                unit="share",
            ),
        ),
        position=204,
    ),
)
