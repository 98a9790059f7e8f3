"""Places where the n-grams of a text occur, each as long as its information wants it.

All occurrences stand in one row in the order of their n-grams' hashes, so that an index of any size
is written part by part, and read in one direction.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core.files import append_array, mapped_array
from novum.core.vocabulary import Tokens
from novum.metrics.novelty.text.index import Places, Words, bisect
from novum.metrics.novelty.text.information import LONGEST, Prefixes, Scale, mixed

MOST = 64  # occurrences of an n-gram that are looked at
STRETCH = 4096  # tokens in a row whose occurrences are taken together
STRETCHES = 256  # at a time
TAG = 32  # bits of a hash, after those of its slot, that are kept with each place: a proof
PART = 1 << 22  # occurrences that are sorted at a time, about
MOST_PARTS = 256  # files that are open at once

Ints = NDArray[np.int64]


class Seeds(NamedTuple):
    """Places of n-grams by their hashes, those of one n-gram in the order of their stretches."""

    text: Words
    bits: int  # of a slot's number
    places: Places  # (N,) uint32 or int64
    tags: NDArray[np.uint32]  # (N,)
    slots: Places  # (2**bits + 1,) where each slot begins


class Hits(NamedTuple):
    """n-grams that a query has in common with the text, in ascending order of `start`."""

    start: Ints  # in the query
    place: Ints  # in the text
    length: Ints

    def at(self, rows: NDArray) -> "Hits":
        return Hits(self.start[rows], self.place[rows], self.length[rows])


class Occurrences(NamedTuple):
    """Places in the text of the n-grams that begin in a part of a query."""

    begin: int  # of the part
    lengths: NDArray[np.uint8]  # (k,) of the n-gram that begins at each of its positions
    edges: Ints  # (k + 1,) of each position's part of `places`
    places: Places

    def hits(self, first: int, stop: int) -> Hits:
        """Those of n-grams that begin from `first` on, before `stop`."""
        size = len(self.lengths)
        own = slice(*np.clip((first - self.begin, stop - self.begin), 0, size).tolist())
        edges = self.edges[own.start : own.stop + 1]
        low, high, sizes = edges[0], edges[-1], np.diff(edges)
        start = np.repeat(self.begin + np.arange(own.start, own.stop), sizes)
        length = np.repeat(self.lengths[own], sizes).astype(np.int64)
        return Hits(start, self.places[low:high].astype(np.int64), length)


def write_seeds(text: Words, scale: Scale, folder: Path, seed: int = 0) -> None:
    """Write an index of a text's n-grams, which `open_seeds` reads.

    Of frequent n-grams the first MOST occurrences are looked at, in an order of stretches of the
    text that is drawn at random: no part of the text is preferred, and the n-grams of a passage
    that occurs often are found in the same places.
    """
    parts = min(1 << max(len(text) // PART, 1).bit_length() - 1, MOST_PARTS)
    files = [folder / f"seeds.part{number}" for number in range(parts)]
    with ExitStack() as stack:
        out = [stack.enter_context(file.open("wb")) for file in files]
        shift = np.uint64(65 - parts.bit_length())
        for hashes, places in _occurrences(text, scale, seed):
            part = hashes >> shift if parts > 1 else np.zeros(len(hashes), np.uint64)
            order = np.argsort(part, kind="stable")
            rows = np.empty(len(order), _ROW)
            rows["hash"], rows["place"] = hashes[order], places[order]
            edges = np.searchsorted(part[order], np.arange(parts + 1))
            for file, low, high in zip(out, edges[:-1], edges[1:], strict=True):
                file.write(rows[low:high].data)
    _sort_parts(files, folder, _slot_bits(len(text)), _dtype(len(text)))


def open_seeds(text: Words, folder: Path) -> Seeds:
    dtype = _dtype(len(text))
    arrays = (mapped_array(folder / f"seeds.{name}", kind) for name, kind in
              (("places", dtype), ("tags", "u4"), ("slots", dtype)))  # fmt: skip
    return Seeds(text, _slot_bits(len(text)), *arrays)


_ROW = np.dtype([("hash", np.uint64), ("place", np.int64)])


def _slot_bits(size: int) -> int:
    return max(size.bit_length() - 1, 8)  # an occurrence or two a slot


def _dtype(size: int) -> type:
    return np.uint32 if size < 2**32 else np.int64


def _occurrences(
    text: Words, scale: Scale, seed: int
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """Hashes and places of all n-grams, stretches in an order drawn at random."""
    order = np.random.default_rng(seed).permutation(-(-len(text) // STRETCH))
    window = np.arange(STRETCH + LONGEST)
    for start in range(0, len(order), STRETCHES):
        begins = order[start : start + STRETCHES, None] * STRETCH
        places = (begins + window).ravel()
        lengths, hashes = n_grams(text.tokens[np.minimum(places, len(text) - 1)], scale)
        own = np.tile(window < STRETCH, len(begins))
        kept = np.flatnonzero(own & (lengths > 0) & (places + lengths <= len(text)))
        yield hashes[kept], places[kept]


def _sort_parts(files: list[Path], folder: Path, bits: int, dtype: type) -> None:
    """Write the occurrences of each part, which has a range of slots, in order."""
    written, each = 0, (1 << bits) // len(files)
    for number, file in enumerate(files):
        rows = np.fromfile(file, _ROW)
        file.unlink()
        rows = rows[np.argsort(rows["hash"] >> np.uint64(64 - bits - TAG), kind="stable")]
        slots = (rows["hash"] >> np.uint64(64 - bits)).astype(np.int64) - number * each
        sizes = np.bincount(slots, minlength=each)
        append_array(folder / "seeds.places", rows["place"].astype(dtype))
        append_array(folder / "seeds.tags", _tags(rows["hash"], bits))
        append_array(folder / "seeds.slots", (written + np.cumsum(sizes) - sizes).astype(dtype))
        written += len(rows)
    append_array(folder / "seeds.slots", np.array([written], dtype))


def _tags(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.uint32]:
    return (hashes >> np.uint64(64 - bits - TAG)).astype(np.uint32)


def n_grams(tokens: Tokens, scale: Scale) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Lengths (n,) of the n-grams that begin at each place, and their hashes."""
    lengths = scale.lengths(tokens)
    begin = np.arange(len(tokens))
    return lengths, mixed(Prefixes(tokens).hashes(begin, begin + lengths))


