"""A text's suffixes in order: where any passage stands in it is found by bisection.

Characters are compared eight bytes at a time, as big-endian numbers, for all queries at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydivsufsort import divsufsort

from novum.core.errors import InputError
from novum.core.memory import require_memory
from novum.core.vocabulary import Tokens

WORD = 8  # bytes
BLOCK = 1 << 20  # suffixes at a time
STEP = 4  # one suffix in so many has its first characters kept apart

Places = NDArray[np.integer]


class TextIndex(NamedTuple):
    """A suffix array (Manber & Myers, 1990) and what makes its search fast."""

    text: "Words"
    order: Places  # (n,) int32, or int64 beyond 2**31: starts of the suffixes, ascending
    firsts: NDArray[np.uint64]  # the different first words of order[::STEP], ascending
    runs: Places  # where in order[::STEP] each of them begins, and the end
    seconds: NDArray[np.uint64]  # the second words of order[::STEP]

    def __len__(self) -> int:
        return len(self.order)


class Words:
    """Tokens (n,) uint8 or uint16, read as words of eight bytes from any position on.

    Beyond its end a text goes on in zeros.
    """

    def __init__(self, tokens: Tokens) -> None:
        if tokens.ndim != 1 or tokens.dtype.kind != "u" or tokens.itemsize > 2:
            raise InputError(
                f"tokens are {tokens.dtype} {tokens.shape}: one row of uint8 or uint16 is needed"
            )
        self.length, self.width = len(tokens), tokens.itemsize
        self.per_word = WORD // self.width  # tokens
        padded = np.zeros(len(tokens) + 2 * self.per_word, f">u{self.width}")
        padded[: len(tokens)] = tokens
        self.tokens = padded[: len(tokens)]
        strides = (self.width,)  # words overlap
        self._words = np.ndarray((len(tokens) + 1,), ">u8", padded.data, strides=strides)

    def __len__(self) -> int:
        return self.length

    def at(self, places: Places) -> NDArray[np.uint64]:
        """The words that begin there; 0 beyond the end."""
        return self._words[np.minimum(places, self.length)].astype(np.uint64)


def build_index(tokens: Tokens, order: Places | None = None) -> TextIndex:
    """The index of a text (n,) of uint8 or uint16, or of one whose order is known.

    Takes about 8 bytes a character, 5 more while 16-bit characters are sorted.
    """
    if not len(tokens):
        raise InputError("the text is empty: give at least one character")
    _require_memory(tokens)
    text = Words(tokens)
    if order is None:
        order = suffix_order(text)
    words = text.at(order[::STEP])
    new = np.append(words[1:] != words[:-1], True)
    runs = np.append(np.zeros(1, order.dtype), np.flatnonzero(new).astype(order.dtype) + 1)
    firsts = words[new]
    for start in range(0, len(words), BLOCK):  # in place: memory is short
        block = slice(start, start + BLOCK)
        words[block] = text.at(order[::STEP][block] + text.per_word)
    return TextIndex(text, order, firsts, runs, words)


def _require_memory(tokens: Tokens) -> None:
    """Beyond 2**31 bytes a place takes eight."""
    each = 8 if tokens.nbytes >= 2**31 else 4
    require_memory(
        tokens.nbytes * (1 + each) + len(tokens),
        f"finding copies of a text of {len(tokens):,} characters",
        "judge against a part of it, and train without TextNovelty",
    )


def suffix_order(text: Words) -> Places:
    """Starts of the suffixes, ascending; one that begins another comes first."""
    order = divsufsort(text.tokens.view(np.uint8))
    if text.width == 1:
        return order
    kept = 0
    for start in range(0, len(order), BLOCK):  # in place: the rest begins within a character
        block = order[start : start + BLOCK]
        block = block[block % text.width == 0] // text.width
        order[kept : kept + len(block)] = block
        kept += len(block)
    return order[:kept].copy()


def insertion_points(
    index: TextIndex, queries: Words, starts: Places, length: int, right: bool = True
) -> Places:
    """Number of suffixes less than (or equal to) each query, by their first `length` tokens.

    Args:
        starts: Where the queries begin; ascending queries are found fastest.
        length: A whole number of words.
    """
    low, high = (rank * STEP for rank in _near(index, queries, starts, length))
    steps = length // queries.per_word

    def precedes(rank: Places, which: Places) -> NDArray[np.bool_]:
        order = compare(index.text, index.order[rank], queries, starts[which], steps)
        return order <= 0 if right else order < 0

    return _bisect(np.maximum(low - STEP, 0), np.minimum(high, len(index)), precedes)


def _bisect(low: Places, high: Places, precedes: Callable[[Places, Places], NDArray]) -> Places:
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


def _near(index: TextIndex, queries: Words, starts: Places, length: int) -> tuple[Places, Places]:
    """Numbers of order[::STEP] less than a query by two words, and not greater."""
    first, second = queries.at(starts), queries.at(starts + queries.per_word)
    new = np.ones(len(first), bool)
    new[1:] = first[1:] != first[:-1]  # equal ones follow one another where starts ascend
    run = np.searchsorted(index.firsts, first[new])
    known = index.firsts[np.minimum(run, len(index.firsts) - 1)] == first[new]
    ends = index.runs[run], index.runs[run + known]
    each = np.cumsum(new) - 1
    low, high = (end.astype(np.int64)[each] for end in ends)
    if length <= queries.per_word:
        return low, high
    seconds = index.seconds
    least = _bisect(low, high, lambda rank, which: seconds[rank] < second[which])
    high = np.where(seconds[np.minimum(least, len(seconds) - 1)] == second, high, least)
    return least, _bisect(least, high, lambda rank, which: seconds[rank] <= second[which])


def compare(text: Words, places: Places, queries: Words, starts: Places, steps: int) -> NDArray:
    """-1, 0 or 1 where the text is less than, equal to or greater than the query in so many words.

    Returns:
        (k,) int8
    """
    a, b = text.at(places), queries.at(starts)
    order = (a > b).astype(np.int8) - (a < b)
    open_ = np.flatnonzero(order == 0)
    for step in range(1, steps):
        if not len(open_):
            break
        reach = step * text.per_word
        a, b = text.at(places[open_] + reach), queries.at(starts[open_] + reach)
        order[open_] = (a > b).astype(np.int8) - (a < b)
        open_ = open_[a == b]
    return order


def common_length(
    text: Words, places: Places, queries: Words, starts: Places, most: int
) -> NDArray:
    """Tokens (k,) that text and query have in common from there on, `most` at the most."""
    common = np.zeros(len(places), np.int64)
    open_ = np.arange(len(places))
    for reach in range(0, most, text.per_word):
        differ = text.at(places[open_] + reach) ^ queries.at(starts[open_] + reach)
        common[open_] += _equal_bytes(differ) // text.width
        open_ = open_[differ == 0]
        if not len(open_):
            break
    common = np.minimum(common, len(text) - places)
    return np.minimum(common, np.minimum(len(queries) - starts, most))


_POWERS = 256 ** np.arange(WORD, dtype=np.uint64)  # 1, 256, ...


def _equal_bytes(differ: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Leading bytes that are 0."""
    return WORD - np.searchsorted(_POWERS, differ, side="right")
