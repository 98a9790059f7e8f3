"""Text in byte pairs: the vocabulary learnt from training text, and the tokens of all parts."""

import hashlib
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from filelock import FileLock

from novum.core.byte_pairs import BytePairs
from novum.core.cache import cache_folder
from novum.core.files import whole_file, write_text
from novum.datamodules.sources.corpus import Piece, TextSource
from novum.datamodules.sources.threads import bar

VERSION = 1  # of the files in the cache
BLOCK = 1 << 17  # characters that are read at a time; no token goes beyond


def learn_byte_pairs(text: TextSource, size: int) -> BytePairs:
    """The vocabulary of `size` tokens of a text in characters; out of the cache if it is there."""
    path = _entry("merges", text.fingerprint, size)
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            blocks = chain.from_iterable(_documents(text))
            learnt = BytePairs.of_texts(bar(blocks, "learning byte pairs"), size)
            write_text(path, learnt.merges or "")
    return BytePairs(path.read_text(encoding="utf-8"))


def in_byte_pairs(text: TextSource, vocabulary: BytePairs) -> TextSource:
    """A text in characters as byte pairs, in the cache."""
    path = _entry("pairs", text.fingerprint, vocabulary.merges)
    about = path.with_suffix(".json")
    with FileLock(f"{path}.lock"):
        if not about.is_file():
            starts, size = [], 0
            with whole_file(path) as out:
                for blocks in bar(list(_documents(text)), "encoding text"):
                    starts.append(size)
                    for block in blocks:
                        tokens = vocabulary.encode(block)
                        out.write(tokens.tobytes())
                        size += len(tokens)
            write_text(about, json.dumps(starts))
    starts = json.loads(about.read_text(encoding="utf-8"))
    empty = np.zeros(0, vocabulary.dtype)
    tokens = np.memmap(path, vocabulary.dtype, mode="r") if path.stat().st_size else empty
    pieces = [Piece(at, p.name, p.offset) for at, p in zip(starts, text.pieces, strict=True)]
    return TextSource(tokens, vocabulary, pieces, text.fingerprint, text.left_out, text)


def _documents(text: TextSource) -> Iterator[list[str]]:
    """Each piece, in blocks."""
    for _, start, stop in text.documents():
        yield [text.text(at, min(at + BLOCK, stop)) for at in range(start, stop, BLOCK)]


def _entry(*key: object) -> Path:
    folder = cache_folder() / "text"
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(json.dumps([VERSION, *key]).encode()).hexdigest()[:16]
    return folder / f"{name}.{key[0]}"