def find_seeds(
    index: Seeds, queries: Words, scale: Scale, begin: int, stop: int, ends: Places
) -> Occurrences:
    """Occurrences of the n-grams that begin in a part of a text, MOST of each at most.

    Args:
        ends: (m,) where each position's n-gram has to end at the latest.
    """
    part = queries.tokens[begin : stop + LONGEST]
    lengths, hashes = n_grams(part, scale)
    lengths, hashes = lengths[: stop - begin], hashes[: stop - begin]
    fits = (lengths > 0) & (begin + np.arange(len(lengths)) + lengths <= ends[begin:stop])
    starts = np.flatnonzero(fits)
    starts = starts[np.argsort(hashes[starts])]  # so that the index is read in one direction
    low, high = _ranges(index, hashes[starts])
    known = np.flatnonzero(low < high)
    starts, low = starts[known], low[known]
    sizes = high[known] - low
    ascending = np.argsort(starts)
    places = index.places[_rows(low, sizes)]
    edges = np.zeros(len(lengths) + 1, np.int64)
    edges[starts + 1] = sizes
    first = (np.cumsum(sizes) - sizes)[ascending]
    return Occurrences(begin, lengths, np.cumsum(edges), places[_rows(first, sizes[ascending])])


def _rows(first: Places, sizes: Places) -> Ints:
    """first[0], first[0] + 1, ... as many as sizes[0], and so on."""
    return np.repeat(first - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())


def _ranges(index: Seeds, hashes: NDArray[np.uint64]) -> tuple[Places, Places]:
    """Ranges of the first MOST places of these n-grams (ascending)."""
    slots = (hashes >> np.uint64(64 - index.bits)).astype(np.int64)
    tags, wanted = index.tags, _tags(hashes, index.bits)
    low, high = (index.slots[slots + side].astype(np.int64) for side in (0, 1))
    low = bisect(low, high, lambda rank, which: tags[rank] < wanted[which])
    high = np.minimum(high, low + MOST)
    return low, bisect(low, high, lambda rank, which: tags[rank] <= wanted[which])
