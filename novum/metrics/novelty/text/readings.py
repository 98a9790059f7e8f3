"""A text in the readings in which it is compared, with the way back to the original.

`verbatim` is the text in its normal form; `folded` its letters and digits alone (normal_form.py).
Those of a pool are written block by block and mapped into memory: `folded` of training and held-out
text in one row, `verbatim` each by itself.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core.files import append_array
from novum.core.vocabulary import CODE_POINTS, MOST_TOKENS, UNKNOWN, Tokens, code_points
from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text.index import PADDING, Words
from novum.metrics.novelty.text.normal_form import NEWLINE, Codes, Normal, fold, normalise
from novum.metrics.novelty.text.origins import Origins, OriginsWriter

READINGS = ("verbatim", "folded")
SIDES = ("train", "heldout")
BLOCK = 1 << 22  # characters at a time


class Alphabet:
    """Numbers for the characters of one reading of a pool, in the order in which they are met.

    0 is for characters that the pool has not, and for U+FFFD, which stands for unknown ones.
    """

    def __init__(self, codes: Sequence[int] = (ord(UNKNOWN),)) -> None:
        self._tokens = np.zeros(CODE_POINTS, np.uint16)
        self.codes = [*codes]
        self._tokens[self.codes] = np.arange(len(self.codes))

    def __len__(self) -> int:
        return len(self.codes)

    def add(self, codes: Codes) -> None:
        """Number the characters that are new; those beyond the 65,535th stay unknown."""
        found = np.flatnonzero(np.bincount(codes, minlength=1))
        new = found[(self._tokens[found] == 0) & (found != ord(UNKNOWN))]
        new = new[: MOST_TOKENS - len(self)]
        self._tokens[new] = np.arange(len(self), len(self) + len(new))
        self.codes += new.tolist()

    def encode(self, codes: Codes) -> NDArray[np.uint16]:
        return self._tokens[codes]

    @property
    def width(self) -> int:
        """Bytes of a token."""
        return 1 if len(self) <= 256 else 2


class Reading(NamedTuple):
    """A text in one reading."""

    tokens: Tokens  # (k,) uint8 or uint16
    origins: Origins

    def place(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in the original."""
        return self.origins[at]

    def inside(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find where places of the original stand in the reading, or what follows them."""
        return self.origins.find(places)


class ReadText(NamedTuple):
    """A text in each reading."""

    readings: dict[str, Reading]
    documents: NDArray[np.int64]  # (d,) places in the original where documents begin


class ReadPool(NamedTuple):
    """Training and held-out text in each reading, numbered alike."""

    alphabets: dict[str, Alphabet]
    folded: Words  # training text, then held-out text
    verbatim: Words  # training text
    train: ReadText
    heldout: ReadText | None


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


def write_pool(train: TextSource, heldout: TextSource | None, folder: Path) -> None:
    """Write the files that `open_pool` reads, block by block."""
    alphabets = {name: Alphabet() for name in READINGS}
    for side, source in zip(SIDES, (train, heldout), strict=True):
        writers = {name: OriginsWriter(folder, f"{name}.{side}") for name in READINGS}
        for start, codes in () if source is None else _blocks(source.code_points, len(source)):
            for name, form in _forms(codes).items():
                alphabets[name].add(form.codes)
                tokens = alphabets[name].encode(form.codes)
                append_array(_tokens_file(folder, name, side), tokens.astype(">u2"))
                writers[name].add(form.origin + start)
    for name, side in (("verbatim", "train"), ("verbatim", "heldout"), ("folded", "train")):
        _finish(_tokens_file(folder, name, side), alphabets[name].width)
    known = {name: alphabet.codes for name, alphabet in alphabets.items()}
    (folder / "alphabets.json").write_text(json.dumps(known))


def _tokens_file(folder: Path, name: str, side: str) -> Path:
    return folder / ("folded" if name == "folded" else f"verbatim.{side}")


def _finish(file: Path, width: int) -> None:
    """Tokens in as many bytes as they need, and the zeros that `Words` read beyond the end."""
    file.touch()
    wide = file.rename(file.with_name(f"{file.name}.wide"))
    with wide.open("rb") as tokens, file.open("wb") as out:
        while block := tokens.read(2 * BLOCK):
            out.write(block[1::2] if width == 1 else block)
        out.write(bytes(PADDING))
    wide.unlink()


def open_pool(train: TextSource, heldout: TextSource | None, folder: Path) -> ReadPool:
    """Map what `write_pool` has written into memory."""
    known = json.loads((folder / "alphabets.json").read_text())
    alphabets = {name: Alphabet(codes) for name, codes in known.items()}
    words = {
        file: Words.mapped(folder / file, alphabets[name].width)
        for file, name in (
            ("folded", "folded"), ("verbatim.train", "verbatim"), ("verbatim.heldout", "verbatim")
        )
    }  # fmt: skip
    texts, begin = [], 0
    for side, source in zip(SIDES, (train, heldout), strict=True):
        if source is not None:
            origins = {name: Origins.mapped(folder, f"{name}.{side}") for name in READINGS}
            end = begin + len(origins["folded"])
            tokens = {
                "verbatim": words[f"verbatim.{side}"].tokens,
                "folded": words["folded"].tokens[begin:end],
            }
            readings = {name: Reading(tokens[name], origins[name]) for name in READINGS}
            texts.append(ReadText(readings, np.array([p.start for p in source.pieces], np.int64)))
            begin = end
    other = texts[1] if heldout is not None else None
    return ReadPool(alphabets, words["folded"], words["verbatim.train"], texts[0], other)


def read_samples(texts: Sequence[str], alphabets: dict[str, Alphabet]) -> ReadTexts:
    """Texts in each reading; no passage goes across two of them, or across unknown characters."""
    lengths = np.array([len(text) for text in texts], np.int64)
    stops = np.cumsum(lengths)
    readings, ends = {}, {}
    parts = [_read(code_points(text), alphabets) for text in texts]
    for name in READINGS:
        tokens = _joined([part[name][0] for part in parts], np.uint16)
        sizes = np.array([len(part[name][0]) for part in parts], np.int64)
        begins = zip(parts, (stops - lengths).tolist(), strict=True)
        origins = _joined([part[name][1] + begin for part, begin in begins], np.int64)
        narrow = tokens.astype(np.uint8) if alphabets[name].width == 1 else tokens
        readings[name] = Reading(narrow, Origins.of(origins))
        unknown = np.append(np.flatnonzero(tokens == 0), len(tokens))
        until = unknown[np.searchsorted(unknown, np.arange(len(tokens)))]
        ends[name] = np.minimum(np.repeat(np.cumsum(sizes), sizes), until)
    return ReadTexts(readings, ends, stops, "".join(texts))


def _blocks(read: Callable[[int, int], Codes], size: int) -> Iterator[tuple[int, Codes]]:
    """Cut a text into blocks: the start and the characters of each."""
    start = 0
    while start < size:
        block = read(start, start + BLOCK)
        if start + BLOCK < size:
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


def _forms(codes: Codes) -> dict[str, Normal]:
    normal = normalise(codes)
    return dict(zip(READINGS, (normal, fold(normal)), strict=True))


def _read(
    codes: Codes, alphabets: dict[str, Alphabet]
) -> dict[str, tuple[NDArray[np.uint16], NDArray[np.int64]]]:
    """Tokens of a text in each reading, and the place of each in the original."""
    blocks = _blocks(lambda start, stop: codes[start:stop], len(codes))
    parts = [(start, _forms(block)) for start, block in blocks]
    return {
        name: (
            _joined([alphabets[name].encode(forms[name].codes) for _, forms in parts], np.uint16),
            _joined([forms[name].origin + start for start, forms in parts], np.int64),
        )
        for name in READINGS
    }


def _joined(parts: Sequence[NDArray], dtype: type) -> NDArray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
