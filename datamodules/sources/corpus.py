"""A corpus: files of text as one memory-mapped array of tokens, and its parts as text sources."""

import bisect
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from novum.core.cache import cache_folder
from novum.core.errors import InputError
from novum.core.vocabulary import CODE_POINTS, MOST_TOKENS, Tokens, Vocabulary, code_points
from novum.datamodules.sources.raw_images import Omission, say_omissions
from novum.datamodules.sources.text_documents import (
    BLOCK,
    LeftOut,
    Reading,
    TextFile,
    as_row,
    documents,
    raw_blocks,
    readable,
)
from novum.datamodules.sources.text_tables import is_table
from novum.datamodules.sources.threads import bar

VERSION = 3  # of the files in the cache

Span = tuple[int, int]  # from, to: tokens of the corpus


class Piece(NamedTuple):
    """A run of tokens out of one document: a file of text, or a row of a table."""

    start: int  # in the source
    name: str
    offset: int  # in the document, in tokens


class TextSource:
    """Text that figures of novelty are measured against: tokens, and where each comes from.

    Offsets and lengths count tokens: characters, bytes or byte pairs.
    `left_out`: what was not read of the place that it is from.
    """

    def __init__(
        self,
        tokens: Tokens,
        vocabulary: Vocabulary,
        pieces: Sequence[Piece] = (Piece(0, "text", 0),),
        fingerprint: str | None = None,
        left_out: tuple[Omission, ...] = (),
        characters: "TextSource | None" = None,
    ) -> None:
        """`characters`: The same text in characters, which byte pairs were made of."""
        self.tokens, self.vocabulary, self.pieces = tokens, vocabulary, pieces
        self._characters = characters
        self.left_out = left_out
        self._starts = [piece.start for piece in pieces]
        self._fingerprint = fingerprint

    @classmethod
    def of(
        cls, text: str, name: str = "text", vocabulary: Vocabulary | None = None
    ) -> "TextSource":
        """A text in memory."""
        vocabulary = vocabulary or Vocabulary.of_text(text)
        return cls(vocabulary.encode(text), vocabulary, [Piece(0, name, 0)])

    @classmethod
    def of_documents(cls, texts: Sequence[str], name: str = "document ") -> "TextSource":
        """Documents in memory, one after another, named by their numbers from 0."""
        starts = accumulate(map(len, texts), initial=0)
        pieces = [
            Piece(at, f"{name}{i}", 0) for i, (at, _) in enumerate(zip(starts, texts, strict=False))
        ]
        text = "".join(texts)
        vocabulary = Vocabulary.of_text(text)
        return cls(vocabulary.encode(text), vocabulary, pieces)

    @property
    def fingerprint(self) -> str:
        """sha256 of the contents, the same in every process."""
        if self._fingerprint is None:
            self._fingerprint = _digest(self.tokens, self.vocabulary)
        return self._fingerprint

    def __len__(self) -> int:
        return len(self.tokens)

    def text(self, start: int = 0, stop: int | None = None) -> str:
        return self.vocabulary.decode(self.tokens[start:stop])

    def code_points(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint32]:
        """Unicode code points of the characters there; not of a vocabulary of bytes."""
        return self.vocabulary.code_points(self.tokens[start:stop])

    def as_characters(self) -> "TextSource":
        """The same text in characters."""
        if self._characters is not None or not self.vocabulary.is_bytes:
            return self._characters or self
        stops = [*self._starts[1:], len(self)]
        texts = [
            self.tokens[piece.start : stop].tobytes().decode("utf-8", "surrogateescape")
            for piece, stop in zip(self.pieces, stops, strict=True)
        ]
        starts = np.cumsum([0, *map(len, texts)]).tolist()
        pieces = [
            Piece(start, piece.name, piece.offset)
            for start, piece in zip(starts, self.pieces, strict=False)
        ]
        text = "".join(texts)
        vocabulary = Vocabulary.of_text(text)
        return TextSource(vocabulary.encode(text), vocabulary, pieces, left_out=self.left_out)

    def documents(self) -> Iterator[tuple[str, int, int]]:
        """Name, start and stop of each piece."""
        stops = [*self._starts[1:], len(self)]
        for piece, stop in zip(self.pieces, stops, strict=True):
            yield piece.name, piece.start, stop

    def place(self, offset: int) -> tuple[str, int]:
        """The file that a token comes from, and its offset there."""
        if not 0 <= offset < len(self):
            raise IndexError(f"offset {offset} is outside a text of {len(self)}")
        piece = self.pieces[bisect.bisect_right(self._starts, offset) - 1]
        if self._characters is not None:  # a piece has its offset in characters
            return piece.name, piece.offset + len(self.text(piece.start, offset))
        return piece.name, piece.offset + offset - piece.start


