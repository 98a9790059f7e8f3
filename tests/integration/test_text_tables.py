"""evaluate.py --kind text on JSON lines and parquet."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from novum.core.errors import InputError
from novum.datamodules.sources.raw_images import Omission
from novum.datamodules.sources.text_tables import is_table, read_table
from novum.evaluation.text_sets import open_source, read_samples

TEXTS = ["one\ntwo", "", "d\u00e9j\u00e0 vu", "last"]


def lines(column: str = "text") -> bytes:
    return b"".join(json.dumps({column: t, "id": i}).encode() + b"\n" for i, t in enumerate(TEXTS))


@pytest.fixture
def tables(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines())
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines()))
    with pa.CompressedOutputStream(str(tmp_path / "a.jsonl.zst"), "zstd") as file:
        file.write(lines())
    pq.write_table(pa.table({"text": TEXTS, "n": [1, 2, 3, 4]}), tmp_path / "a.parquet")
    return tmp_path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_rows_are_documents(tables, name):
    assert is_table(tables / name)
    assert list(read_table(tables / name)) == [(0, TEXTS[0]), (2, TEXTS[2]), (3, TEXTS[3])]
    assert read_samples(str(tables / name)).texts == [TEXTS[0], TEXTS[2], TEXTS[3]]
    source = open_source(str(tables / name))
    assert source.text() == "one\ntwo\n\nd\u00e9j\u00e0 vu\n\nlast\n\n"
    assert source.place(11) == (f"{name}, row 2", 2)


def test_a_column_is_named_or_found(tables):
    (tables / "b.jsonl").write_bytes(lines("body"))
    assert len(list(read_table(tables / "b.jsonl"))) == 3  # the only one with text
    assert len(list(read_table(tables / "b.jsonl", "body"))) == 3
    with pytest.raises(InputError, match="line 1 has no 'text': it has 'body', 'id'"):
        list(read_table(tables / "b.jsonl", "text"))
    with pytest.raises(InputError, match="has no column of text 'n': there are 'text'"):
        list(read_table(tables / "a.parquet", "n"))
    (tables / "two.jsonl").write_text('{"a": "x", "b": "y"}')
    with pytest.raises(InputError, match="--text-column\\); there are 'a', 'b'"):
        list(read_table(tables / "two.jsonl"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_what_is_no_table_is_named(tables, name):
    (tables / name).write_bytes(b"\x1f\x8bnothing of the kind")
    with pytest.raises(InputError, match=name):
        list(read_table(tables / name))


def test_a_byte_order_mark_is_no_character(tmp_path, monkeypatch):
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "cache"))
    Path(tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfabc")
    assert open_source(str(tmp_path / "bom.txt")).text() == "abc"
    assert read_samples(str(tmp_path / "bom.txt")).texts == ["abc"]


def test_hidden_files_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("abc")
    (folder / ".DS_Store").write_bytes(b"\0\1\2")
    assert read_samples(str(folder)) == (
        ["abc"],
        ["a.txt"],
        (Omission("hidden files", 1, (".DS_Store",)),),
    )
