"""A text's suffixes in order: where any passage stands in it is found by bisection.

Characters are compared eight bytes at a time, as big-endian numbers, for all queries at once.
"""

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydivsufsort import divsufsort

WORD = 8  # bytes
BLOCK = 1 << 20  # suffixes at a time
STEP = 4  # one suffix in so many has its first characters kept apart

Tokens = NDArray[np.uint8] | NDArray[np.uint16]
Places = NDArray[np.integer]


class TextIndex(NamedTuple):
    """A suffix array (Manber & Myers, 1990) and what makes its search fast."""

    text: "Words"
    order: Places  # (n,) int32, or int64 beyond 2**31: starts of the suffixes, ascending
    firsts: NDArray[np.uint64]  # the different first words of order[::STEP], ascending
    keys: NDArray[np.uint64]  # of order[::STEP]: which of these, and what fits of the second word

    def __len__(self) -> int:
        return len(self.order)


class Words:
    """Tokens (n,) uint8 or uint16, read as words of eight bytes from any position on.

    Beyond its end a text goes on in zeros.
    """

    def __init__(self, tokens: Tokens) -> None:
        if tokens.ndim != 1 or tokens.dtype not in (np.uint8, np.uint16):
            raise ValueError(
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
        raise ValueError("the text is empty: give at least one character")
    _check_memory(tokens)
    text = Words(tokens)
    if order is None:
        order = suffix_order(text)
    keys = text.at(order[::STEP])
    new = np.append(True, keys[1:] != keys[:-1])
    firsts = keys[new]
    before = -1
    for start in range(0, len(keys), BLOCK):  # in place: memory is short
        block = slice(start, start + BLOCK)
        which = before + np.cumsum(new[block])
        before = which[-1]
        second = text.at(order[::STEP][block] + text.per_word)
        keys[block] = _keys(which, second, len(firsts))
    return TextIndex(text, order, firsts, keys)


def _keys(which: Places, second: NDArray[np.uint64], most: int) -> NDArray[np.uint64]:
    """The number of a first word before the leading bits of the second one."""
    bits = np.uint64(most.bit_length())
    return which.astype(np.uint64) << (np.uint64(64) - bits) | second >> bits


def _check_memory(tokens: Tokens) -> None:
    """Beyond 2**31 bytes a place takes eight."""
    each = 8 if tokens.nbytes >= 2**31 else 4
    needed = tokens.nbytes * (1 + each) + len(tokens)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ValueError(
            f"the text has {len(tokens):,} characters: to find copies of it takes"
            f" {needed / 2**30:.0f} GiB of memory, and there are {there / 2**30:.0f}; judge against"
            " a part of it, and train without TextNovelty"
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
    """How many suffixes are less than (or equal to) each query, by their first `length` tokens.

    Args:
        starts: Where the queries begin; ascending queries are found fastest.
        length: A whole number of words.
    """
    low, high = (rank * STEP for rank in _near(index, queries, starts, length))
    low, high = np.maximum(low - STEP, 0), np.minimum(high, len(index))
    steps = length // queries.per_word
    open_ = np.arange(len(starts))
    while len(open_):
        middle = (low[open_] + high[open_]) >> 1
        order = compare(index.text, index.order[middle], queries, starts[open_], steps)
        after = order <= 0 if right else order < 0
        low[open_[after]] = middle[after] + 1
        high[open_[~after]] = middle[~after]
        open_ = open_[low[open_] < high[open_]]
    return low


def _near(index: TextIndex, queries: Words, starts: Places, length: int) -> tuple[Places, Places]:
    """How many keys are less than a query, and less than or equal to it."""
    first, second = queries.at(starts), queries.at(starts + queries.per_word)
    which = np.searchsorted(index.firsts, first)
    known = index.firsts[np.minimum(which, len(index.firsts) - 1)] == first
    least, largest = second, second
    if length <= queries.per_word:
        least, largest = np.uint64(0), ~np.uint64(0)
    keys = _keys(which, np.where(known, least, np.uint64(0)), len(index.firsts))
    low = np.searchsorted(index.keys, keys)
    high = low.copy()
    keys = _keys(which[known], np.broadcast_to(largest, len(starts))[known], len(index.firsts))
    high[known] = np.searchsorted(index.keys, keys, "right")
    return low, high


def occurrences(
    index: TextIndex, queries: Words, starts: Places, lengths: Places, most: int
) -> tuple[Places, Places]:
    """The suffixes order[low:high] that begin with each passage, or its first `most` tokens."""
    rows = np.arange(most)[None] < lengths[:, None]
    tokens = queries.tokens[np.minimum(starts[:, None] + np.arange(most), len(queries) - 1)]
    dtype = f"u{queries.width}"
    least = np.where(rows, tokens, 0).astype(dtype).ravel()
    largest = np.where(rows, tokens, np.iinfo(dtype).max).astype(dtype).ravel()
    places = np.arange(len(starts)) * most
    low = insertion_points(index, Words(least), places, most, right=False)
    return low, insertion_points(index, Words(largest), places, most)


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
