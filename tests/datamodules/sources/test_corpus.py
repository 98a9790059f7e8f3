"""Files as one memory-mapped array, and its parts."""

from pathlib import Path

import numpy as np
import pytest

from novum.datamodules.sources import corpus, text_documents
from novum.datamodules.sources.corpus import Corpus, TextSource
from novum.datamodules.sources.text_documents import Reading


@pytest.fixture
def files(tmp_path) -> list[Path]:
    paths = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    for path, text in zip(paths, ("hello ", "", "wörld"), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def read(files, as_bytes=False, encoding="utf-8") -> Corpus:
    how = Reading(encoding, as_bytes=as_bytes)
    return Corpus.of_files(files, [f.name for f in files], how)


@pytest.mark.parametrize("block", [1, 3, 1 << 22])
def test_tokens_are_the_text_whatever_the_block(files, monkeypatch, block):
    monkeypatch.setattr(text_documents, "BLOCK", block)
    made = read(files)
    assert isinstance(made.tokens, np.memmap)
    assert made.vocabulary.decode(made.tokens) == "hello wörld"
    assert bytes(read(files, as_bytes=True).tokens) == "hello wörld".encode()


def test_parts_know_their_places(files):
    source = read(files).source([(3, 9)])
    assert source.text() == "lo wör"
    assert len(source) == 6
    assert source.text(1, 4) == "o w"
    assert [source.place(i) for i in (0, 2, 3, 5)] == [
        ("a.txt", 3), ("a.txt", 5), ("c.txt", 0), ("c.txt", 2)
    ]  # fmt: skip
    with pytest.raises(IndexError):
        source.place(6)


def test_several_spans_are_joined(files):
    source = read(files).source([(0, 2), (4, 8)])
    assert source.text() == "heo wö"
    assert source.place(1) == ("a.txt", 1)
    assert source.place(2) == ("a.txt", 4)
    assert source.place(5) == ("c.txt", 1)


def test_fingerprint_is_of_contents(files):
    first = read(files).source([(0, 5)])
    assert first.fingerprint == read(files).source([(0, 5)]).fingerprint
    assert first.fingerprint != read(files).source([(0, 6)]).fingerprint
    files[0].write_text("hellO ")
    assert first.fingerprint != read(files).source([(0, 5)]).fingerprint
    assert TextSource.of("ab").fingerprint == TextSource.of("ab", "other").fingerprint
    assert TextSource.of("ab").fingerprint != TextSource.of("ba").fingerprint


def test_made_once_and_again_when_a_file_changes(files, monkeypatch):
    calls = []
    make = corpus._make
    monkeypatch.setattr(corpus, "_make", lambda *a: (calls.append(1), make(*a)))
    read(files)
    read(files)
    assert len(calls) == 1
    files[2].write_text("new")
    assert read(files).vocabulary.decode(read(files).tokens) == "hello new"
    assert len(calls) == 2


def test_documents_in_memory_have_places():
    source = TextSource.of_documents(["ab", "", "cde"], "d")
    assert source.text() == "abcde"
    assert [*source.documents()] == [("d0", 0, 2), ("d1", 2, 2), ("d2", 2, 5)]
    assert [source.place(i) for i in (1, 2, 4)] == [("d0", 1), ("d2", 0), ("d2", 2)]
    assert source.fingerprint == TextSource.of("abcde").fingerprint
