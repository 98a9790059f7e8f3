"""Are held-out images as like the training images as these are to one another?

All that is said of copying rests on it: a held-out set of another kind makes any sample look
nearer to training.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from novum.metrics.checks import check_features, check_same_width
from novum.metrics.neighbours import knn

ROWS = 2000  # of each set; a share of .55 where .5 is fair is seen with these


class Exchangeability(NamedTuple):
    share: float  # of rows whose nearest other row is of their own set; as many of each: .5 is fair
    p: float


def exchangeability_test(
    train: Tensor, heldout: Tensor, rows: int = ROWS, permutations: int = 999, seed: int = 0
) -> Exchangeability:
    """Nearest-neighbour two-sample test (Schilling, 1986), from features (n, d).

    Equal numbers of both are pooled, and how often a row's nearest other row is of its own set is
    compared with what random relabelling gives: p is exact in any sample, and small if the two sets
    differ in kind.
    """
    for name, x in (("train", train), ("heldout", heldout)):
        check_features(x, name, at_least=2)
    check_same_width(train=train, heldout=heldout)
    generator = torch.Generator().manual_seed(seed)
    size = min(rows, len(train), len(heldout))
    chosen = [x[torch.randperm(len(x), generator=generator)[:size]] for x in (train, heldout)]
    nearest = _nearest_others(torch.cat(chosen))
    labels = (torch.arange(2 * size) < size).to(torch.uint8)
    observed = int((labels == labels[nearest]).sum())
    exceeded = 0
    for _ in range(permutations):
        shuffled = labels[torch.randperm(2 * size, generator=generator)]
        exceeded += int((shuffled == shuffled[nearest]).sum()) >= observed
    return Exchangeability(observed / (2 * size), (1 + exceeded) / (1 + permutations))


def _nearest_others(pool: Tensor) -> Tensor:
    """Row number of each row's nearest other row, (n,) on the CPU."""
    found = knn(pool, pool, 2).indices.cpu()  # a row itself comes first, unless its equal does
    itself = torch.arange(len(pool))
    return torch.where(found[:, 0] == itself, found[:, 1], found[:, 0])
