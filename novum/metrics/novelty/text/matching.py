"""Matching statistics: how far a text can be read on, from each of its positions, in another.

Exact, in time linear in the text but for logarithms: where two positions can be read on up to the
same end, so can all between them; for the others the first 128 characters are searched for, and
what goes on beyond these is found by a suffix array of nothing but such passages.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydivsufsort import divsufsort, kasai

from novum.core import distributed
from novum.metrics.novelty.text.index import (
    Places,
    TextIndex,
    Tokens,
    Words,
    common_length,
    insertion_points,
    suffix_order,
)

FAR = 128  # tokens after which the search goes another way
STRIDE = 8  # every such position is searched for, and of the others those that need it
BLOCK = 1 << 15  # positions at a time: their arrays stay in the cache


class Matching(NamedTuple):
    """For each position the longest passage that stands in the corpus too."""

    length: NDArray[np.int64]  # (m,) tokens
    place: NDArray[np.int64]  # (m,) where in the corpus, one place of maybe several


def match(
    index: TextIndex, tokens: Tokens, ends: Places | None = None, *, together: bool = False
) -> Matching:
    """Longest common passages of `tokens` with the indexed text (Chang & Lawler, 1994).

    Args:
        tokens: (m,) in the vocabulary of the index.
        ends: (m,) where each position's passage has to end at the latest: the end of its sample, or
            the next character that the vocabulary does not know.
        together: All ranks search at once, each for a part of the positions.
    """
    if not len(tokens):
        return Matching(np.zeros(0, np.int64), np.zeros(0, np.int64))
    queries = Words(tokens.astype(index.text.tokens.dtype.newbyteorder("=")))
    found, above = _search(index, queries, together)
    far = np.flatnonzero(found.length >= FAR)
    if len(far):
        found.length[far], found.place[far] = _read_on(index, queries, far, above[far])
    if ends is not None:
        np.minimum(found.length, ends - np.arange(len(tokens)), out=found.length)
    return found


def _search(index: TextIndex, queries: Words, together: bool) -> tuple[Matching, Places]:
    """Matches of up to FAR tokens, and how many suffixes come before those that are longer."""
    m = len(queries)
    found = np.zeros((3, m + 1), np.int64)  # nothing is read on from the end
    length, place, above = found

    def search(starts: Places) -> NDArray[np.int64]:
        ahead = insertion_points(index, queries, starts, FAR)
        nearest = _nearer_neighbour(index, queries, starts, ahead)
        return np.stack([*nearest, ahead]).astype(np.int64, copy=False)

    ascending = suffix_order(queries)  # neighbours are then looked for in the same places
    open_ = np.zeros(m, bool)
    open_[::STRIDE] = True
    step = STRIDE
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        while step:
            starts = ascending[open_[ascending]]
            own = distributed.shard(len(starts), BLOCK) if together else slice(0, len(starts))
            blocks = np.split(starts[own], np.arange(own.start, own.stop, BLOCK)[1:] - own.start)
            new = np.zeros((3, len(starts)), np.int64)
            # numpy lets other threads work
            new[:, own] = np.concatenate([*pool.map(search, blocks)], 1)
            if together:
                distributed.all_reduce_sum((new,), "passages in common")
            found[:, starts] = new
            step //= 2
            if step:
                between = np.arange(step, m, 2 * step)
                before, after = between - step, np.minimum(between + step, m)
                end = before + length[before]
                known = end == after + length[after]
                length[between] = end - between
                place[between] = place[before] + step
                open_[:] = False
                open_[between[~known]] = True
    return Matching(length[:m], place[:m]), above


def _nearer_neighbour(
    index: TextIndex, queries: Words, starts: Places, above: Places
) -> tuple[NDArray, NDArray]:
    """Length, up to FAR, and place of the better of the two suffixes that a query falls between."""
    sides = []
    for rank in (above - 1, above):
        place = index.order[np.clip(rank, 0, len(index) - 1)].astype(np.int64)
        sides.append((common_length(index.text, place, queries, starts, FAR), place))
    (below, place_below), (over, place_over) = sides
    better = over > below
    return np.where(better, over, below), np.where(better, place_over, place_below)


def _read_on(
    index: TextIndex, queries: Words, far: Places, above: Places
) -> tuple[NDArray, NDArray]:
    """Exact matches of the positions `far` (ascending), which all go on for FAR tokens or more.

    Every place of the corpus where the first FAR tokens of one of them stand is collected; these
    few passages and the query's own are sorted together.
    """
    ranks, which = np.unique(above, return_index=True)
    low = insertion_points(index, queries, far[which], FAR, right=False)
    places = np.sort(index.order[_ranges(low, ranks)].astype(np.int64))
    there = _covered(places[places <= len(index) - FAR])  # none that the end cuts short
    here = _covered(far)
    pieces = np.concatenate([_passages(index.text, there), _passages(queries, here)])
    pieces = pieces.astype(np.min_scalar_type(pieces.max()))
    order = divsufsort(pieces)
    shared = kasai(pieces, order).astype(np.int64)  # with the next in order
    known = order < len(there)
    length, rank = _nearest_known(known, np.roll(shared, 1))
    back_length, back_rank = (x[::-1] for x in _nearest_known(known[::-1], shared[::-1]))
    rank = np.where(back_length > length, len(order) - 1 - back_rank, rank)
    np.maximum(length, back_length, out=length)
    best = np.zeros((2, len(queries) + 1), np.int64)  # the last column is that of separators
    own = np.flatnonzero(~known)
    best[:, here[order[own] - len(there)]] = length[own], there[order[rank[own]]]
    length, place = best[:, far]
    return np.minimum(length, _run_ends(far) - far), place


def _covered(starts: Places) -> NDArray[np.int64]:
    """All positions of the passages of FAR tokens from these (ascending) on, -1 after each run."""
    ends = _run_ends(starts)
    last = np.flatnonzero(np.append(ends[1:] != ends[:-1], True))
    first = np.append(0, last[:-1] + 1)
    positions = _ranges(starts[first], ends[last] + 1)
    positions[np.cumsum(ends[last] + 1 - starts[first]) - 1] = -1
    return positions


def _passages(text: Words, positions: Places) -> NDArray[np.int32]:
    """Tokens there, from 1 on; 0 for a position of -1."""
    return np.where(positions < 0, 0, text.tokens[positions].astype(np.int32) + 1)


def _run_ends(starts: Places) -> NDArray[np.int64]:
    """End of the run of overlapping passages of FAR tokens that each belongs to."""
    last = np.append(starts[1:] - starts[:-1] > FAR, True)
    ends = np.flatnonzero(last)
    own = ends[np.searchsorted(ends, np.arange(len(starts)))]
    return (starts[own] + FAR).astype(np.int64, copy=False)


def _ranges(starts: Places, ends: Places) -> NDArray[np.int64]:
    """starts[0] .. ends[0] - 1, starts[1] .. ends[1] - 1, and so on."""
    sizes = ends - starts
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(sizes.sum())


def _nearest_known(known: NDArray[np.bool_], shared: Places) -> tuple[NDArray, NDArray]:
    """For each of a sorted row the tokens shared with the last known one before it, and its rank.

    Args:
        shared: Tokens that each shares with the one before it.
    """
    group = np.cumsum(known)
    beyond = int(shared.max(initial=0)) + 1
    level = np.where(known, beyond, shared) - group * (beyond + 1)  # below all before it
    least = np.minimum.accumulate(level) + group * (beyond + 1)
    ranks = np.append(0, np.flatnonzero(known))
    return np.where(group > 0, least, 0), ranks[group]
