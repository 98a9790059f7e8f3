"""Facts: samples identical to a training image, or nearer to one than any chance explains.

A fact needs no held-out data to be listed. What it proves does: in data that repeats itself, fresh
images are identical to training images too.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.metrics.novelty.combined import Combined
from novum.metrics.novelty.nearest_matches import TRAIN
from novum.metrics.subsets import choose_rows


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


def near_identical(combined: Combined, error: float) -> tuple[Tensor, int]:
    """Rows of samples that match a training item more plainly than any fresh image would.

    Of m samples that copy nothing one passes with probability `error` at most, as the decay of the
    pool's own margins is extrapolated. The second value is how many match a held-out item as
    plainly, none of which is a copy: if there are any, the extrapolation does not hold.
    """
    matches = combined.matches
    threshold = math.log(combined.spaces * max(len(matches.margin), 1) / error)
    passing = matches.margin >= threshold
    train = matches.side == TRAIN
    return (passing & train).nonzero()[:, 0], int((passing & ~train).sum())
