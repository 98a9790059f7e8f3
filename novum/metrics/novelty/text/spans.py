"""Copied passages, their places, and the share of new n-grams."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.metrics.novelty.text.matching import Matching

LONG = 50  # characters from which a common passage is called a copy
NGRAMS = 50  # longest n-grams counted


class Spans(NamedTuple):
    """Passages that stand in a corpus, in ascending order."""

    start: NDArray[np.int64]  # (k,) in the text
    length: NDArray[np.int64]

    @property
    def stop(self) -> NDArray[np.int64]:
        return self.start + self.length

    def at(self, rows: NDArray) -> "Spans":
        return Spans(*(column[rows] for column in self))


def maximal_matches(found: Matching) -> Spans:
    """The matches that no other one contains: their starts and their ends both ascend."""
    before = np.append(-1, found.length[:-1])
    first = np.flatnonzero((found.length > 0) & (found.length != before - 1))
    return Spans(first, found.length[first])


def copied_spans(found: Matching, at_least: int = LONG) -> Spans:
    """Maximal copies of at least `at_least` tokens that do not overlap.

    Where two do, the first ends where the second begins if it stays long enough, else the second is
    cut or, if too little of it is left, dropped.
    """
    matches = maximal_matches(found)
    matches = matches.at(matches.length >= at_least)
    kept: list[list[int]] = []  # start, stop
    for start, length in zip(*(column.tolist() for column in matches), strict=True):
        stop = start + length
        if kept and start < kept[-1][1]:
            if start - kept[-1][0] >= at_least:
                kept[-1][1] = start
            else:
                start = kept[-1][1]
        if stop - start >= at_least:
            kept.append([start, stop])
    starts, stops = np.array(kept, np.int64).reshape(-1, 2).T
    return Spans(starts, stops - starts)


def copied(found: Matching, at_least: int = LONG) -> NDArray[np.bool_]:
    """(m,) Whether a token lies inside a passage of so many tokens that the corpus has too."""
    starts = np.flatnonzero(found.length >= at_least)
    return inside_of(starts, found.length[starts], len(found.length))


def inside_of(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], size: int
) -> NDArray[np.bool_]:
    """(size,) Whether a place lies inside of some passage."""
    edges = np.bincount(starts, minlength=size + 1) - np.bincount(
        starts + lengths, minlength=size + 1
    )
    return np.cumsum(edges[:-1]) > 0


def novel_ngrams(
    found: Matching, ends: NDArray[np.int64], most: int = NGRAMS
) -> NDArray[np.float64]:
    """Share of the text's n-grams absent from the corpus, n = 1 .. most (McCoy et al., 2023).

    Args:
        ends: (m,) Where the n-grams that begin at a position have to end at the latest.

    Returns:
        (most,) NaN where no n-gram of that length fits.
    """
    room = ends - np.arange(len(ends))
    longer, known = (
        np.bincount(np.minimum(x, most), minlength=most + 1)[::-1].cumsum()[::-1][1:]
        for x in (room, found.length)
    )
    return np.where(longer > 0, (longer - known) / np.maximum(longer, 1), np.nan)
