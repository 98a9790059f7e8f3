"""Facts: samples identical to a training image, or nearer to one than any chance explains.

A fact needs no held-out data to be listed. What it proves does: in data that repeats itself, fresh
images are identical to training images too.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.metrics.novelty.combined import Combined, surprise
from novum.metrics.novelty.nearest_matches import TRAIN
from novum.metrics.novelty.negative_control import PoolMatches
from novum.metrics.subsets import choose_rows

SLOWER = 2.0  # so that a single sample is no natural near-duplicate


class Shared(NamedTuple):
    """Distinct items of a set, and how many of them equal a training item."""

    distinct: int
    in_train: int


class Identical(NamedTuple):
    """Samples that equal a training image, and what is to be expected of fresh images."""

    samples: Tensor  # (k,) int64, rows of samples that equal a training image
    train: Tensor  # (k,) int64, the first training row that each equals
    overlap: Shared  # of the samples
    heldout: Shared | None  # of as many held-out images at most
    repeated: Shared  # of training images, as many: those that occur more than once
    pool_pairs: int  # images of training and held-out data that equal an earlier one
    heldout_rows: int  # all held-out images that equal a training image
    leak_p: float  # of "held-out images equal training images as often as these each other"

    @property
    def p(self) -> float:
        """p-value of "samples equal training images as often as fresh images do".

        Fisher's exact test of distinct images, against held-out images and against training images
        that have an equal; the larger of the two. 0 if nothing in the pool equals anything else.
        """
        if not self.overlap.in_train:
            return 1.0
        if not self.pool_pairs:
            return 0.0
        references = [self.repeated] if self.heldout is None else [self.heldout, self.repeated]
        return max(_fisher(self.overlap, reference) for reference in references)


def find_identical(
    of_samples: np.ndarray, of_train: np.ndarray, of_heldout: np.ndarray | None
) -> Identical:
    """Compare keys (n,), equal for equal images, such as hashes of them, of three sets."""
    known, first, times = np.unique(of_train, return_index=True, return_counts=True)
    place = np.searchsorted(known, of_samples).clip(max=len(known) - 1)
    equal = known[place] == of_samples
    rows = equal.nonzero()[0]
    heldout = of_train[:0] if of_heldout is None else of_heldout
    chosen = choose_rows(torch.arange(len(heldout)), len(of_samples))
    as_many = heldout[chosen.numpy()]  # more of them would be rarer ones
    again = known[times > 1]

    def repeated(rows: int) -> Shared:
        chosen = choose_rows(torch.arange(len(of_train)), rows)
        return _shared(of_train[chosen.numpy()], again)

    pool = np.concatenate([of_train, heldout])
    return Identical(
        torch.from_numpy(rows),
        torch.from_numpy(first[place[rows]]),
        _shared(of_samples, known),
        None if of_heldout is None else _shared(as_many, known),
        repeated(len(as_many) or len(of_samples)),
        len(pool) - len(np.unique(pool)),
        int(np.isin(heldout, known).sum()),
        _fisher(_shared(heldout, known), repeated(len(heldout))) if len(heldout) else 1.0,
    )


def _shared(rows: np.ndarray, known: np.ndarray) -> Shared:
    distinct = np.unique(rows)
    return Shared(len(distinct), int(np.isin(distinct, known).sum()))


def _fisher(found: Shared, reference: Shared) -> float:
    """One-sided p-value of as large a share as found, given that of the reference."""
    from scipy.stats import hypergeom

    total = found.distinct + reference.distinct
    equal = found.in_train + reference.in_train
    return float(hypergeom(total, equal, found.distinct).sf(found.in_train - 1))


class NearIdentical(NamedTuple):
    """Samples that match a training item more plainly than fresh images would."""

    samples: Tensor  # (k,) int64, rows
    train: Tensor  # (k,) int64, the training row that each matches
    margin: Tensor  # (k,) surprise of each: -ln of the share of fresh images as near
    heldout: int  # samples that match a held-out item as plainly, none of which is a copy
    pool: int  # items of training and held-out data that match another one as plainly
    p: float  # of "samples are so near to an item as often as the pool's items are"


def near_identical(
    combined: Combined, usual: list[PoolMatches], error: float, known: Tensor | None = None
) -> NearIdentical:
    """Samples that match a training item more plainly than any of m fresh images would.

    With probability `error` at most one of them passes, as the decay of the margins of the pool's
    own items is extrapolated. Real data holds a few near-duplicates that pass nevertheless, so p is
    that of Fisher's exact test of the samples against the pool's items, in the space that shows
    most (Bonferroni). It is 0 if no item of the pool passes and a sample would even if margins
    decayed SLOWER times as slow.

    Args:
        usual: Matches of the pool's own items, of each space of `combined`.
        known: Rows of samples that are left out, since `find_identical` judges them.
    """
    matches = combined.matches
    threshold = math.log(combined.spaces * max(len(matches.margin), 1) / error)
    judged = torch.ones_like(matches.margin, dtype=torch.bool)
    if known is not None:
        judged[known] = False
    passing, train = judged & (matches.margin >= threshold), matches.side == TRAIN
    distinct = len(matches.item[judged].unique())
    in_pool, p = 0, 1.0
    for number, space in enumerate(usual):
        as_near = int((surprise(space.margin, space.margin) >= threshold).sum())
        items = matches.item[passing & train & (combined.space == number)].unique()
        reference = Shared(len(space.margin), as_near)
        p = min(p, len(usual) * _fisher(Shared(distinct, len(items)), reference))
        in_pool = max(in_pool, as_near)
    rows = (passing & train).nonzero()[:, 0]
    if not in_pool and (matches.margin[rows] >= SLOWER * threshold).any():
        p = 0.0
    as_near = int((passing & ~train).sum())
    return NearIdentical(rows, matches.item[rows], matches.margin[rows], as_near, in_pool, p)
