"""Each sample's nearest item of training and held-out data together, found without their labels.

If the generator did not copy, then, given the samples, which items of this pool were trained on is
mere chance: whatever is chosen without looking at labels meets training items at their share of the
pool, however truncated or underfit the generator is and however the two sets differ in size.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from novum.metrics.checks import check_features, check_same_width
from novum.metrics.neighbours import distinct_rows, knn

HELDOUT, NEITHER, TRAIN = -1, 0, 1


class Matches(NamedTuple):
    """Per sample: the pool's nearest item and how plainly it is the nearest.

    Equal rows are one item. One that is in both sets tells nothing of copying: it is on no side.
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
    train: Tensor, heldout: Tensor, fake: Tensor, k: int = 5, *, seed: int = 0
) -> Matches:
    """Match each sample with its nearest item, at margin log(k-th distance / nearest distance).

    A few near-duplicates (up to k - 2 others) don't hide a copy. The pool is searched in a seeded
    random order, so that a tie of distances between items is settled by chance.
    """
    for name, x in {"train": train, "heldout": heldout, "fake": fake}.items():
        check_features(x, name, at_least=1)
    check_same_width(train=train, heldout=heldout, fake=fake)
    pool = torch.cat([train, heldout])
    first, inverse = distinct_rows(pool)
    side = _sides(inverse, len(train), len(first))
    order = torch.randperm(len(first), generator=torch.Generator().manual_seed(seed)).to(
        pool.device
    )
    distances, nearest = knn(fake, pool[first[order]], min(k, len(first)))
    item = order[nearest[:, 0]]
    margin = (distances[:, -1].log() - distances[:, 0].log()).nan_to_num(0, posinf=torch.inf)
    train_items, heldout_items = (int((side == s).sum()) for s in (TRAIN, HELDOUT))
    return Matches(first[item], side[item], margin, train_items, heldout_items)


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


def _sides(inverse: Tensor, num_train: int, num_items: int) -> Tensor:
    """The side of each distinct item, (num_items,) int8."""
    side = torch.zeros(num_items, dtype=torch.int8, device=inverse.device)
    in_heldout = side.bool().index_fill(0, inverse[num_train:], True)
    in_train = side.bool().index_fill(0, inverse[:num_train], True)
    return in_train.to(torch.int8) - in_heldout.to(torch.int8)
