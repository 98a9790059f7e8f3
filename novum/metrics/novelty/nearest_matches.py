"""Each sample's nearest item of training and held-out data together, found without their labels.

If the generator did not copy, then, given the samples, which items of this pool were trained on is
mere chance: whatever is chosen without looking at labels meets training items at their share of the
pool, however truncated or underfit the generator is and however the two sets differ in size.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from novum.core.errors import InputError
from novum.metrics.checks import check_features, check_same_width
from novum.metrics.neighbours import Search, distinct_rows, found_in, knn

HELDOUT, NEITHER, TRAIN = -1, 0, 1


class Matches(NamedTuple):
    """Per sample: the pool's nearest item and how plainly it is the nearest.

    Equal rows are one item. One that is in both sets says nothing about copying: it is on no side.
    """

    item: Tensor  # (m,) int64, row in training followed by held-out data, the first of equal ones
    side: Tensor  # (m,) int8: TRAIN, HELDOUT or NEITHER
    margin: Tensor  # (m,) float64, any score that does not know the labels; larger is plainer
    train_items: int  # distinct items on each side
    heldout_items: int


class Clusters(NamedTuple):
    """Samples that match one item share its luck, so they are one draw. Margins descend."""

    item: Tensor  # (c,)
    trained: Tensor  # (c,) bool
    margin: Tensor  # (c,) the largest of its samples'
    size: Tensor  # (c,) number of its samples


def find_matches(
    train: Tensor,
    heldout: Tensor,
    fake: Tensor,
    k: int = 5,
    *,
    seed: int = 0,
    search: Search = knn,
) -> Matches:
    """Match each sample with its nearest item, at margin log(k-th distance / nearest distance).

    A few near-duplicates (up to k - 2 others) don't hide a copy. Items at one distance are put in
    order by (seeded) chance. `search` may be `knn_together`.
    """
    for name, x in {"train": train, "heldout": heldout, "fake": fake}.items():
        check_features(x, name, at_least=1)
    check_same_width(train=train, heldout=heldout, fake=fake)
    firsts = [distinct_rows(x)[0] for x in (train, heldout)]
    sets = [x if len(f) == len(x) else x[f] for x, f in zip((train, heldout), firsts, strict=True)]
    in_both = [found_in(a, b) for a, b in (sets, sets[::-1])]
    item = torch.cat([firsts[0], firsts[1] + len(train)])
    side = torch.cat([TRAIN * (~in_both[0]).to(torch.int8), HELDOUT * (~in_both[1]).to(torch.int8)])
    near = [search(fake, x, min(k, len(x))) for x in sets]
    distances = torch.cat([n.distances for n in near], 1)
    rows = torch.cat([near[0].indices, near[1].indices + len(sets[0])], 1)
    again = (rows >= len(sets[0])) & (side[rows] == NEITHER)  # known from training
    distances, order = _by_chance_where_equal(distances.masked_fill(again, torch.inf), rows, seed)
    nearest = rows.gather(1, order[:, :1])[:, 0]
    last = min(k, len(item) - int(in_both[1].sum())) - 1
    margin = (distances[:, last].log() - distances[:, 0].log()).nan_to_num(0, posinf=torch.inf)
    train_items, heldout_items = (int((side == s).sum()) for s in (TRAIN, HELDOUT))
    return Matches(item[nearest], side[nearest], margin, train_items, heldout_items)


def _by_chance_where_equal(distances: Tensor, rows: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Each row's distances ascending, and their order; equal ones in a random order of items."""
    generator = torch.Generator().manual_seed(seed)
    rank = torch.randperm(int(rows.max()) + 1, generator=generator).to(rows.device)[rows]
    by_rank = rank.argsort(1)
    distances, order = distances.gather(1, by_rank).sort(dim=1, stable=True)
    return distances, by_rank.gather(1, order)


def margin_of(ratio: float) -> float:
    """The margin of a sample that is `ratio` times nearer to its item than to the k-th."""
    if not ratio > 1:
        raise InputError(f"ratio = {ratio} is not nearer: take one above 1, such as 2")
    return math.log(ratio)


def find_clusters(matches: Matches, at_least: float = -torch.inf) -> Clusters:
    """The clusters of the samples whose margin is `at_least` this."""
    kept = (matches.side != NEITHER) & (matches.margin >= at_least)
    item, inverse, size = matches.item[kept].unique(return_inverse=True, return_counts=True)
    empty = matches.margin.new_empty(len(item))
    margin = empty.scatter_reduce(0, inverse, matches.margin[kept], "amax", include_self=False)
    trained = torch.zeros_like(item, dtype=torch.bool)
    trained[inverse] = matches.side[kept] == TRAIN
    order = margin.argsort(descending=True)
    return Clusters(item[order], trained[order], margin[order], size[order])
