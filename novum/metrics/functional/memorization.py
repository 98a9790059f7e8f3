"""Memorization metrics: distances of samples to the training set.

Each has a blind spot: a truncated generator that copies nothing looks like a copier to authenticity
and C_T, and an underfit one that copies some of its samples does not.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novum.core.errors import NotComputable
from novum.metrics.candidate_filter import Rows
from novum.metrics.checks import check_features, check_same_width
from novum.metrics.functional.frechet import (
    frechet_distance_from_features,
    known_distance,
)
from novum.metrics.neighbours import knn
from novum.metrics.record import FeatureSets, Keep, Measure, Metric, Values, compute_again
from novum.metrics.subsets import choose_rows

MOST_ROWS = 50_000  # of each set that the test takes
FITTED = 10_000  # of training that k-means is fitted to

Cells = tuple[Tensor, Tensor, Tensor]  # labels of train, heldout and fake rows


def memorization_distance(real: Tensor, fake: Tensor) -> float:
    """Mean over generated of min over real of 1 - |cos| (Bai et al., 2021, 2106.03062)."""
    _check(real=real, fake=fake)
    near = _most_similar(real, fake)
    parts = [(_unit(real[n]) * _unit(x)).sum(1) for n, x in zip(*_blocks(near, fake), strict=True)]
    return float((1 - torch.cat(parts).abs()).clamp(min=0).mean())


def _blocks(*tables: Tensor) -> list[tuple[Tensor, ...]]:
    return [table.split(2048) for table in tables]


def _most_similar(real: Tensor, fake: Tensor) -> Tensor:
    """Row (m,) of `real` with the largest |cos| to each of `fake`, up to float32's rounding.

    Of unit vectors, that is the one nearest to a row or to its opposite, which is none where no
    feature is negative.
    """
    units = torch.cat([_unit(block).float() for block in fake.split(2048)])
    near = knn(units, _Directions(real), 1)
    if min(float(x.amin()) for x in (real, fake)) >= 0:
        return near.indices[:, 0]
    opposite = knn(-units, _Directions(real), 1)
    return torch.where(opposite.distances < near.distances, *(x.indices for x in (opposite, near)))[
        :, 0
    ]


class _Directions(Rows):
    """Unit vectors, float32, computed as they are read; rows of zeros, which have none, are far."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(table, torch.arange(len(table), device=table.device))

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        read = super().__getitem__(index)
        found = _unit(read).float()
        found[~(read != 0).any(-1), 0] = 3.0  # beyond any unit vector
        return found


def memorization_informed_frechet_distance(
    real: Tensor, fake: Tensor, tau: float = 0.1, *, distance: float | None = None
) -> float:
    """Fréchet distance divided by the memorization distance where that is below tau (MiFID).

    `tau` belongs to the feature space: 0.1 is Kaggle's for Inception. `distance` is the Fréchet
    distance where it is known.
    """
    if distance is None:
        distance = frechet_distance_from_features(real, fake)
    nearness = memorization_distance(real, fake)
    return distance / (nearness + 1e-15) if nearness < tau else distance


def authenticity(
    train: Tensor, fake: Tensor, *, nearest: tuple[Tensor, Tensor] | None = None
) -> float:
    """Share of samples farther from their nearest training row than that is from its own nearest.

    Alaa et al., 2022, 2102.08921. Blind to training rows that occur twice: their own is at 0.
    `nearest` has the distances (n,) and rows (n,) of the nearest training rows where known.
    """
    _check(train=train, fake=fake)
    check_features(train, "train", at_least=2)
    distance, row = (x[:, 0] for x in knn(fake, train, 1)) if nearest is None else nearest
    rows, inverse = row.to(train.device).unique(return_inverse=True)
    own = knn(train[rows], train, 2).distances[:, 1]  # the first is the row itself
    return float((distance.to(own) > own[inverse]).double().mean())


def data_copying_test(
    train: Tensor,
    heldout: Tensor,
    fake: Tensor,
    cells: Cells | None = None,
    num_cells: int = 3,
    *,
    seed: int = 0,
    nearest: tuple[Tensor, Tensor] | None = None,
    keep: Keep = compute_again,
) -> float:
    """C_T: far below 0 if samples lie nearer to training than held-out data do (Meehan, 2020).

    2004.05675. The mean over cells of a Mann-Whitney z-score, weighted by held-out counts, where
    20 or more samples fall. Without `cells`, k-means on train makes them (in 64 principal
    components if d > 64). It is not a standard normal: its spread depends on the cells. `nearest`
    has the distances (n,) and rows (n,) of the nearest training rows where known, and `keep` what
    depends on the references alone.
    """
    _check(train=train, heldout=heldout, fake=fake)
    t, h, g = _kmeans_cells(train, heldout, fake, num_cells, seed, keep) if cells is None else cells

    def of_heldout() -> NDArray[np.float64]:
        return _nearest_in_cell(heldout, train, h, t).cpu().numpy()[:, None]

    of_fake = _nearest_in_cell(fake, train, g, t, nearest)
    known = keep("C_T", of_heldout, 1) if cells is None else of_heldout()
    distance = torch.from_numpy(known)[:, 0].to(of_fake)
    weights, scores = [], []
    for cell in t.unique():
        own, others = of_fake[g == cell], distance[h == cell]
        if len(own) > 20 and len(others) > 0:
            weights.append(len(others))
            scores.append(_mann_whitney_z(own, others))
    if not weights:
        raise NotComputable(
            f"no cell holds more than 20 of the {len(fake)} samples and a held-out row:"
            " add samples or use fewer cells"
        )
    return float(np.average(scores, weights=weights))


