"""A text's suffixes in order, in shards: where any passage stands in it is found by bisection.

Characters are compared eight bytes at a time, as big-endian numbers, for all queries at once. A
shard has the suffixes that begin in its part of the text, sorted with OVERLAP tokens of what
follows, so that no passage of up to so many tokens is cut by its end.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydivsufsort import divsufsort

from novum.core.errors import InputError
from novum.core.files import append_array, mapped_array
from novum.core.memory import memory_bytes
from novum.core.vocabulary import Tokens

WORD = 8  # bytes
BLOCK = 1 << 20  # suffixes at a time
STEP = 4  # one suffix in so many has its first characters kept apart
OVERLAP = 128  # tokens
MOST_BYTES = 1 << 30  # of the text of a shard
SORTING = 8  # times its size, memory of a machine that sorts a shard
LEAST_BYTES = 1 << 16
QUICK = 16  # words that are compared one by one

Places = NDArray[np.integer]


class Shard(NamedTuple):
    """A suffix array (Manber & Myers, 1990) of a part of a text, and what makes its search fast."""

    text: "Words"  # the whole
    begin: int  # of the part
    order: NDArray[np.int32]  # (n,) starts of the suffixes in the part, ascending
    firsts: NDArray[np.uint64]  # the different first words of order[::STEP], ascending
    runs: NDArray[np.int32]  # where in order[::STEP] each of them begins, and the end
    seconds: NDArray[np.uint64]  # the second words of order[::STEP]

    def __len__(self) -> int:
        return len(self.order)

    @property
    def stop(self) -> int:
        """End of the text that the suffixes are sorted by."""
        return min(self.begin + len(self) + OVERLAP, len(self.text))

    def places(self, ranks: Places) -> NDArray[np.int64]:
        """Places in the text of the suffixes of these ranks."""
        return self.order[ranks].astype(np.int64) + self.begin


class TextIndex(NamedTuple):
    """A text and its shards, in the order of the text."""

    text: "Words"
    shards: list[Shard]

    def __len__(self) -> int:
        return len(self.text)


class Words:
    """Tokens (n,) uint8 or uint16, read as words of eight bytes from any position on.

    Beyond its end a text goes on in zeros.
    """

    def __init__(self, tokens: Tokens) -> None:
        if tokens.ndim != 1 or tokens.dtype.kind != "u" or tokens.itemsize > 2:
            raise InputError(
                f"tokens are {tokens.dtype} {tokens.shape}: one row of uint8 or uint16 is needed"
            )
        padded = np.zeros(len(tokens) + PADDING // tokens.itemsize, f">u{tokens.itemsize}")
        padded[: len(tokens)] = tokens
        self._set(padded, len(tokens))

    @classmethod
    def mapped(cls, path: Path, width: int) -> "Words":
        """Words of a file of big-endian tokens, with PADDING bytes of zeros at its end."""
        words = cls.__new__(cls)
        padded = mapped_array(path, f">u{width}")
        words._set(padded, len(padded) - PADDING // width)
        return words

    def _set(self, padded: NDArray, length: int) -> None:
        self.length, self.width = length, padded.itemsize
        self.per_word = WORD // self.width  # tokens
        self.tokens = padded[:length]
        strides = (self.width,)  # words overlap
        self._words = np.ndarray((length + 1,), ">u8", padded.data, strides=strides)

    def __len__(self) -> int:
        return self.length

    def at(self, places: Places) -> NDArray[np.uint64]:
        """The words that begin there; 0 beyond the end."""
        return self._words[np.minimum(places, self.length)].astype(np.uint64)


PADDING = 2 * WORD  # bytes


def shard_size() -> int:
    """Bytes of a shard: as many as the machine's memory lets sort, a power of two."""
    most = min(MOST_BYTES, max(memory_bytes() // SORTING, LEAST_BYTES))
    return 1 << (most.bit_length() - 1)


def build_index(tokens: Tokens, size: int | None = None) -> TextIndex:
    """The index of a text (n,) of uint8 or uint16, in memory.

    Args:
        size: Bytes of a shard; what is found does not depend on it.
    """
    text = Words(tokens)
    shards = []
    for begin, stop in _spans(text, size):
        order = _sorted(text, begin, stop)
        tops = zip(*_tops(text, begin, order), strict=True)
        shards.append(Shard(text, begin, order, *map(np.concatenate, tops)))
    return TextIndex(text, shards)


def write_index(text: Words, folder: Path, size: int | None = None) -> None:
    """Write an index that `open_index` reads, a shard after another."""
    spans = _spans(text, size)
    for number, (begin, stop) in enumerate(spans):
        order = _sorted(text, begin, stop)
        append_array(folder / f"order.{number}", order)
        for block in _tops(text, begin, order):
            for name, array in zip(("firsts", "runs", "seconds"), block, strict=True):
                append_array(folder / f"{name}.{number}", array)
    (folder / "shards.json").write_text(json.dumps([begin for begin, _ in spans]))


def open_index(text: Words, folder: Path) -> TextIndex:
    """An index that was written for this text, mapped into memory."""
    kinds = {"order": "i4", "firsts": "u8", "runs": "i4", "seconds": "u8"}
    begins = json.loads((folder / "shards.json").read_text())
    shards = [
        Shard(
            text,
            begin,
            *(mapped_array(folder / f"{name}.{number}", kind) for name, kind in kinds.items()),
        )
        for number, begin in enumerate(begins)
    ]
    return TextIndex(text, shards)


def _spans(text: Words, size: int | None) -> list[tuple[int, int]]:
    if not len(text):
        raise InputError("the text is empty: give at least one character")
    size = (size or shard_size()) // text.width
    return [(begin, min(begin + size, len(text))) for begin in range(0, len(text), size)]


def _sorted(text: Words, begin: int, stop: int) -> NDArray[np.int32]:
    """Suffixes that begin in a part of the text, ascending by OVERLAP tokens at least."""
    whole = suffix_order(text.tokens[begin : stop + OVERLAP])
    return whole if stop == len(text) else _kept(whole, lambda order: order[order < stop - begin])


def _tops(
    text: Words, begin: int, order: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.uint64]]]:
    """Different first words of order[::STEP], where they begin and second words, block by block."""
    some, last = order[::STEP], None
    for start in range(0, len(some), BLOCK):
        places = some[start : start + BLOCK].astype(np.int64) + begin
        words = text.at(places)
        new = np.append(last is None or words[0] != last, words[1:] != words[:-1])
        last = words[-1]
        runs = (np.flatnonzero(new) + start).astype(np.int32)
        yield words[new], runs, text.at(places + text.per_word)
    yield np.zeros(0, np.uint64), np.array([len(some)], np.int32), np.zeros(0, np.uint64)


