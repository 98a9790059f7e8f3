"""A text in the readings in which it is compared, with the way back to the original.

`verbatim` is the text in its normal form; `folded` its letters and digits alone (normal_form.py).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core.vocabulary import CODE_POINTS, MOST_TOKENS, UNKNOWN, Tokens, code_points
from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text.normal_form import NEWLINE, Codes, fold, normalise

READINGS = ("verbatim", "folded")
BLOCK = 1 << 22  # characters at a time


class Alphabet:
    """Numbers for the characters of one reading of a pool, in the order in which they are met.

    0 is for characters that the pool has not, and for U+FFFD, which stands for unknown ones.
    """

    def __init__(self) -> None:
        self._tokens = np.zeros(CODE_POINTS, np.uint16)
        self._codes = [ord(UNKNOWN)]

    def __len__(self) -> int:
        return len(self._codes)

    def add(self, codes: Codes) -> None:
        """Number the characters that are new; those beyond the 65,535th stay unknown."""
        found = np.flatnonzero(np.bincount(codes, minlength=1))
        new = found[(self._tokens[found] == 0) & (found != ord(UNKNOWN))]
        new = new[: MOST_TOKENS - len(self)]
        self._tokens[new] = np.arange(len(self), len(self) + len(new))
        self._codes += new.tolist()

    def encode(self, codes: Codes) -> NDArray[np.uint16]:
        return self._tokens[codes]


class Reading(NamedTuple):
    """A text in one reading."""

    tokens: Tokens  # (k,) uint8 or uint16
    origin: NDArray[np.integer]  # (k,) the place in the original of each

    def place(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in the original."""
        return self.origin[at].astype(np.int64)

    def inside(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find where places of the original stand in the reading, or what follows them."""
        return np.searchsorted(self.origin, places)


class ReadText(NamedTuple):
    """A text in each reading."""

    readings: dict[str, Reading]
    documents: NDArray[np.int64]  # (d,) places in the original where documents begin


class ReadTexts(NamedTuple):
    """Samples one after another, in each reading."""

    readings: dict[str, Reading]
    ends: dict[str, NDArray[np.int64]]  # (k,) where each passage has to end at the latest
    stops: NDArray[np.int64]  # (t,) where each text ends in the original
    text: str  # the original

    @property
    def inner_stops(self) -> NDArray[np.int64]:
        """(t,) Where each text ends in the folded reading."""
        return self.readings["folded"].inside(self.stops)


def read_pool(train: TextSource, heldout: TextSource | None) -> tuple[
    dict[str, Alphabet], ReadText, ReadText | None
]:  # fmt: skip
    """Training and held-out text in each reading, numbered alike."""
    alphabets = {name: Alphabet() for name in READINGS}
    sides = [train] if heldout is None else [train, heldout]
    wide = [_read(_source_blocks(side), alphabets, grow=True) for side in sides]
    read = [
        ReadText(_narrowed(found, alphabets), np.array([p.start for p in side.pieces], np.int64))
        for found, side in zip(wide, sides, strict=True)
    ]
    return alphabets, read[0], read[1] if heldout is not None else None


def read_samples(texts: Sequence[str], alphabets: dict[str, Alphabet]) -> ReadTexts:
    """Texts in each reading; no passage goes across two of them, or across unknown characters."""
    parts = [_read(_blocks(code_points(text)), alphabets, grow=False) for text in texts]
    lengths = np.array([len(text) for text in texts], np.int64)
    stops = np.cumsum(lengths)
    readings, ends = {}, {}
    for name in READINGS:
        found = [part[name] for part in parts]
        tokens = _joined([reading.tokens for reading in found], np.uint16)
        sizes = np.array([len(reading.tokens) for reading in found], np.int64)
        origin = [
            reading.origin + start
            for reading, start in zip(found, (stops - lengths).tolist(), strict=True)
        ]
        readings[name] = Reading(tokens, _joined(origin, np.int64))
        unknown = np.append(np.flatnonzero(tokens == 0), len(tokens))
        until = unknown[np.searchsorted(unknown, np.arange(len(tokens)))]
        ends[name] = np.minimum(np.repeat(np.cumsum(sizes), sizes), until)
    return ReadTexts(_narrowed(readings, alphabets), ends, stops, "".join(texts))


def _source_blocks(source: TextSource) -> Iterator[tuple[int, Codes]]:
    start = 0
    while start < len(source):
        codes = source.code_points(start, start + BLOCK)
        if start + BLOCK < len(source):
            codes = codes[: _cut(codes)]
        yield start, codes
        start += len(codes)


def _blocks(codes: Codes) -> Iterator[tuple[int, Codes]]:
    start = 0
    while start < len(codes):
        block = codes[start : start + BLOCK]
        if start + BLOCK < len(codes):
            block = block[: _cut(block)]
        yield start, block
        start += len(block)


def _cut(codes: Codes) -> int:
    """Find where a block may end: after a line, else before a plain letter, else anywhere."""
    lines = np.flatnonzero(codes == NEWLINE)
    if len(lines):
        return int(lines[-1]) + 1
    letters = np.flatnonzero((codes < 128) & (codes > 64))
    return int(letters[-1]) if len(letters) and letters[-1] else len(codes)


def _read(
    blocks: Iterator[tuple[int, Codes]], alphabets: dict[str, Alphabet], grow: bool
) -> dict[str, Reading]:
    """Readings in 16-bit numbers."""
    tokens: dict[str, list[Tokens]] = {name: [] for name in READINGS}
    origin: dict[str, list[NDArray[np.integer]]] = {name: [] for name in READINGS}
    for start, codes in blocks:
        normal = normalise(codes)
        for name, form in zip(READINGS, (normal, fold(normal)), strict=True):
            if grow:
                alphabets[name].add(form.codes)
            tokens[name].append(alphabets[name].encode(form.codes))
            dtype = np.int32 if start + len(codes) < 2**31 else np.int64
            origin[name].append((form.origin + start).astype(dtype))
    return {
        name: Reading(_joined(tokens[name], np.uint16), _joined(origin[name], np.int32))
        for name in READINGS
    }


def _joined(parts: Sequence[NDArray], dtype: type) -> NDArray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _narrowed(readings: dict[str, Reading], alphabets: dict[str, Alphabet]) -> dict[str, Reading]:
    """In 8 bits where these are enough for the alphabet."""
    return {
        name: found._replace(tokens=found.tokens.astype(np.uint8))
        if len(alphabets[name]) <= 256
        else found
        for name, found in readings.items()
    }
