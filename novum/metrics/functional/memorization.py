"""Memorization metrics: distances of samples to the training set.

Each has a blind spot: a truncated generator that copies nothing looks like a copier to authenticity
and C_T, and an underfit one that copies some of its samples does not.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from novum.core.errors import NotComputable
from novum.core.precision import full_precision
from novum.metrics.checks import check_features, check_same_width
from novum.metrics.functional.frechet import (
    FRECHET_DISTANCE,
    frechet_distance_from_features,
    frechet_distance_interval,
    known_moments,
)
from novum.metrics.neighbours import knn
from novum.metrics.record import FeatureSets, Measure, Metric, Values
from novum.metrics.subsets import choose_rows

MOST_ROWS = 50_000  # of each set that the test takes
FITTED = 10_000  # of training that k-means is fitted to

Cells = tuple[Tensor, Tensor, Tensor]  # labels of train, heldout and fake rows


def memorization_distance(real: Tensor, fake: Tensor) -> float:
    """Mean over generated of min over real of 1 - |cos| (Bai et al., 2021, 2106.03062)."""
    _check(real=real, fake=fake)
    near = _most_similar(real, fake)
    similarity = (_unit(real[near]) * _unit(fake)).sum(1).abs()
    return float((1 - similarity).clamp(min=0).mean())


def _most_similar(real: Tensor, fake: Tensor) -> Tensor:
    """Row (m,) of `real` with the largest |cos| to each of `fake`, up to float32's rounding."""
    units = _unit(fake).float()
    best = torch.full((len(fake),), -1.0, device=fake.device)
    index = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    with full_precision(fake.device):
        for start in range(0, len(real), 4096):
            block = _unit(real[start : start + 4096]).float().T
            for own in torch.arange(len(fake), device=fake.device).split(1024):
                largest, at = (units[own] @ block).abs_().max(1)
                index[own] = torch.where(largest > best[own], at + start, index[own])
                best[own] = torch.maximum(best[own], largest)
    return index


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
) -> float:
    """C_T: far below 0 if samples lie nearer to training than held-out data do (Meehan, 2020).

    2004.05675. The mean over cells of a Mann-Whitney z-score, weighted by held-out counts, where
    20 or more samples fall. Without `cells`, k-means on train makes them (in 64 principal
    components if d > 64). It is not a standard normal: its spread depends on the cells.
    """
    _check(train=train, heldout=heldout, fake=fake)
    labels = _kmeans_cells(train, heldout, fake, num_cells, seed) if cells is None else cells
    weights, scores = [], []
    for cell in labels[0].unique():
        t, h, g = (x[c == cell] for x, c in zip((train, heldout, fake), labels, strict=True))
        if len(g) > 20 and len(h) > 0:
            weights.append(len(h))
            scores.append(_mann_whitney_z(knn(g, t, 1).distances, knn(h, t, 1).distances))
    if not weights:
        raise NotComputable(
            f"no cell holds more than 20 of the {len(fake)} samples and a held-out row:"
            " add samples or use fewer cells"
        )
    return float(np.average(scores, weights=weights))


def _mann_whitney_z(fake: Tensor, heldout: Tensor) -> float:
    """z-score of the number of pairs with the sample farther than the held-out row; ties half."""
    g, h = fake.flatten(), heldout.flatten().sort().values
    below, up_to = torch.searchsorted(h, g), torch.searchsorted(h, g, right=True)
    u = float((below + up_to).double().sum()) / 2
    n, m = len(h), len(g)
    return (u - (n * m / 2 - 0.5)) / (n * m * (n + m + 1) / 12) ** 0.5


def _kmeans_cells(train: Tensor, heldout: Tensor, fake: Tensor, count: int, seed: int) -> Cells:
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    sets = [x.detach().cpu().double().numpy() for x in (train, heldout, fake)]
    chosen = choose_rows(torch.arange(len(train)), FITTED).numpy()
    if train.shape[1] > 64 and len(chosen) > 64:
        pca = PCA(64, random_state=seed).fit(sets[0][chosen])
        sets = [pca.transform(x) for x in sets]
    kmeans: Any = KMeans(min(count, len(train)), random_state=seed)
    kmeans.set_params(n_init=10).fit(sets[0][chosen])
    t, h, g = (torch.from_numpy(kmeans.predict(x)).to(train.device) for x in sets)
    return t, h, g


def _unit(x: Tensor) -> Tensor:
    x = x.double()
    return x / x.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def _check(**features: Tensor) -> None:
    for name, x in features.items():
        check_features(x, name)
    check_same_width(**features)


def _frechet_distances(sets: FeatureSets) -> Values:
    distance = frechet_distance_interval(known_moments(sets), sets.fake)
    return distance, memorization_informed_frechet_distance(
        sets.train, sets.fake, distance=distance.value
    )


def _data_copying(sets: FeatureSets) -> Values:
    assert sets.heldout is not None
    train, heldout, fake = (
        choose_rows(x, MOST_ROWS) for x in (sets.train, sets.heldout, sets.fake)
    )
    return (data_copying_test(train, heldout, fake, seed=sets.seed),)


MEASURES = (
    Measure(
        (
            FRECHET_DISTANCE,
            Metric(
                "memorization_informed_frechet_distance",
                "Memorization-informed Fréchet distance",
                "The Fréchet distance, made larger where samples lie very close to training"
                " images.",
                better="lower; its tau is Inception's",
                direction="lower",
            ),
        ),
        _frechet_distances,
        at_least=2,
        position=10,
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