def suffix_order(tokens: Tokens) -> NDArray[np.int32]:
    """Starts of the suffixes, ascending; one that begins another comes first.

    Args:
        tokens: (n,) uint8, or big-endian uint16; fewer than 2**31 bytes.
    """
    width = tokens.itemsize
    order = divsufsort(np.array(tokens).view(np.uint8))  # takes no read-only ones
    if width == 1:
        return order
    return _kept(order, lambda block: block[block % width == 0] // width)


def _kept(
    order: NDArray[np.int32], wanted: Callable[[NDArray[np.int32]], NDArray[np.int32]]
) -> NDArray[np.int32]:
    kept = 0
    for start in range(0, len(order), BLOCK):  # in place: memory is short
        block = wanted(order[start : start + BLOCK])
        order[kept : kept + len(block)] = block
        kept += len(block)
    return order[:kept]


def insertion_points(shard: Shard, queries: Words, starts: Places, most: int) -> Places:
    """Number of suffixes less than or equal to each query, by their first `most` tokens.

    Args:
        starts: Where the queries begin; those with the same first word follow one another.
        most: As many as QUICK words have, or more.
    """
    low, high = (rank * STEP for rank in _near(shard, queries, starts))

    def less(rank: Places, which: Places) -> NDArray[np.bool_]:
        return precedes(shard, shard.places(rank), queries, starts[which], most)

    return bisect(np.maximum(low - STEP, 0), np.minimum(high, len(shard)), less)


def bisect(low: Places, high: Places, precedes: Callable[[Places, Places], NDArray]) -> Places:
    """The first ranks in [low, high) that do not precede, high where all do.

    Args:
        precedes: (ranks, which of the searches) -> whether those ranks precede what is sought.
    """
    found = low.copy()
    which = np.flatnonzero(low < high)
    low, high = low[which], high[which]
    while len(which):
        middle = (low + high) >> 1
        after = precedes(middle, which)
        low, high = np.where(after, middle + 1, low), np.where(after, high, middle)
        found[which] = low
        open_ = low < high
        which, low, high = which[open_], low[open_], high[open_]
    return found


def _near(shard: Shard, queries: Words, starts: Places) -> tuple[Places, Places]:
    """Numbers of order[::STEP] less than a query by two words, and not greater."""
    first, second = queries.at(starts), queries.at(starts + queries.per_word)
    new = np.ones(len(first), bool)
    new[1:] = first[1:] != first[:-1]
    run = np.searchsorted(shard.firsts, first[new])
    known = shard.firsts[np.minimum(run, len(shard.firsts) - 1)] == first[new]
    ends = shard.runs[run], shard.runs[run + known]
    each = np.cumsum(new) - 1
    low, high = (end.astype(np.int64)[each] for end in ends)
    seconds = shard.seconds
    least = bisect(low, high, lambda rank, which: seconds[rank] < second[which])
    high = np.where(seconds[np.minimum(least, len(seconds) - 1)] == second, high, least)
    return least, bisect(least, high, lambda rank, which: seconds[rank] <= second[which])


def precedes(
    shard: Shard, places: Places, queries: Words, starts: Places, most: int
) -> NDArray[np.bool_]:
    """Mask (k,) of suffixes less than or equal to the query, by their first `most` tokens."""
    text = shard.text
    less, open_ = np.zeros(len(places), bool), np.arange(len(places))
    reach = QUICK * text.per_word
    for at in range(0, reach, text.per_word):
        a, b = text.at(places[open_] + at), queries.at(starts[open_] + at)
        less[open_] = a < b
        open_ = open_[a == b]
        if not len(open_):
            break
    near_end = (places > shard.stop - reach) | (starts > len(queries) - reach)
    near_end[open_] = True
    rest = np.flatnonzero(near_end)
    if not len(rest):
        return less
    places, starts = places[rest], starts[rest]
    common = common_length(text, places, queries, starts, most, shard.stop)
    place, start = places + common, starts + common
    shared = (common == most) | (place >= shard.stop)
    a, b = (of.tokens[np.minimum(at, len(of) - 1)] for of, at in ((text, place), (queries, start)))
    less[rest] = shared | ((start < len(queries)) & (a < b))
    return less


def common_length(
    text: Words,
    places: Places,
    queries: Words,
    starts: Places,
    most: int,
    stop: int | None = None,
) -> NDArray[np.int64]:
    """Tokens (k,) that text and query have in common from there on, `most` at the most.

    Args:
        stop: Where the text ends, if it is before its end.
    """
    stop = len(text) if stop is None else stop
    limit = np.minimum(np.minimum(stop - places, len(queries) - starts), most)
    common, open_ = np.zeros(len(places), np.int64), np.arange(len(places))
    for _ in range(QUICK):
        differ = text.at(places[open_] + common[open_]) ^ queries.at(starts[open_] + common[open_])
        common[open_] += _equal_bytes(differ) // text.width
        open_ = open_[differ == 0]
        if not len(open_):
            break
    open_ = open_[limit[open_] > common[open_]]
    words = QUICK
    while len(open_):  # the few that go on may go on for long
        before = common[open_]
        for rows in _batches(open_, words):
            own = places[rows] + common[rows], starts[rows] + common[rows]
            common[rows] += _equal_tokens(text, own[0], queries, own[1], words)
        whole = common[open_] == before + words * text.per_word
        open_ = open_[whole & (limit[open_] > common[open_])]
        words *= 2
    return np.minimum(common, limit)


def _batches(rows: Places, words: int) -> list[Places]:
    """Rows in parts, of so many words each, that fit into memory."""
    return np.array_split(rows, -(-len(rows) * words // BLOCK))


def _equal_tokens(
    text: Words, places: Places, queries: Words, starts: Places, words: int
) -> NDArray[np.int64]:
    """Tokens in common of the next `words`."""
    steps = np.arange(words) * text.per_word
    differ = text.at(places[:, None] + steps) ^ queries.at(starts[:, None] + steps)
    first = (differ != 0).argmax(1)
    last = differ[np.arange(len(places)), first]
    found = first * text.per_word + _equal_bytes(last) // text.width
    return np.where(last == 0, words * text.per_word, found)


_POWERS = 256 ** np.arange(WORD, dtype=np.uint64)  # 1, 256, ...


def _equal_bytes(differ: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Leading bytes that are 0."""
    return WORD - np.searchsorted(_POWERS, differ, side="right")
