"""Passages that a text shares with a pool, altered or not, each with a score in bits.

n-grams that both have, each long enough to single out a place, are joined into runs along
diagonals. The runs between a window of the text and a window of the pool are evidence that one was
copied from the other, in whatever order they stand. A run counts for as many bits as a fresh author
would need luck to write it, or, if that is less, as an n-gram model of the pool would: the bits of
the place to go on from, and of each choice after it. Gaps cost nothing but what they do not have.
"""

import math
import statistics
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from novum.core import distributed
from novum.core.vocabulary import Tokens
from novum.metrics.novelty.text.index import Words
from novum.metrics.novelty.text.information import LONGEST, Scale
from novum.metrics.novelty.text.ngram_seeds import Hits, Occurrences, Seeds, find_seeds

STEP = 200  # tokens from one window to the next; a window is two of them
CHUNK = 160 * STEP  # tokens of the text that are searched for at once
GROUP = 32  # chunks whose n-grams are looked up together, in the order of the index
BOILERPLATE = 10  # documents that share a passage from which it is a set phrase
LEAST = 15.0  # bits of a passage that is looked at
SOURCES = 64  # of a window, at most
AT_ONCE = 64  # pairs of windows that are looked at between two looks at what is taken
GAP_BITS = 0.1  # a token between two runs of a passage
NEIGHBOURS = 20_000  # tokens around a passage of a single document that go with it
REPEATED = 1.3  # times as long as its source, from which a passage has it more than once
STRAY_BITS, STRAY = 10.0, 40  # bits of a run that may end a passage so far off the best diagonal
NONE = -99.0  # score of a window that shares nothing

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Pool(NamedTuple):
    """Training text, then held-out text, in one row, indexed by n-grams."""

    seeds: Seeds
    scale: Scale
    train_size: int  # tokens
    documents: Ints  # (d,) where documents begin
    whole: tuple[bool, bool]  # training, held-out text: is it a single document?

    @property
    def tokens(self) -> Tokens:
        return self.seeds.text.tokens

    @property
    def jump(self) -> float:
        """Bits of another place in the same window: one of those that runs begin at hits it."""
        size = len(self.tokens)
        return max(0.0, math.log2(max(size / (2 * STEP), 2)) - math.log2(2 * STEP / self.usual))

    @property
    def usual(self) -> float:
        """Tokens of an n-gram."""
        wanted = math.log2(max(len(self.tokens), 2)) + 1
        return min(max(wanted / max(self.scale.usual, 0.1), 2), LONGEST)

    def document(self, places: Ints) -> Ints:
        return np.searchsorted(self.documents, places, "right") - 1


class Runs(NamedTuple):
    """Passages in common, without gaps; of windows of a text, in ascending order of `start`."""

    start: Ints  # in the text
    place: Ints  # in the pool
    length: Ints
    unit: Ints  # its document of the pool and its text: a passage stays within one of each
    bits: Floats  # what it counts for
    own_bits: Floats  # the same, 0 if it is a set phrase or stands in held-out text too


class Windows(NamedTuple):
    """The best match in the pool of each window, one for each STEP tokens of a text."""

    score: Floats  # (w,) bits; NONE: it shares nothing
    place: Ints  # (w,) of some of it in the pool; -1


class Passages(NamedTuple):
    """Passages of a text and where they stand in training text. Scores descend."""

    start: Ints
    stop: Ints
    place: Ints  # in training text
    place_stop: Ints
    score: Floats  # bits beyond what it shares with many documents or held-out text
    whole_score: Floats  # with these
    documents: Ints  # that have it, as far as was looked; the least over its runs
    common: NDArray[np.bool_]  # held-out text has it too
    matched: Ints  # tokens inside of runs

    def at(self, rows: NDArray) -> "Passages":
        return passages_of(column[rows] for column in self)


def passages_of(columns: Iterable[NDArray]) -> Passages:
    return Passages(*columns)  # pyright: ignore[reportArgumentType]


Row = tuple[int, int, int, int, float, float, int, bool, int]  # of Passages


def joined(parts: Iterable[Passages]) -> Passages:
    """Passages of several parts of a text."""
    return passages_of(map(np.concatenate, zip(*parts, strict=True)))