def _nearest_in_cell(
    rows: Tensor,
    train: Tensor,
    cells: Tensor,
    train_cells: Tensor,
    nearest: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Distance (n,) of each row to the nearest training row of its cell; inf in an empty one.

    Only rows whose `nearest` training row is of another cell are searched for.
    """
    found = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=train.device)
    missing = torch.ones(len(rows), dtype=torch.bool, device=train.device)
    if nearest is not None:
        distance, row = (x.to(train.device) for x in nearest)
        missing = train_cells[row] != cells
        found[~missing] = distance[~missing]
    for cell in cells[missing].unique():
        own = ((cells == cell) & missing).nonzero()[:, 0]
        there = (train_cells == cell).nonzero()[:, 0]
        if len(there):
            found[own] = knn(rows[own], Rows(train, there), 1).distances[:, 0]
    return found


def _mann_whitney_z(fake: Tensor, heldout: Tensor) -> float:
    """z-score of the number of pairs with the sample farther than the held-out row; ties half."""
    g, h = fake.flatten(), heldout.flatten().sort().values
    below, up_to = torch.searchsorted(h, g), torch.searchsorted(h, g, right=True)
    u = float((below + up_to).double().sum()) / 2
    n, m = len(h), len(g)
    return (u - (n * m / 2 - 0.5)) / (n * m * (n + m + 1) / 12) ** 0.5


def _kmeans_cells(
    train: Tensor, heldout: Tensor, fake: Tensor, count: int, seed: int, keep: Keep
) -> Cells:
    def of_references() -> NDArray[np.int64]:
        model = of_train()
        return np.concatenate([_cell_of(x, model) for x in (train, heldout)])[:, None]

    def of_train() -> NDArray[np.float64]:
        return _fit_cells(train, count, seed)

    width = train.shape[1] + 1
    labels = torch.from_numpy(keep("cells of references", of_references, 1, np.int64))[:, 0]
    own = torch.from_numpy(_cell_of(fake, keep("cells", of_train, width)))
    t, h, g = (x.to(train.device) for x in (*labels.split([len(train), len(heldout)]), own))
    return t, h, g


def _fit_cells(train: Tensor, count: int, seed: int) -> NDArray[np.float64]:
    """k-means of training: cells as rows of weights and a bias, the largest of which is a row's.

    |P x - c|^2 less |P x|^2 is linear in x, whatever linear map P comes first.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    x = choose_rows(train, FITTED).detach().cpu().double().numpy()
    mean, components = np.zeros(x.shape[1]), np.eye(x.shape[1])
    if x.shape[1] > 64 and len(x) > 64:
        pca: Any = PCA(64, random_state=seed).fit(x)
        mean, components = pca.mean_, pca.components_
    kmeans: Any = KMeans(min(count, len(train)), random_state=seed)
    centres = kmeans.set_params(n_init=10).fit((x - mean) @ components.T).cluster_centers_
    weights = centres @ components
    bias = -weights @ mean - 0.5 * np.square(centres).sum(1)
    return np.concatenate([weights, bias[:, None]], 1)


def _cell_of(x: Tensor, model: NDArray[np.float64]) -> NDArray[np.int64]:
    parts = [
        (block.detach().cpu().double().numpy() @ model[:, :-1].T + model[:, -1]).argmax(1)
        for block in x.split(8192)
    ]
    return np.concatenate(parts)


def _unit(x: Tensor) -> Tensor:
    x = x.double()
    return x / x.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def _check(**features: Tensor) -> None:
    for name, x in features.items():
        check_features(x, name)
    check_same_width(**features)


def _memorization_informed(sets: FeatureSets) -> float:
    distance = known_distance(sets).value
    return memorization_informed_frechet_distance(sets.train, sets.fake, distance=distance)


def _data_copying(sets: FeatureSets) -> Values:
    assert sets.heldout is not None
    train, heldout, fake = (
        choose_rows(x, MOST_ROWS) for x in (sets.train, sets.heldout, sets.fake)
    )
    whole = len(train) == len(sets.train) and len(fake) == len(sets.fake)
    nearest = sets.nearest if whole else None
    return (
        data_copying_test(train, heldout, fake, seed=sets.seed, nearest=nearest, keep=sets.keep),
    )


MEASURES = (
    Measure(
        (
            Metric(
                "memorization_informed_frechet_distance",
                "Memorization-informed Fréchet distance",
                "The Fréchet distance, made larger where samples lie very close to training"
                " images.",
                better="lower; its tau is Inception's",
                direction="lower",
            ),
        ),
        lambda sets: (_memorization_informed(sets),),
        at_least=2,
        position=11,
    ),
    Measure(
        (
            Metric(
                "authenticity",
                "Authenticity",
                "Samples farther from their nearest training image than that is from its own"
                " neighbour; not calibrated by held-out images.",
                "novelty",
                "higher",
                "higher",
                "share",
            ),
        ),
        lambda sets: (authenticity(sets.train, sets.fake, nearest=sets.nearest),),
        at_least=2,
        position=210,
    ),
    Measure(
        (
            Metric(
                "data_copying_ct",
                "Data-copying C_T",
                "Rank test of distances to training, samples against held-out images; copies, and"
                " samples that are too typical, push it far below 0.",
                "novelty",
                "not far below 0",
            ),
        ),
        _data_copying,
        needs="heldout",
        position=220,
    ),
)
