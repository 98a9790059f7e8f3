"""Places where the n-grams of a text occur, each as long as its information wants it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core.vocabulary import Tokens
from novum.metrics.novelty.text.index import Places, Words
from novum.metrics.novelty.text.information import LONGEST, Prefixes, Scale, slot

MOST = 64  # occurrences of an n-gram that are looked at
STRETCH = 4096  # tokens in a row whose occurrences are taken together
BLOCK = 1 << 20


class Seeds(NamedTuple):
    """Positions of n-grams, grouped by the slot that their hash falls into."""

    text: Words
    bits: int  # of a slot's number
    places: Places  # (N,) int32 or int64
    slots: Places  # (2**bits + 1,) where in `places` each slot begins


class Hits(NamedTuple):
    """n-grams that a query has in common with the text."""

    start: NDArray[np.int64]  # in the query
    place: NDArray[np.int64]  # in the text
    length: NDArray[np.int64]


def index_seeds(tokens: Tokens, scale: Scale, seed: int = 0) -> Seeds:
    """Index the n-grams of a text (N,) of uint8 or uint16.

    Of frequent n-grams the first MOST occurrences are looked at, in an order of stretches of the
    text that is drawn at random: no part of the text is preferred, and the n-grams of a passage
    that occurs often are found in the same places.
    """
    text = Words(tokens)
    bits = max(len(text).bit_length(), 4)
    dtype = np.int32 if len(text) < 2**31 else np.int64
    lengths, slots = n_grams(text.tokens, scale, bits)
    order = np.random.default_rng(seed).permutation(-(-len(text) // STRETCH))
    starts = (order * STRETCH).astype(dtype)
    places = (starts[:, None] + np.arange(STRETCH, dtype=dtype)).ravel()
    places = places[places < len(text)]
    places = places[lengths[places] > 0]
    by_slot = np.argsort(slots[places], kind="stable")
    sizes = np.bincount(slots[lengths > 0], minlength=1 << bits)
    return Seeds(text, bits, places[by_slot], np.append(0, np.cumsum(sizes)).astype(dtype))


def n_grams(tokens: Tokens, scale: Scale, bits: int) -> tuple[NDArray[np.uint8], NDArray]:
    """Lengths (n,) of the n-grams that begin at each place, and their slots uint32."""
    lengths = scale.lengths(tokens)
    slots = np.zeros(len(tokens), np.uint32)
    for start in range(0, len(tokens), BLOCK):
        part = tokens[start : start + BLOCK + LONGEST]
        own = lengths[start : start + BLOCK]
        begin = np.arange(len(own))
        slots[start : start + BLOCK] = slot(Prefixes(part).hashes(begin, begin + own), bits)
    return lengths, slots


def find_seeds(
    index: Seeds, queries: Words, scale: Scale, begin: int, stop: int, ends: Places
) -> Hits:
    """Occurrences of the n-grams that begin in a part of a text, MOST of each at most.

    Args:
        ends: (m,) where each position's n-gram has to end at the latest.
    """
    part = queries.tokens[begin : stop + LONGEST]
    lengths, slots = (x[: stop - begin] for x in n_grams(part, scale, index.bits))
    lengths = lengths.astype(np.int64)
    starts = np.flatnonzero(
        (lengths > 0) & (begin + np.arange(len(lengths)) + lengths <= ends[begin:stop])
    )
    low, high = (index.slots[slots[starts] + np.uint32(side)].astype(np.int64) for side in (0, 1))
    sizes = np.minimum(high - low, MOST)
    start = np.repeat(starts, sizes)
    inside = np.arange(len(start)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = index.places[np.repeat(low, sizes) + inside].astype(np.int64)
    length = lengths[start]
    start = start + begin
    same = _same(index.text, place, queries, start, length)
    return Hits(start[same], place[same], length[same])


def _same(
    text: Words, places: Places, queries: Words, starts: Places, lengths: Places
) -> NDArray[np.bool_]:
    """Tell whether passages are equal, word by word."""
    equal = np.ones(len(places), bool)
    open_ = np.arange(len(places))
    for reach in range(0, LONGEST, text.per_word):
        open_ = open_[lengths[open_] > reach]
        if not len(open_):
            break
        beyond = np.maximum(reach + text.per_word - lengths[open_], 0).astype(np.uint64)
        differ = text.at(places[open_] + reach) ^ queries.at(starts[open_] + reach)
        differs = (differ >> (beyond * np.uint64(8 * text.width))) != 0
        equal[open_[differs]] = False
        open_ = open_[~differs]
    return equal