class Found(NamedTuple):
    windows: Windows
    passages: Passages


def search(
    pool: Pool,
    tokens: Tokens,
    ends: Ints | None = None,
    stops: Ints | None = None,
    at: int | None = None,
    *,
    together: bool = False,
) -> Found:
    """Passages that a text shares with the pool.

    Args:
        tokens: (m,)
        ends: (m,) where each n-gram has to end at the latest.
        stops: (t,) where each of several texts ends.
        at: Where the text itself stands in the pool, if it is of it: it is then compared with the
            other documents, or, if there is but one, with what is not near it.
        together: All ranks search at once, each for a part.
    """
    queries = Words(tokens)
    whole = np.array([len(tokens)])
    limits = np.repeat(whole, len(tokens)) if ends is None else ends
    texts = whole if stops is None else stops
    sums = _sums(pool.scale.bits(tokens)), _sums(pool.scale.decisions(tokens))
    chunks = range(0, len(tokens), CHUNK)
    own = chunks[distributed.shard(len(chunks))] if together else chunks
    found: list[tuple[Windows, list[Row]]] = []
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for first in range(0, len(own), GROUP):
            group = own[first : first + GROUP]
            known = _occurrences(pool, queries, limits, group, threads)

            def chunk(begin: int, known: list[Occurrences] = known) -> tuple[Windows, list[Row]]:
                return _search_chunk(pool, known, len(queries), texts, sums, begin, at)

            found += threads.map(chunk, group)
    if together:
        found = [x for part in distributed.all_gather_objects(found, "near copies") for x in part]
    windows = [w for w, _ in found] or [Windows(np.zeros(0), np.zeros(0, np.int64))]
    candidates = [p for _, part in found for p in part]
    return Found(
        Windows(*map(np.concatenate, zip(*windows, strict=True))),
        _merged(_stacked(candidates), pool, texts),
    )


def _occurrences(
    pool: Pool, queries: Words, ends: Ints, chunks: range, threads: ThreadPoolExecutor
) -> list[Occurrences]:
    """Places of the n-grams of some chunks, and of a step around them, a part for each thread."""
    first = max(0, chunks[0] - STEP)
    stop = min(chunks[-1] + CHUNK + STEP, len(queries))
    edges = np.linspace(first, stop, torch.get_num_threads() + 1).astype(int).tolist()

    def find(part: tuple[int, int]) -> Occurrences:
        return find_seeds(pool.seeds, queries, pool.scale, *part, ends)

    return [*threads.map(find, pairwise(edges))]


def _sums(bits: NDArray) -> Floats:
    return np.append(0, np.cumsum(bits, dtype=np.float64))


