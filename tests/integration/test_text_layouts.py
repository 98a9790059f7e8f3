"""Corpora as people have them, read alike by training and by evaluation."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from novum.core.errors import InputError
from novum.datamodules import TextDataModule
from novum.datamodules.sources.raw_images import Omission
from novum.datamodules.sources.text_documents import Reading
from novum.evaluation.text_sets import Places, open_source, read_samples, split_text

TEXTS = [f"Text {i}: naïve and über.\n" * 12 for i in range(40)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()


def lines(column: str = "text") -> bytes:
    return b"".join(json.dumps({column: t, "id": "no"}).encode() + b"\n" for t in TEXTS)


def table() -> pa.Table:
    return pa.table({"text": TEXTS, "n": list(range(len(TEXTS)))})


def write_files(to: Path) -> None:
    for i, text in enumerate(TEXTS):
        (to / f"sub{i % 3}").mkdir(exist_ok=True)
        (to / f"sub{i % 3}" / f"{i}.txt").write_text(text, encoding="utf-8")
    (to / ".DS_Store").write_bytes(b"\0\1")
    (to / ".git").mkdir()
    (to / ".git" / "index").write_bytes(b"\0\2")


def write_zst(to: Path) -> None:
    with pa.CompressedOutputStream(str(to / "a.jsonl.zst"), "zstd") as file:
        file.write(lines())


def write_arrow(to: Path) -> None:
    with pa.ipc.new_file(str(to / "a.arrow"), table().schema) as file:
        file.write_table(table())


def save(to: Path) -> None:
    from datasets import Dataset, DatasetDict

    own, other = (Dataset.from_dict({"text": t}) for t in (TEXTS, ["another split"] * 3))
    DatasetDict({"train": own, "test": other}).save_to_disk(to)


def write_splits(to: Path) -> None:
    pq.write_table(table(), to / "train-00000-of-00001.parquet")
    pq.write_table(pa.table({"text": ["another split"]}), to / "test-00000-of-00001.parquet")
    (to / "README.md").write_text("# about the tables")


LAYOUTS = {
    "folder": (write_files, "x"),
    "glob": (write_files, "x/**/*.txt"),
    "jsonl": (lambda to: (to / "a.jsonl").write_bytes(lines()), "x/a.jsonl"),
    "jsonl.gz": (lambda to: (to / "a.jsonl.gz").write_bytes(gzip.compress(lines())), "x"),
    "jsonl.zst": (write_zst, "x/*.zst"),
    "parquet": (lambda to: pq.write_table(table(), to / "a.parquet"), "x/a.parquet"),
    "arrow": (write_arrow, "x/a.arrow"),
    "saved": (save, "x"),
    "splits": (write_splits, "x"),
}


@pytest.mark.filterwarnings("ignore:.*left out")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_and_evaluation_read_the_same(layout):
    write, place = LAYOUTS[layout]
    write(Path("x"))
    trained = TextDataModule("files", place, batch_size=2, chunk_length=5).corpus
    judged = open_source(place)
    as_read = trained.source([(0, len(trained.tokens))])
    both = [sorted(x.text(*span).strip() for _, *span in x.documents()) for x in (as_read, judged)]
    assert both[0] == both[1] == sorted(text.strip() for text in TEXTS)
    assert trained.vocabulary == judged.vocabulary and trained.left_out == judged.left_out
    parts = split_text(place, Places())
    assert len(parts.train) + len(parts.heldout) == len(judged)
    if layout not in ("saved", "splits"):  # samples are all splits
        assert sorted(read_samples(place).texts) == sorted(TEXTS)
    if layout in ("saved", "splits"):
        assert len(read_samples(place).texts) > len(TEXTS)
        other = open_source(place, Places(split="test"))
        assert set(other.text().split("\n")) == {"another split", ""}


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_huggingface_reads_as_files_do(name):
    LAYOUTS[name.removeprefix("a.")][0](Path("x"))
    hub = TextDataModule("huggingface", path="x", text_column="text", batch_size=2, chunk_length=5)
    own = TextDataModule("files", f"x/{name}", text_column="text", batch_size=2, chunk_length=5)
    assert hub.corpus.fingerprint == own.corpus.fingerprint
    with pytest.raises(InputError, match="'no such'"):
        TextDataModule("files", f"x/{name}", text_column="no such")


@pytest.mark.filterwarnings("ignore:.*left out")
def test_what_is_left_out_is_counted():
    write_files(Path("x"))
    left_out = (
        Omission("files in hidden folders", 1, (".git/index",)),
        Omission("hidden files", 1, (".DS_Store",)),
    )
    assert open_source("x").left_out == read_samples("x").left_out == left_out
    write_splits(Path("x"))
    assert open_source("x").left_out == (
        *left_out,
        Omission("files beside tables", 41, ("README.md", "sub0/0.txt", "sub0/12.txt")),
        Omission("tables of other splits", 1, ("test-00000-of-00001.parquet",)),
    )


class TestOneFileOfAnotherEncoding:
    @pytest.fixture(autouse=True)
    def mixed(self):
        for i in range(5):
            Path(f"x/{i}.txt").write_bytes(b"\xef\xbb\xbf" + f"naïve {i} ".encode() * 40)
        Path("x/old.txt").write_bytes("café ".encode("latin-1") * 40)
        self.rows = [json.dumps({"text": t}, ensure_ascii=False) for t in ("naïve", "café")]

    def test_is_named(self):
        said = (
            r"old\.txt is not utf-8 text: byte 0xe9 at offset 3; .*--encoding.*--on-bad-text skip"
        )
        for read in (lambda: TextDataModule("files", "x"), lambda: open_source("x"),
                     lambda: read_samples("x")):  # fmt: skip
            with pytest.raises(InputError, match=said):
                read()

    def test_is_skipped_when_asked(self):
        without = (Omission("not utf-8 text", 1, ("old.txt",)),)
        places = Places(Reading(skip_bad=True))
        with pytest.warns(UserWarning, match=r"text left out: 1 not utf-8 text"):
            data = TextDataModule("files", "x", on_bad_text="skip", batch_size=2, chunk_length=5)
        assert data.corpus.left_out == without == open_source("x", places).left_out
        texts, _, left_out = read_samples("x", places)
        assert len(texts) == 5 and left_out == without
        assert "é" not in data.alphabet and "ï" in data.alphabet and "\ufeff" not in data.alphabet

    def test_is_decoded_when_asked(self):
        both = "utf-8, latin-1"
        data = TextDataModule("files", "x", encoding=both, batch_size=2, chunk_length=5)
        places = Places(Reading(both))
        assert {"é", "ï"} < set(data.alphabet) and "Ã" not in data.alphabet
        texts = read_samples("x", places).texts
        assert sorted(t[:4] for t in texts) == ["café", *["naïv"] * 5]
        assert "café" in open_source("x", places).text()

    def test_a_line_of_a_table_likewise(self):
        utf, latin = self.rows[0].encode(), self.rows[1].encode("latin-1")
        Path("x/t.jsonl").write_bytes(b"\n".join([utf, latin, utf, b"{half", utf]))
        with pytest.raises(InputError, match=r"t\.jsonl line 2 is not utf-8 text"):
            open_source("x/t.jsonl")
        found = read_samples("x/t.jsonl", Places(Reading(skip_bad=True)))
        assert found.texts == ["naïve"] * 3
        assert found.left_out == (
            Omission("rows not JSON", 1, ("t.jsonl, row 3",)),
            Omission("rows not utf-8 text", 1, ("t.jsonl, row 1",)),
        )
        source = open_source("x/t.jsonl", Places(Reading("utf-8,latin-1", skip_bad=True)))
        assert source.text().split() == ["naïve", "café", "naïve", "naïve"]

    def test_nothing_that_can_be_read(self):
        for path in Path("x").glob("[0-9].txt"):
            path.unlink()
        with pytest.raises(InputError, match=r"no text \(left out: 1 not utf-8 text\)"):
            open_source("x", Places(Reading(skip_bad=True)))
        with pytest.raises(InputError, match="unknown encoding 'zlib'"):
            open_source("x", Places(Reading("utf-8,zlib")))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32-be"])
def test_a_byte_order_mark_is_no_character(encoding):
    mark = "" if encoding == "utf-16" else "\ufeff"  # which writes its own
    for name in ("a", "b"):
        Path(f"x/{name}.txt").write_bytes(f"{mark}text {name}".encode(encoding))
    places = Places(Reading(encoding))
    assert open_source("x", places).text() == "text atext b"
    assert read_samples("x", places).texts == ["text a", "text b"]
    if encoding == "utf-8":
        as_bytes = TextDataModule("files", "x", vocabulary="bytes", batch_size=1, chunk_length=2)
        assert b"\xef\xbb\xbf" not in as_bytes.corpus.tokens.tobytes()
        source = as_bytes.corpus.source([(0, len(as_bytes.corpus.tokens))]).as_characters()
        assert sorted(source.text(*span) for _, *span in source.documents()) == ["text a", "text b"]
