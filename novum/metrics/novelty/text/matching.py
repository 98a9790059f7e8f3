"""Matching statistics: how far a text can be read on, from each of its positions, in another.

Exact, in time linear in the text but for logarithms: where two positions can be read on up to the
same end, so can all between them, so a copied passage is searched for at its ends alone. Of several
shards the longest passage counts, and those that go on beyond a shard's end are read on from there.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
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

STRIDES = 4096, 512, 64, 8, 4, 2, 1  # of positions searched for: after the first, where needed
BLOCK = 1 << 15  # positions at a time: their arrays stay in the cache
REPEATING = 16  # tokens to compare in a round, for each of the text, from which repeats are used
PASSES = 1 << 12, 1 << 6, 1  # one in so many of repeats is searched for at a time
UNKNOWN = -1  # length

Ints = NDArray[np.int64]


class Matching(NamedTuple):
    """For each position the longest passage that stands in the corpus too."""

    length: Ints  # (m,) tokens


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
    length = _search(index, queries, together)
    for shard in index.shards[:-1]:
        np.maximum(length, _across(index, queries, shard.stop), out=length)
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
    queries, most = _queries(index, tokens), np.minimum(lengths, OVERLAP)
    found = np.full(len(starts), len(index))
    for shard in index.shards:
        above = insertion_points(shard, queries, starts, OVERLAP)

        def shares(rank: Places, which: Places, shard: Shard = shard) -> NDArray[np.bool_]:
            own = shard.places(rank), queries, starts[which]
            return common_length(shard.text, *own, OVERLAP) >= most[which]

        low = bisect(np.zeros_like(above), above, lambda r, which: ~shares(r, which))  # noqa: B023
        high = bisect(above, np.full_like(above, len(shard)), shares)
        for i in np.flatnonzero(low < high).tolist():
            places = shard.places(np.arange(low[i], high[i]))
            if lengths[i] > OVERLAP:
                own = np.full(len(places), starts[i])
                common = common_length(shard.text, places, queries, own, int(lengths[i]))
                places = places[common >= lengths[i]]
            found[i] = min(int(places.min(initial=len(index))), found[i])
    return found


def _queries(index: TextIndex, tokens: Tokens) -> Words:
    return Words(tokens.astype(index.text.tokens.dtype.newbyteorder("=")))


def _search(index: TextIndex, queries: Words, together: bool) -> Ints:
    """Lengths of the longest passages that stand in the text of one shard."""
    m = len(queries)
    length = np.append(np.full(m, UNKNOWN), 0)  # nothing is read on from the end
    repeats: _Repeats | None = None
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:

        def search(starts: Places) -> None:
            length[starts] = _in_shards(index, queries, starts, threads, together)

        search(np.arange(0, m, STRIDES[0]))
        for apart, step in pairwise(STRIDES):
            starts, most = _between(length, apart, step)
            if most > REPEATING * m:
                repeats = repeats or _repeats_of(queries.tokens)
                for every in PASSES:
                    starts = _unlike(repeats, length, starts)
                    search(starts[::every])
            else:
                search(starts)
    return length[:m]


def _in_shards(
    index: TextIndex, queries: Words, starts: Places, threads: ThreadPoolExecutor, together: bool
) -> Ints:
    """Lengths for these positions; if `together`, all ranks ask for the same."""
    order = np.argsort(queries.at(starts), kind="stable")  # neighbours are looked for together
    parts = list(_parts(len(index.shards), len(starts)))
    own = parts[distributed.shard(len(parts))] if together else parts

    def search(part: tuple[int, slice]) -> Places:
        return _in_shard(index.shards[part[0]], queries, starts[order[part[1]]])

    found = np.zeros(len(starts), np.int64)
    # numpy lets other threads work
    for (_, block), length in zip(own, threads.map(search, own), strict=True):
        np.maximum(found[block], length, out=found[block])
    if together:
        distributed.all_reduce(found, "passages in common", ReduceOp.MAX)
    out = np.empty(len(starts), np.int64)
    out[order] = found
    return out


def _between(length: Ints, apart: int, step: int) -> tuple[Ints, int]:
    """Each so many-th position between known ones that are so far apart, if it has to be searched
    for, and tokens to compare for them all. The others' lengths are set.
    """
    m = len(length) - 1
    between = np.arange(0, m, step)
    between = between[between % apart > 0]
    before = between - between % apart
    after = np.minimum(before + apart, m)
    end = before + length[before]
    known = end == after + length[after]
    length[between] = np.where(known, end - between, UNKNOWN)
    longest = np.maximum(length[before], length[after])
    return between[~known], int(longest[~known].sum())


class _Repeats(NamedTuple):
    """The order of a text's suffixes, and the tokens that each shares with the next."""

    order: NDArray[np.int32]
    shared: Ints