def _search_chunk(
    pool: Pool,
    known: list[Occurrences],
    size: int,
    stops: Ints,
    sums: tuple[Floats, Floats],
    begin: int,
    at: int | None,
) -> tuple[Windows, list[Row]]:
    first = max(0, begin - STEP)
    stop = min(begin + CHUNK + STEP, size)
    parts = [part.hits(first, stop) for part in known]
    hits = Hits(*map(np.concatenate, zip(*parts, strict=True)))
    if at is not None:
        hits = hits.at(np.flatnonzero(_elsewhere(pool, hits, at)))
    runs, documents, common = _runs(pool, hits, sums, stops, first, stop)
    count = -(-(min(begin + CHUNK, size) - begin) // STEP)
    windows = range(begin // STEP, begin // STEP + count)
    keyed = _by_windows(runs, pool, windows)
    return (
        _best(keyed, runs, windows),
        _candidates(runs, documents, common, keyed, pool, windows),
    )


def _elsewhere(pool: Pool, hits: Hits, at: int) -> NDArray[np.bool_]:
    """Mask of hits that are not of the text's own document."""
    own = hits.start + at
    same = pool.document(own) == pool.document(hits.place)
    single = pool.whole[0] if at < pool.train_size else pool.whole[1]
    if not single:
        return ~same
    size = pool.train_size if at < pool.train_size else len(pool.tokens) - pool.train_size
    return ~same | (np.abs(hits.place - own) >= min(NEIGHBOURS, size // 8))


def _runs(
    pool: Pool, hits: Hits, sums: tuple[Floats, Floats], stops: Ints, first: int, stop: int
) -> tuple[Runs, Ints, NDArray[np.bool_]]:
    """Runs, the number of documents that share each, and whether held-out text has it too.

    They are cut where a step ends.
    """
    start, place, length = hits
    among, known = _shared(pool, hits, first, stop)
    order = np.argsort((place - start + stop) * (2 * CHUNK) + start - first)  # by diagonals
    start, place, length = (x[order] for x in hits)
    diagonal = place - start
    follows = np.zeros(len(start), bool)
    follows[1:] = (diagonal[1:] == diagonal[:-1]) & (start[1:] == start[:-1] + 1)
    begins = np.flatnonzero(~follows | (start % STEP == 0))
    goes_on = follows[begins]
    if not len(begins):
        empty = np.zeros(0, np.int64)
        none = Runs(empty, empty, empty, empty, np.zeros(0), np.zeros(0))
        return none, empty, np.zeros(0, bool)
    last = np.append(begins[1:], len(start)) - 1
    end = np.maximum.reduceat(start + length, begins)
    end = np.where(np.append(goes_on[1:], False), start[last] + 1, end)
    begin, seed = start[begins], length[begins]
    informed, decided = sums
    fresh = informed[end] - informed[begin]
    recited = decided[end] - decided[np.minimum(np.where(goes_on, begin, begin + seed), end)]
    bits = np.where(
        goes_on,
        np.minimum(fresh, recited),
        np.minimum(fresh - math.log2(2 * STEP), recited + pool.jump),
    )
    bits = np.maximum(bits, 0)
    documents = np.minimum.reduceat(among[start - first], begins)
    common = np.minimum.reduceat(known[start - first].astype(np.int8), begins) > 0
    own = np.where(common | (documents >= BOILERPLATE), 0, bits)
    texts = np.searchsorted(stops, begin, "right")
    unit = texts * len(pool.documents) + pool.document(place[begins])
    unit = np.unique(unit, return_inverse=True)[1]
    return Runs(begin, place[begins], end - begin, unit, bits, own), documents, common


def _shared(pool: Pool, hits: Hits, first: int, stop: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Documents that have each position's n-gram, and whether held-out text has it."""
    size = stop - first
    known = np.zeros(size, bool)
    known[hits.start[hits.place >= pool.train_size] - first] = True
    documents = pool.document(hits.place)
    pairs = np.sort((hits.start - first) * len(pool.documents) + documents)  # np.unique hashes
    starts = pairs[np.diff(pairs, prepend=-1) > 0] // len(pool.documents)
    return np.bincount(starts, minlength=size), known


class _Keyed(NamedTuple):
    """Runs by window of the text and window of the pool, each run in up to four pairs of these.

    Of pairs with less than LEAST bits the best one of each window is kept.
    """

    run: Ints
    pair: Ints  # number of its pair, ascending
    window: Ints  # (p,) of each pair
    place: Ints  # (p,) where the pool's window begins
    score: Floats  # (p,) bits


def _by_windows(runs: Runs, pool: Pool, windows: range) -> _Keyed:
    width = len(pool.tokens) // STEP + 2
    units = int(runs.unit.max(initial=0)) + 1
    keys, which = [], []
    for more in (0, 1):
        window = runs.start // STEP - more
        inside = np.flatnonzero((window >= windows.start) & (window < windows.stop))
        for more_place in (0, 1):
            place = runs.place[inside] // STEP - more_place + 1
            pair = (window[inside] - windows.start) * width + place
            keys.append(pair * units + runs.unit[inside])
            which.append(inside)
    key, run = np.concatenate(keys), np.concatenate(which)
    order = _stable_order(key)
    key, run = key[order], run[order]
    first = np.flatnonzero(np.append(True, key[1:] != key[:-1])) if len(key) else key
    pairs, sizes = key[first], np.diff(first, append=len(key))
    most = np.add.reduceat(runs.bits[run], first) if len(key) else np.zeros(0)
    window = pairs // units // width
    best = np.zeros(len(windows))
    np.maximum.at(best, window, most)
    kept = (most - pool.jump >= LEAST) | (most >= best[window])
    run, pairs, sizes = run[np.repeat(kept, sizes)], pairs[kept], sizes[kept]
    pair = np.repeat(np.arange(len(pairs)), sizes)
    start = (pairs // units % width - 1) * STEP
    begin = (window[kept] + windows.start) * STEP
    score = _totals(runs, (run, pair, begin, start)) - pool.jump
    start = np.maximum(start, 0)
    return _Keyed(run, pair, window[kept] + windows.start, start, score)


def _stable_order(keys: Ints) -> Ints:
    """As np.argsort with kind="stable", from two sorts of the faster kind."""
    order = np.argsort(keys)
    ranks = np.cumsum(np.diff(keys[order], prepend=keys[order[:1]]) > 0)
    return order[np.argsort(ranks * len(keys) + order)]


def _totals(runs: Runs, keyed: tuple[Ints, Ints, Ints, Ints]) -> Floats:
    """Bits of each pair, what is covered twice on either side counted once.

    Args:
        keyed: Run, number of its pair, and (p,) where the pair's windows begin, in the text and in
            the pool.
    """
    run, pair, start, place = keyed
    length, counted = runs.length[run], runs.bits[run]
    for at in (runs.start[run] - start[pair], runs.place[run] - place[pair]):
        counted = counted * _uncovered_shares(pair, at, length)
    return np.bincount(pair, counted, minlength=len(start)).astype(np.float64)


def _uncovered_shares(group: Ints, start: Ints, length: Ints) -> Floats:
    """Share of each run that earlier ones of its group, all within a few windows, do not cover."""
    longest = int(length.max(initial=0)) + 1
    apart = int(start.max(initial=0)) + longest
    begin = group * apart + start
    order = np.argsort(begin * longest + longest - 1 - length, kind="stable")
    begin, size = begin[order], length[order]
    reached = np.maximum.accumulate(begin + size)
    before = np.append(0, reached[:-1])
    same = np.append(False, np.diff(group[order]) == 0)
    covered = np.where(same, np.clip(before - begin, 0, size), 0)
    out = np.empty(len(size))
    out[order] = 1 - covered / np.maximum(size, 1)
    return out


def _best(keyed: _Keyed, runs: Runs, windows: range) -> Windows:
    scores, places = np.full(len(windows), NONE), np.full(len(windows), -1)
    # of equal ones any, but the same whatever the labels are
    chance = (keyed.place // STEP * 2654435761) % (1 << 32)
    order = np.lexsort((chance, keyed.score, keyed.window))
    best = order[np.append(np.diff(keyed.window[order]) > 0, True)] if len(order) else order
    rows = keyed.window[best] - windows.start
    first = np.searchsorted(keyed.pair, best)  # run of each: the window itself may begin before
    scores[rows], places[rows] = keyed.score[best], runs.place[keyed.run[first]]
    return Windows(scores, places)


def _candidates(
    runs: Runs,
    documents: Ints,
    common: NDArray[np.bool_],
    keyed: _Keyed,
    pool: Pool,
    windows: range,
) -> list[Row]:
    """Passages of training text, the best first, none in runs of a better one."""
    rows = np.flatnonzero(keyed.score >= LEAST)
    if not len(rows):
        return []
    first = np.searchsorted(keyed.pair, rows)
    rows = rows[runs.place[keyed.run[first]] < pool.train_size]
    order = np.lexsort((-keyed.score[rows], keyed.window[rows]))
    window = keyed.window[rows[order]]
    order = order[np.arange(len(order)) - np.searchsorted(window, window) < SOURCES]
    rows = rows[order[np.argsort(-keyed.score[rows[order]], kind="stable")]]
    columns = runs.start, runs.place, runs.length, runs.bits, runs.own_bits, documents, common
    offset, found = windows.start * STEP, []
    taken = bytearray((len(windows) + 3) * STEP + LONGEST)
    left = _left(runs, keyed, rows)
    while len(left.run):
        left = left.without(taken, runs, offset, pool.jump)
        own, left = left.cut(AT_ONCE)
        pieces = [*map(_Run, *(column[own.run].tolist() for column in columns))]
        for low, high in pairwise(own.edges):
            best = _free(pieces[low:high], taken, offset)
            passage = _passage(best, pool.jump)
            if passage is not None:
                for p in passage[1]:
                    taken[p.start - offset : p.start - offset + p.length] = bytes([1]) * p.length
                found.append(passage[0])
    return found


class _Left(NamedTuple):
    """Runs of pairs of windows that were not looked at, the best pair first."""

    run: Ints  # of each pair in ascending order
    pair: Ints  # ascending

    @property
    def edges(self) -> list[int]:
        """Beginnings of the runs of each pair, and the end."""
        return [*np.flatnonzero(np.diff(self.pair, prepend=-1)).tolist(), len(self.pair)]

    def without(self, taken: bytearray, runs: Runs, offset: int, jump: float) -> "_Left":
        """Those that a better passage has not taken, of pairs that have LEAST bits without them."""
        before = np.append(0, np.cumsum(np.frombuffer(taken, np.uint8), dtype=np.int64))
        start, length = runs.start[self.run] - offset, runs.length[self.run]
        free = np.flatnonzero(before[start + length] == before[start])
        run, pair = self.run[free], self.pair[free]
        enough = np.bincount(pair, runs.bits[run]) - jump >= LEAST
        return _Left(run[enough[pair]], pair[enough[pair]])

    def cut(self, pairs: int) -> "tuple[_Left, _Left]":
        """The first of so many pairs, and the rest."""
        edges = self.edges
        at = edges[min(pairs, len(edges) - 1)]
        return _Left(self.run[:at], self.pair[:at]), _Left(self.run[at:], self.pair[at:])


def _left(runs: Runs, keyed: _Keyed, rows: Ints) -> _Left:
    """Runs of these pairs."""
    first, last = (np.searchsorted(keyed.pair, rows + more) for more in (0, 1))
    sizes = last - first
    run = keyed.run[np.repeat(first - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())]
    pair = np.repeat(np.arange(len(rows)), sizes)
    order = np.lexsort((runs.start[run], pair))
    return _Left(run[order], pair[order])


class _Run(NamedTuple):
    """A run of a passage."""

    start: int
    place: int
    length: int
    bits: float
    own_bits: float
    documents: int
    common: bool


def _free(pieces: list[_Run], taken: bytearray, offset: int) -> list[_Run]:
    """Those that no passage has taken."""
    find = taken.find
    return [p for p in pieces if find(1, p.start - offset, p.start - offset + p.length) < 0]


def _passage(pieces: list[_Run], jump: float) -> tuple[Row, list[_Run]] | None:
    """The passage of some runs (ascending), without those too far from the others."""
    if sum(p.bits for p in pieces) - jump < LEAST:
        return None
    pieces = _once(pieces)
    shares = _uncovered([(p.start, p.length) for p in pieces])
    pairs = zip(shares, _uncovered([(p.place, p.length) for p in pieces]), pieces, strict=True)
    bits = [p.bits * a * b for a, b, p in pairs]
    if sum(bits) - jump < LEAST:
        return None
    low, high = _densest(pieces, bits)
    rest = slice(low, high)
    if sum(bits[rest]) - jump < LEAST:
        return None
    return _row(pieces[rest], bits[rest], jump), pieces[rest]


def _once(pieces: list[_Run]) -> list[_Run]:
    """Runs of the copy with the best one, if there are several of the source."""
    first = min(p.place for p in pieces)
    span = max(p.place + p.length for p in pieces) - first
    if max(p.start + p.length for p in pieces) - pieces[0].start <= REPEATED * span:
        return pieces
    best = max(pieces, key=lambda p: p.bits)
    diagonal = best.place - best.start
    return [p for p in pieces if abs(p.place - p.start - diagonal) <= span // 2]


def _row(pieces: list[_Run], bits: list[float], jump: float) -> Row:
    shared = sorted(p.documents for p in pieces if p.bits > 0)
    weights = [max(b, 1e-9) for b in bits]
    known = sum(weight for p, weight in zip(pieces, weights, strict=True) if p.common)
    covered = _uncovered([(p.start, p.length) for p in pieces])
    return (
        pieces[0].start,
        max(p.start + p.length for p in pieces),
        min(p.place for p in pieces),
        max(p.place + p.length for p in pieces),
        sum(b for p, b in zip(pieces, bits, strict=True) if p.own_bits) - jump,
        sum(bits) - jump,
        int(statistics.median(shared)) if shared else 0,
        known > sum(weights) / 2,
        round(sum(p.length * share for p, share in zip(pieces, covered, strict=True))),
    )


def _uncovered(spans: list[tuple[int, int]]) -> list[float]:
    """Share of each of some spans (start, length) that those before it leave."""
    out, reached = [1.0] * len(spans), -1
    for start, less, i in sorted((start, -length, i) for i, (start, length) in enumerate(spans)):
        if reached > start:
            out[i] = 1 - min(reached - start, -less) / max(-less, 1)
        reached = max(reached, start - less)
    return out


def _densest(pieces: list[_Run], bits: list[float]) -> tuple[int, int]:
    """Range of the runs in a row that have the most bits, less those of gaps.

    Another diagonal costs no more: bits are those of a run anywhere in its window.
    """
    diagonals = [p.place - p.start for p in pieces]
    own = diagonals[bits.index(max(bits))]
    best, low_best, high_best, total, low, reached = -math.inf, 0, 1, 0.0, 0, 0
    for i, (piece, more) in enumerate(zip(pieces, bits, strict=True)):
        total -= GAP_BITS * max(piece.start - reached, 0)
        if i == 0 or total <= 0:
            total, low, reached = 0.0, i, 0
        total, reached = total + more, max(reached, piece.start + piece.length)
        if total > best:
            best, low_best, high_best = total, low, i + 1

    def stray(i: int) -> bool:
        moved = abs(diagonals[i] - own)
        return bits[i] < (STRAY_BITS if moved > STRAY else math.log2(1 + moved))

    while high_best - low_best > 1 and stray(high_best - 1):
        high_best -= 1
    while high_best - low_best > 1 and stray(low_best):
        low_best += 1
    return low_best, high_best


def _stacked(rows: list[Row]) -> Passages:
    kinds = (int, int, int, int, float, float, int, bool, int)
    columns = zip(*rows, strict=True) if rows else [()] * len(kinds)
    return passages_of(np.array(c, kind) for c, kind in zip(columns, kinds, strict=True))


def _merged(found: Passages, pool: Pool, stops: Ints) -> Passages:
    """Passages that go on in one another made one: they follow in the text and in the source."""
    order = np.lexsort((found.place, found.start))
    found = found.at(order)
    units = np.searchsorted(stops, found.start, "right"), pool.document(found.place)
    rows: list[list] = []
    last: dict[tuple[int, int], list[list]] = {}
    for unit, *new in zip(
        zip(*(x.tolist() for x in units), strict=True),
        *(column.tolist() for column in found),
        strict=True,
    ):
        recent = last.setdefault(unit, [])
        near = next((old for old in reversed(recent[-SOURCES:]) if _goes_on(old, new)), None)
        if near is None:
            rows.append(new)
            recent.append(new)
            continue
        overlap = max(0, near[1] - new[0]) / max(new[1] - new[0], 1)
        near[1], near[2] = max(near[1], new[1]), min(near[2], new[2])
        near[3] = max(near[3], new[3])
        near[4] += max(new[4], 0) * (1 - min(overlap, 1))
        near[5] += new[5] * (1 - min(overlap, 1))
        near[6], near[7] = min(near[6], new[6]), near[7] and new[7]
        near[8] = min(near[8] + new[8], near[1] - near[0])
    columns = zip(*rows, strict=True) if rows else [()] * len(found)
    merged = passages_of(np.array(c, old.dtype) for c, old in zip(columns, found, strict=True))
    return merged.at(np.argsort(-merged.score, kind="stable"))


def _goes_on(old: list, new: list) -> bool:
    if new[0] > old[1] + STEP // 2 or new[2] > old[3] + STEP or new[3] < old[2] - STEP:
        return False
    length, source = (max(old[i], new[i]) - min(old[i - 1], new[i - 1]) for i in (1, 3))
    return length <= REPEATED * source + STEP // 2