class Corpus:
    """Files as one array of tokens in the cache, read through a memory map.

    It is made once for the files as they are (by path, size and time of change), in two passes of
    bounded memory: one finds the characters, the other writes the tokens.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        self.vocabulary = Vocabulary(about["alphabet"])
        self.names: list[str] = about["names"]
        self.starts: list[int] = about["starts"]
        self.fingerprint: str = about["fingerprint"]
        self.left_out = tuple(Omission(r, n, tuple(names)) for r, n, names in about["left_out"])
        self.new: dict[str, int] = about["new"]  # characters that a kept vocabulary has not
        if not (folder / "tokens.bin").stat().st_size:
            without = say_omissions(self.left_out)
            raise InputError(
                f"{', '.join(self.names[:3]) or 'of all files'}: there is no text"
                + (f" (left out: {without})" if without else "")
            )
        self.tokens = np.memmap(folder / "tokens.bin", self.vocabulary.dtype, mode="r")

    @classmethod
    def of_files(
        cls,
        files: Sequence[Path],
        names: Sequence[str],
        how: Reading,
        vocabulary: Vocabulary | None = None,
        left_out: tuple[Omission, ...] = (),
        extend: bool = False,
    ) -> "Corpus":
        """The corpus of files in this order, out of the cache if it is there.

        Args:
            files: Of text, or tables.
            names: Of the files.
            how: How they are read.
            vocabulary: Kept, whatever characters there are; None: theirs.
            left_out: Files beside these that are not read.
            extend: Give tokens to characters that the kept vocabulary does not have.
        """
        stamps = [(str(f.resolve()), (s := f.stat()).st_size, s.st_mtime_ns) for f in files]
        kept = vocabulary and vocabulary.alphabet
        key = json.dumps([VERSION, stamps, list(names), how, kept, extend])
        folder = cache_folder() / "text" / hashlib.sha256(key.encode()).hexdigest()[:16]
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / "about.json").is_file():
                _make(folder, files, names, how, vocabulary, extend)
        corpus = cls(folder)
        corpus.left_out = (*left_out, *corpus.left_out)
        return corpus

    def source(self, spans: Sequence[Span]) -> TextSource:
        """Parts of the corpus one after another; several are copied into the cache, once."""
        sizes = [stop - start for start, stop in spans]
        pieces, at = [], 0
        for (start, stop), size in zip(spans, sizes, strict=True):
            pieces += self._pieces(start, stop, at)
            at += size
        key = hashlib.sha256(f"{self.fingerprint} {list(spans)}".encode()).hexdigest()
        if len(spans) == 1:
            tokens = self.tokens[slice(*spans[0])]
        else:
            tokens = self._joined(spans, key)
        return TextSource(tokens, self.vocabulary, pieces, key, self.left_out)

    def documents(self, start: int, stop: int) -> list[Span]:
        """The parts of the documents that lie between two tokens."""
        starts = [start + piece.start for piece in self._pieces(start, stop, 0)]
        ends = [*starts[1:], stop]
        return [span for span in zip(starts, ends, strict=True) if span[0] < span[1]]

    def _pieces(self, start: int, stop: int, at: int) -> Iterator[Piece]:
        first = bisect.bisect_right(self.starts, start) - 1
        for begin, name in zip(self.starts[first:], self.names[first:], strict=True):
            if begin >= stop:
                return
            inside = max(begin, start)
            yield Piece(at + inside - start, name, inside - begin)

    def _joined(self, spans: Sequence[Span], key: str) -> Tokens:
        path = self.folder / f"{key[:16]}.bin"
        with FileLock(f"{self.folder}.lock"):
            if not path.is_file():
                with open(path.with_suffix(".part"), "wb") as file:
                    for start, stop in spans:
                        for block in range(start, stop, BLOCK):
                            file.write(self.tokens[block : min(block + BLOCK, stop)].tobytes())
                os.replace(file.name, path)
        return np.memmap(path, self.vocabulary.dtype, mode="r")


def _make(
    folder: Path,
    files: Sequence[Path],
    names: Sequence[str],
    how: Reading,
    kept: Vocabulary | None,
    extend: bool,
) -> None:
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    left_out = LeftOut()
    found = list(readable(files, names, how, left_out))
    counts = None if how.as_bytes else _count(found, how)
    new = {} if counts is None or kept is None else _new(counts, kept)
    vocabulary = kept or (Vocabulary() if counts is None else Vocabulary.of(counts))
    if extend and new:
        vocabulary = Vocabulary(f"{vocabulary.alphabet}{''.join(new)}"[:MOST_TOKENS])
    starts, called, written = [], [], 0
    digest = hashlib.sha256(repr(vocabulary.alphabet).encode())
    with open(part / "tokens.bin", "wb") as out:
        for file in bar(found, "encoding text"):
            for name, blocks in _tokens(file, vocabulary, how, left_out):
                starts.append(written)
                called.append(name)
                for tokens in blocks:
                    written += len(tokens)
                    digest.update(tokens.data)
                    out.write(tokens.tobytes())
    about = {
        "alphabet": vocabulary.alphabet,
        "names": called,
        "starts": starts,
        "fingerprint": digest.hexdigest(),
        "left_out": left_out.omissions(),
        "new": new,
    }
    (part / "about.json").write_text(json.dumps(about), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)


def _count(files: Sequence[TextFile], how: Reading) -> np.ndarray:
    counts = np.zeros(CODE_POINTS, np.int64)
    for file in bar(files, "reading text"):
        texts = chain.from_iterable(
            (as_row(*blocks),) if is_table(file.path) else blocks
            for _, blocks in documents(file, how, LeftOut())
        )
        for text in _joined_texts(texts):
            found = np.bincount(code_points(text))
            counts[: len(found)] += found
    return counts


def _joined_texts(texts: Iterable[str]) -> Iterator[str]:
    """Blocks of about equal length: one is counted in no less time than a million characters."""
    parts, size = [], 0
    for text in texts:
        parts.append(text)
        size += len(text)
        if size >= BLOCK:
            yield "".join(parts)
            parts, size = [], 0
    yield "".join(parts)


def _new(counts: np.ndarray, kept: Vocabulary) -> dict[str, int]:
    """Characters that have no token, and how often each occurs, the most frequent first."""
    codes = np.flatnonzero(counts)
    codes = codes[~np.isin(codes, code_points(kept.alphabet or ""))]
    codes = codes[np.argsort(-counts[codes], kind="stable")]
    return {chr(code): int(counts[code]) for code in codes.tolist()}


def _tokens(
    file: TextFile, vocabulary: Vocabulary, how: Reading, left_out: LeftOut
) -> Iterator[tuple[str, Iterator[Tokens]]]:
    """Name and tokens, in blocks, of each document of a file."""
    if is_table(file.path):
        for name, text in documents(file, how, left_out):
            yield name, iter([vocabulary.encode(as_row(*text))])
    elif how.as_bytes:
        yield file.name, (np.frombuffer(block, np.uint8) for block in raw_blocks(file.path))
    else:
        for name, blocks in documents(file, how, left_out):
            yield name, map(vocabulary.encode, blocks)


def _digest(tokens: Tokens, vocabulary: Vocabulary) -> str:
    digest = hashlib.sha256(repr(vocabulary.alphabet).encode())
    for start in range(0, len(tokens), BLOCK):
        digest.update(np.ascontiguousarray(tokens[start : start + BLOCK]).data)
    return digest.hexdigest()
