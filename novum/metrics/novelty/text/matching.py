"""Matching statistics: how far a text can be read on, from each of its positions, in another.

Exact, in time linear in the text but for logarithms: where two positions can be read on up to the
same end, so can all between them; for the others the first 128 characters are searched for, and
what goes on beyond these is found by a suffix array of nothing but such passages. Of several shards
the longest passage counts; as they overlap by what is searched for, their ends cut none.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydivsufsort import divsufsort, kasai
from torch.distributed import ReduceOp

from novum.core import distributed
from novum.metrics.novelty.text.index import (
    OVERLAP,
    Places,
    Shard,
    TextIndex,
    Tokens,
    Words,
    bisect,
    common_length,
    insertion_points,
    suffix_order,
)

FAR = OVERLAP  # tokens after which the search goes another way
STRIDE = 8  # every such position is searched for, and of the others those that need it
BLOCK = 1 << 15  # positions at a time: their arrays stay in the cache

Ints = NDArray[np.int64]


class Matching(NamedTuple):
    """For each position the longest passage that stands in the corpus too."""

    length: Ints  # (m,) tokens


class _Far(NamedTuple):
    """Passages of FAR tokens that a shard has: of equal ones the first that was met."""

    above: Places  # ascending: suffixes of the shard up to these passages
    start: Ints  # in the text


def match(
    index: TextIndex, tokens: Tokens, ends: Places | None = None, *, together: bool = False
) -> Matching:
    """Longest common passages of `tokens` with the indexed text (Chang & Lawler, 1994).

    Args:
        tokens: (m,) in the vocabulary of the index.
        ends: (m,) where each position's passage has to end at the latest: the end of its sample, or
            the next character that the vocabulary does not know.
        together: All ranks search at once, each in a part of the shards or for a part of the
            positions.
    """
    if not len(tokens):
        return Matching(np.zeros(0, np.int64))
    queries = _queries(index, tokens)
    length, groups = _search(index, queries, together)
    far = np.flatnonzero(length >= FAR)
    if len(far):
        length[far] = _read_on(index, queries, far, _places(index, queries, groups, together))
    if ends is not None:
        np.minimum(length, ends - np.arange(len(tokens)), out=length)
    return Matching(length)


def first_places(index: TextIndex, tokens: Tokens, starts: Ints, lengths: Ints) -> Ints:
    """The first place in the corpus of each of some passages, which it has.

    Args:
        tokens: (m,) of the text that has them, too.
        starts: Where they begin there.
        lengths: Tokens of each.
    """
    queries, most = _queries(index, tokens), np.minimum(lengths, FAR)
    found = np.full(len(starts), len(index))
    for shard in index.shards:
        above = insertion_points(shard, queries, starts, FAR)

        def shares(
            rank: Places, which: Places, shard: Shard = shard, least: Ints = most
        ) -> NDArray[np.bool_]:
            places = shard.places(rank)
            return common_length(shard.text, places, queries, starts[which], FAR) >= least[which]

        low = bisect(np.zeros_like(above), above, lambda r, which: ~shares(r, which))  # noqa: B023
        high = bisect(above, np.full_like(above, len(shard)), shares)
        for i in np.flatnonzero(low < high).tolist():
            places = shard.places(np.arange(low[i], high[i]))
            if lengths[i] > FAR:
                own = np.full(len(places), starts[i])
                common = common_length(shard.text, places, queries, own, int(lengths[i]))
                places = places[common >= lengths[i]]
            found[i] = min(int(places.min(initial=len(index))), found[i])
    return found


def _queries(index: TextIndex, tokens: Tokens) -> Words:
    return Words(tokens.astype(index.text.tokens.dtype.newbyteorder("=")))


def _search(index: TextIndex, queries: Words, together: bool) -> tuple[Ints, list[_Far]]:
    """Lengths of matches, of up to FAR tokens, and the longest ones of each shard."""
    m = len(queries)
    length = np.zeros(m + 1, np.int64)  # nothing is read on from the end
    far: list[list[_Far]] = [[] for _ in index.shards]

    def search(part: tuple[int, slice]) -> NDArray[np.int64]:
        shard = index.shards[part[0]]
        found, above = _in_shard(shard, queries, starts[part[1]])
        new, which = np.unique(above[found >= FAR], return_index=True)
        far[part[0]].append(_Far(new, starts[part[1]][found >= FAR][which]))
        return found

    ascending = suffix_order(queries.tokens)  # neighbours are then looked for in the same places
    open_ = np.zeros(m, bool)
    open_[::STRIDE] = True
    step = STRIDE
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        while step:
            starts = ascending[open_[ascending]].astype(np.int64)
            parts = list(_parts(len(index.shards), len(starts)))
            own = parts[distributed.shard(len(parts))] if together else parts
            new = np.zeros(len(starts), np.int64)
            # numpy lets other threads work
            for (_, block), found in zip(own, pool.map(search, own), strict=True):
                np.maximum(new[block], found, out=new[block])
            if together:
                distributed.all_reduce(new, "passages in common", ReduceOp.MAX)
            length[starts] = new
            step //= 2
            if step:
                between = np.arange(step, m, 2 * step)
                before, after = between - step, np.minimum(between + step, m)
                end = before + length[before]
                known = end == after + length[after]
                length[between] = end - between
                open_[:] = False
                open_[between[~known]] = True
    return length[:m], [_distinct(found) for found in far]


def _parts(shards: int, starts: int) -> Iterator[tuple[int, slice]]:
    """Numbers of shards and blocks of positions, each shard after another."""
    for shard in range(shards):
        for begin in range(0, starts, BLOCK):
            yield shard, slice(begin, min(begin + BLOCK, starts))


def _distinct(found: list[_Far]) -> _Far:
    if not found:
        return _Far(np.zeros(0, np.int64), np.zeros(0, np.int64))
    above, start = map(np.concatenate, zip(*found, strict=True))
    above, which = np.unique(above, return_index=True)
    return _Far(above, start[which])


def _in_shard(shard: Shard, queries: Words, starts: Places) -> tuple[Ints, Places]:
    """Length, up to FAR, in the better of the two suffixes that a query falls between, and how many
    suffixes come before it."""
    above = insertion_points(shard, queries, starts, FAR)
    sides = []
    for rank in (above - 1, above):
        place = shard.places(np.clip(rank, 0, len(shard) - 1))
        sides.append(common_length(shard.text, place, queries, starts, FAR))
    return np.maximum(*sides), above


def _places(index: TextIndex, queries: Words, groups: list[_Far], together: bool) -> Ints:
    """Every place of the corpus where the first FAR tokens of a long match stand, ascending."""
    found = []
    for shard, group in zip(index.shards, groups, strict=True):
        low = insertion_points(shard, queries, group.start, FAR, right=False)
        found.append(shard.places(_ranges(low, group.above)))
    places = np.concatenate(found)
    if together:
        shared = distributed.all_gather_rows(torch.from_numpy(places), "long passages in common")
        return np.unique(shared.numpy())
    return np.sort(places)


def _read_on(index: TextIndex, queries: Words, far: Places, places: Ints) -> Ints:
    """Exact lengths of the matches from positions `far` (ascending), all of FAR tokens or more.

    The few passages of the corpus that begin like one of them and the query's own are sorted
    together.
    """
    there = _covered(places[places <= len(index) - FAR])  # none that the end cuts short
    here = _covered(far)
    pieces = np.concatenate([_passages(index.text, there), _passages(queries, here)])
    pieces = pieces.astype(np.min_scalar_type(pieces.max()))
    order = divsufsort(pieces)
    shared = kasai(pieces, order).astype(np.int64)  # with the next in order
    known = order < len(there)
    length = _nearest_known(known, np.roll(shared, 1))
    np.maximum(length, _nearest_known(known[::-1], shared[::-1])[::-1], out=length)
    best = np.zeros(len(queries) + 1, np.int64)  # the last is that of separators
    own = np.flatnonzero(~known)
    best[here[order[own] - len(there)]] = length[own]
    return np.minimum(best[far], _run_ends(far) - far)


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


def _nearest_known(known: NDArray[np.bool_], shared: Places) -> Ints:
    """For each of a sorted row the tokens shared with the last known one before it.

    Args:
        shared: Tokens that each shares with the one before it.
    """
    group = np.cumsum(known)
    beyond = int(shared.max(initial=0)) + 1
    level = np.where(known, beyond, shared) - group * (beyond + 1)  # below all before it
    least = np.minimum.accumulate(level) + group * (beyond + 1)
    return np.where(group > 0, least, 0)
