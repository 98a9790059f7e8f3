"""Each sample's nearest item of training and held-out data together, found without their labels."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from novum.core.errors import InputError
from novum.metrics.candidate_filter import Rows
from novum.metrics.checks import check_features, check_same_width
from novum.metrics.neighbours import Search, by_distance, knn
from novum.metrics.novelty.nearest import Parts
from novum.metrics.novelty.pool import Pool, draw_pool

HELDOUT, TRAIN = -1, 1
NEAREST = 5  # up to three other near-duplicates don't hide a copy


class Matches(NamedTuple):
    """Per sample: the pool's nearest item and how plainly it is the nearest."""

    item: Tensor  # (m,) int64, the item's row in training followed by held-out data
    side: Tensor  # (m,) int8: TRAIN or HELDOUT
    margin: Tensor  # (m,) float64, any score that does not know the labels; larger is plainer
    train_items: int  # distinct items on each side, or groups of them
    heldout_items: int
    unit: Tensor | None = None  # (m,) int64, the group of the item, if groups were held out whole

    @property
    def draw(self) -> Tensor:
        """Independent draw of each sample: samples of one group, or of one item, are one."""
        return self.item if self.unit is None else self.unit


class Clusters(NamedTuple):
    """Samples that match one item share its luck, so they are one draw. Margins descend."""

    item: Tensor  # (c,) numbers of the items, or of their groups
    trained: Tensor  # (c,) bool
    margin: Tensor  # (c,) the largest of its samples'
    size: Tensor  # (c,) number of its samples


def find_matches(
    train: Tensor,
    heldout: Tensor,
    fake: Tensor,
    k: int = NEAREST,
    *,
    seed: int = 0,
    search: Search = knn,
) -> Matches:
    """Match each sample with its nearest item, at margin log(k-th distance / nearest distance).

    Items at one distance are put in order by (seeded) chance. `search` may be `knn_together`.
    """
    check_features(fake, "fake", at_least=1)
    check_same_width(train=train, heldout=heldout, fake=fake)
    pool = draw_pool(train, heldout, seed)
    return match_pool(fake, pool, pool.table(train, heldout), k, search=search)


def match_pool(
    fake: Tensor, pool: Pool, items: Tensor | Rows, k: int = NEAREST, *, search: Search = knn
) -> Matches:
    """`find_matches` in a pool that is drawn, of which `items` (g, d) are the features."""
    near = search(fake, items, min(k, len(items)))
    nearest = near.indices[:, 0].to(pool.rows.device)
    return matches_of(pool, nearest, margins(near.distances))


def match_parts(
    fake: Tensor,
    parts: Parts,
    pool: Pool,
    items: Tensor | Rows,
    k: int = NEAREST,
    *,
    search: Search = knn,
) -> Matches:
    """`match_pool` from at least k rows of each part; what they leave open is searched for."""
    k = min(k, len(items))
    item = pool.of_row[parts.rows]
    stands = pool.rows[item] == parts.rows  # other rows of an item are no item of their own
    distances, item = by_distance(parts.distances.where(stands, torch.inf), item)
    nearest, distances = item[:, 0], distances[:, :k]
    first, second = distances[:, 0], distances[:, min(1, k - 1)]
    tied = (first == second) & (first > 0) & (k > 1)  # perhaps in the square roots alone
    settled = (distances[:, -1] <= parts.known) & (first < parts.known) & ~tied
    rest = (~settled).nonzero()[:, 0]
    if len(rest):
        near = search(fake[rest.to(fake.device)], items, k)
        distances[rest], nearest[rest] = near.distances, near.indices[:, 0]
    return matches_of(pool, nearest, margins(distances))


def matches_of(pool: Pool, nearest: Tensor, margin: Tensor) -> Matches:
    """Matches from the position of each sample's nearest item in the pool."""
    side = torch.where(pool.trained[nearest], TRAIN, HELDOUT).to(torch.int8)
    counts = pool.train_items, pool.heldout_items
    return Matches(pool.rows[nearest], side, margin, *counts, pool.unit[nearest])


def margins(distances: Tensor) -> Tensor:
    """log(last / first) of ascending distances (m, k); 0 where all are 0."""
    return (distances[:, -1].log() - distances[:, 0].log()).nan_to_num(0, posinf=torch.inf)


def margin_of(ratio: float) -> float:
    """The margin of a sample that is `ratio` times nearer to its item than to the k-th."""
    if not ratio > 1:
        raise InputError(f"ratio = {ratio} is not nearer: take one above 1, such as 2")
    return math.log(ratio)


def find_clusters(matches: Matches, at_least: float = -torch.inf) -> Clusters:
    """The clusters of the samples whose margin is `at_least` this."""
    kept = matches.margin >= at_least
    item, inverse, size = matches.draw[kept].unique(return_inverse=True, return_counts=True)
    empty = matches.margin.new_empty(len(item))
    margin = empty.scatter_reduce(0, inverse, matches.margin[kept], "amax", include_self=False)
    trained = torch.zeros_like(item, dtype=torch.bool)
    trained[inverse] = matches.side[kept] == TRAIN
    order = margin.argsort(descending=True)
    return Clusters(item[order], trained[order], margin[order], size[order])