def _repeats_of(tokens: NDArray) -> _Repeats:
    order = suffix_order(tokens)
    native = tokens.astype(tokens.dtype.newbyteorder("="))
    return _Repeats(order, kasai(native, order).astype(np.int64))


def _unlike(repeats: _Repeats, length: Ints, starts: Places) -> Places:
    """Those of some positions, in order, that may not have the length of a known one.

    They have it if they share more with it than it does with the corpus, as in a text that repeats
    itself; it is then set.
    """
    order, shared = repeats
    for own, others in ((order, np.roll(shared, 1)), (order[::-1], shared[::-1])):
        known = length[own] >= 0
        nearest = np.maximum.accumulate(np.where(known, np.arange(len(own)), 0))
        known_length = length[own[nearest]]
        same = ~known & (_nearest_known(known, others) > known_length)
        length[own[same]] = known_length[same]
    open_ = np.zeros(len(order), bool)
    open_[starts] = length[starts] < 0
    return order[open_[order]]


def _parts(shards: int, starts: int) -> Iterator[tuple[int, slice]]:
    """Numbers of shards and blocks of positions, each shard after another."""
    for shard in range(shards):
        for begin in range(0, starts, BLOCK):
            yield shard, slice(begin, min(begin + BLOCK, starts))


def _in_shard(shard: Shard, queries: Words, starts: Places) -> Places:
    """Tokens in common with the better of the two suffixes that a query falls between."""
    most = len(queries) + len(shard.text)
    above = insertion_points(shard, queries, starts, most)
    sides = []
    for rank in (above - 1, above):
        place = shard.places(np.clip(rank, 0, len(shard) - 1))
        sides.append(common_length(shard.text, place, queries, starts, most, shard.stop))
    return np.maximum(*sides)


def _across(index: TextIndex, queries: Words, place: int) -> Ints:
    """Lengths of passages that go on across a place of the corpus, OVERLAP tokens after a shard."""
    m, text = len(queries), index.text.tokens
    if place >= len(index):
        return np.zeros(m, np.int64)
    border = place - OVERLAP
    starts = np.flatnonzero(queries.at(np.arange(m)) == index.text.at(np.array([border])))
    at = np.full(len(starts), border)
    common = common_length(index.text, at, queries, starts, OVERLAP)
    if not (common == OVERLAP).any():
        return np.zeros(m, np.int64)
    after = np.append(_shared_with(queries.tokens, text[place : place + m]), 0)
    before = _shared_with(queries.tokens[::-1], text[max(place - m, 0) : place][::-1])
    before = np.append(0, before[::-1])  # tokens in common that end where a position begins
    ends = np.zeros(m + 1, np.int64)
    whole = np.flatnonzero(before)
    np.maximum.at(ends, whole - before[whole], whole + after[whole])
    # what follows the first token of a passage stands in the corpus too
    return np.maximum(np.maximum.accumulate(ends)[:m] - np.arange(m), 0)


def _shared_with(tokens: NDArray, other: NDArray) -> Ints:
    """Tokens that `tokens`, from each of its positions on, shares with the beginning of another."""
    pieces = np.concatenate([tokens.astype(np.int32) + 1, [0], other.astype(np.int32) + 1])
    pieces = pieces.astype(np.min_scalar_type(pieces.max()))
    order = divsufsort(pieces)
    shared = kasai(pieces, order).astype(np.int64)  # with the next in order
    known = order == len(tokens) + 1
    length = _nearest_known(known, np.roll(shared, 1))
    np.maximum(length, _nearest_known(known[::-1], shared[::-1])[::-1], out=length)
    out = np.empty(len(pieces), np.int64)
    out[order] = length
    return out[: len(tokens)]


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
