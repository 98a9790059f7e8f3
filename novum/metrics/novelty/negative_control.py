"""The negative control: training rows, judged as samples are, must not look like copies.

If held-out data was processed otherwise (another resize filter, sharpening, contrast), every fresh
sample is nearer to training, and so is every training row to the other ones. What samples show
beyond what training rows show of themselves is what is left for copying.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.metrics.candidate_filter import Rows
from novum.metrics.neighbours import Search, knn
from novum.metrics.novelty.nearest_matches import NEAREST, TRAIN, Matches, margins
from novum.metrics.novelty.pool import Pool

ROWS = 10_000  # items of the pool that are judged at most
RATIOS = (2.0, 1.25, 1.0)  # of distances, at which excesses are compared
PERMUTATIONS = 999
MOST_SIBLINGS = 64  # nearer ones of its own group that an item may have


class PoolMatches(NamedTuple):
    """Items of the pool, each with its nearest other item."""

    own: Tensor  # (r,) int64, positions in the pool
    nearest: Tensor  # (r,) int64
    margin: Tensor  # (r,) float64
    drawn: Pool


class Excess(NamedTuple):
    """Share of rows that match training items, less what the held-out matches say is chance."""

    value: float
    standard_error: float

    def over(self, other: "Excess", z: float) -> float:
        """Lower limit of the difference, z standard errors below it."""
        return self.value - other.value - z * math.hypot(self.standard_error, other.standard_error)


class NegativeControl(NamedTuple):
    excess: list[Excess]  # of training rows, at each of RATIOS
    p: float  # of "held-out rows are as like the training rows as these are each other"


def match_within_pool(
    pool: Pool, items: Tensor | Rows, rows: int = ROWS, k: int = NEAREST, *, search: Search = knn
) -> PoolMatches:
    """Match items of the pool, in its random order, each with those of other units.

    `items` is (g, d). An item whose neighbours are all of its own group is left out.
    """
    own = torch.arange(min(rows, len(items)))
    siblings = min(int(pool.unit.bincount().max()), MOST_SIBLINGS)
    near = search(items[: len(own)], items, min(k + siblings, len(items)))
    indices, distances = near.indices.cpu(), near.distances.cpu()
    kept, nearest, distances = nearest_others(
        pool, own, indices, distances, max(1, min(k, len(items) - siblings))
    )
    return PoolMatches(own[kept], nearest, margins(distances), pool)


def nearest_others(
    pool: Pool, own: Tensor, found: Tensor, scores: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """First k neighbours (r, n) of items (r,) that are of other units than their own.

    Returns a mask (r,) of the items that have so many, the nearest of each of these, and the scores
    of its k.
    """
    same = pool.unit[found] == pool.unit[own][:, None]
    others = same.byte().argsort(dim=1, stable=True)[:, :k]
    kept = ~same.gather(1, others)[:, -1]
    return kept, found.gather(1, others)[kept, 0], scores.gather(1, others)[kept]


def negative_control(
    found: PoolMatches, permutations: int = PERMUTATIONS, seed: int = 0
) -> NegativeControl:
    """Excess of training rows over chance, and its permutation p-value.

    p is of the largest excess over the ratios, each in its standard deviation under permutation of
    the labels of all units: exact, as the rows judged are chosen without them.
    """
    kept = torch.stack([found.margin >= math.log(ratio) for ratio in RATIOS]).double()
    unit = found.drawn.unit
    seen, place = torch.cat([unit[found.own], unit[found.nearest]]).unique(return_inverse=True)
    own, near = place.split(len(found.own))
    odds, trained = _odds(found.drawn), found.drawn.unit_trained
    observed = _sums(trained[seen][None], own, near, kept, odds)
    labels = _permuted(trained, len(seen), permutations, seed)
    chance = torch.cat([_sums(block, own, near, kept, odds) for block in labels.split(64)], 1)
    mean, scale = chance.mean(1, keepdim=True), chance.std(1, keepdim=True).clamp_min(1e-12)
    largest = ((observed - mean) / scale).max()
    exceeded = int((((chance - mean) / scale).max(0).values >= largest).sum())
    return NegativeControl(
        [_rows_excess(found, math.log(ratio)) for ratio in RATIOS],
        (1 + exceeded) / (1 + permutations),
    )


def _permuted(trained: Tensor, units: int, permutations: int, seed: int) -> Tensor:
    """The first labels (permutations, units) of random orders of all labels.

    How many of them are of training is hypergeometric; in which places, any are as likely.
    """
    random = np.random.default_rng(seed)
    every = int(trained.sum())
    drawn = random.hypergeometric(every, len(trained) - every, units, permutations)
    labels = torch.arange(units).expand(permutations, -1) < torch.from_numpy(drawn)[:, None]
    return torch.from_numpy(random.permuted(labels.numpy(), axis=1))


def _sums(labels: Tensor, own: Tensor, near: Tensor, kept: Tensor, odds: float) -> Tensor:
    """Summed scores (ratios, b) of the training rows under each of b labellings of units.

    `own` and `near` (r,) are the places in the labels (b, units) of each row and its nearest.
    """
    of_near = torch.where(labels[:, near], 1.0, -odds).double()
    return kept @ (of_near * labels[:, own]).T


def _odds(pool: Pool) -> float:
    """Training units for each held-out one, of the pool without that of a training row."""
    return max(pool.train_items - 1, 0) / max(pool.heldout_items, 1)


def _rows_excess(found: PoolMatches, margin: float) -> Excess:
    """Rows that are each other's nearest share their luck, as those of one item do."""
    pool = found.drawn
    rows = pool.trained[found.own]
    own, near = found.own[rows], found.nearest[rows]
    nearest_of = torch.full((len(pool.rows),), -1)
    nearest_of[found.own] = found.nearest
    mutual = (nearest_of[near] == own) & pool.trained[near]
    cluster = pool.unit[torch.where(mutual, torch.minimum(own, near), near)]
    return _excess(pool.trained[near], found.margin[rows] >= margin, cluster, _odds(pool))


def samples_excess(matches: Matches, margin: float) -> Excess:
    """Excess of samples that match training items, clustered by item."""
    odds = matches.train_items / max(matches.heldout_items, 1)
    return _excess(matches.side == TRAIN, matches.margin >= margin, matches.draw, odds)


def _excess(trained: Tensor, kept: Tensor, cluster: Tensor, odds: float) -> Excess:
    if not len(trained):
        return Excess(0.0, math.inf)
    score = torch.where(trained, 1.0, -odds).double() * kept
    _, inverse = cluster.unique(return_inverse=True)
    sums = torch.zeros(int(inverse.max()) + 1, dtype=torch.float64).index_add_(0, inverse, score)
    # held-out matches are rare where training is large: allow for one more that was not met
    variance = float(sums.square().sum()) + (odds if float((score < 0).sum()) == 0 else 0.0)
    return Excess(float(score.mean()), math.sqrt(variance) / len(score))


def excess_over_control(matches: Matches, control: NegativeControl, error: float) -> float:
    """Lower limit of the samples' excess over that of training rows, the largest of the ratios.

    `error` is the chance that it is above the truth, over all ratios (Bonferroni).
    """
    from scipy.stats import norm

    z = float(norm.ppf(1 - error / len(RATIOS)))
    return max(
        samples_excess(matches, math.log(ratio)).over(rows, z)
        for ratio, rows in zip(RATIOS, control.excess, strict=True)
    )
