"""Tables of a stranger: what a folder says of itself opens no other file and no address."""

import gc
import io
import json
import os
import subprocess
from pathlib import Path

import datasets
import huggingface_hub.constants
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from novum.datamodules import ImageDataModule, TextDataModule
from novum.datamodules.resolve_source import open_images
from novum.datamodules.sources.huggingface import open_splits
from novum.datamodules.sources.local_tables import by_split, list_files
from tests import programs
from tests.archives import write_tar
from tests.project import ROOT


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: str, values, label: int = 0) -> str:
    """A parquet file of gray images."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": [png(v) for v in values], "label": [label] * len(values)})
    pq.write_table(table, path)
    return path


def grays(where: str, **options) -> list[int]:
    return open_images(where, **options).images[:][:, 0, 0, 0].tolist()


def streamed(where: str) -> list[int]:
    """All images of a stream."""
    data = ImageDataModule("huggingface", where, image_size=8, streaming=True, heldout_fraction=0.5)
    sides = data.train_reference(), data.heldout_reference()
    return sorted(v for side in sides for v in side[:][:, 0, 0, 0].tolist())


OWN, OUTSIDE = [1, 2, 3, 4, 5, 6, 7, 8], [201, 202, 203]


@pytest.fixture
def folder():
    write("outside.parquet", OUTSIDE)
    write("outside/x.parquet", OUTSIDE)
    write("set/own.parquet", OWN)
    return "set"


def card(**entries: object) -> str:
    """A README.md with a YAML heading."""
    return f"---\n{json.dumps(entries)}\n---\n"


def config(**entries: object) -> dict:
    return {"configs": [{"config_name": "default", **entries}]}


OUTSIDE_FILE = str(Path("/tmp/nowhere/outside.parquet"))
SPEAKING = {
    "a name above": ("README.md", lambda: card(**config(data_files="../outside.parquet"))),
    "an absolute name": (
        "README.md", lambda: card(**config(data_files=str(Path("outside.parquet").resolve())))
    ),
    "an address": ("README.md", lambda: card(**config(data_files="http://127.0.0.1:9/x.parquet"))),
    "a chain": ("README.md", lambda: card(**config(data_files="zip://x::http://127.0.0.1:9/x"))),
    "a list": (
        "README.md",
        lambda: card(**config(data_files=[{"split": "train", "path": ["../out*.parquet"]}])),
    ),
    "a folder": ("README.md", lambda: card(**config(data_dir="../outside"))),
    "another kind of file": (
        ".huggingface.yaml", lambda: json.dumps(config(data_files="../outside.parquet"))
    ),
    "columns of another type": (
        "dataset_infos.json",
        lambda: json.dumps({"default": {"features": {"image": {"_type": "Pdf"}}}}),
    ),
    "a script": ("set.py", lambda: "open('ran', 'w')"),
    "captions": ("metadata.csv", lambda: "file_name\n../outside.png\n"),
    "what is not YAML": ("README.md", lambda: "---\n{{{\n---"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPEAKING)
def test_what_a_folder_says_of_itself_is_not_read(kind, folder):
    name, text = SPEAKING[kind]
    Path(folder, name).write_text(text())
    assert grays(folder) == streamed(folder) == OWN
    assert not Path("ran").exists()


@pytest.mark.parametrize("kind", SPEAKING)
def test_nor_is_it_for_text(kind):
    Path("set").mkdir()
    pq.write_table(pa.table({"text": ["other words " * 50]}), "outside.parquet")
    pq.write_table(pa.table({"text": ["own words " * 50]}), "set/own.parquet")
    name, text = SPEAKING[kind]
    Path("set", name).write_text(text())
    data = TextDataModule("huggingface", path="set", batch_size=2, chunk_length=5)
    assert data.train_reference().text().startswith("own words own")


@pytest.mark.parametrize("target", ["../outside.parquet", "absolute", "folder"])
def test_links_to_tables_that_lead_out(target, folder):
    if target == "folder":
        os.symlink("../outside", "set/more")
    else:
        path = Path("outside.parquet").resolve() if target == "absolute" else target
        os.symlink(path, "set/train.parquet")
    for read in (grays, streamed):
        with pytest.warns(UserWarning, match="set: links that lead out of it are left out: 1"):
            assert read(folder) == OWN
    Path("set/own.parquet").unlink()
    with pytest.raises(ValueError, match="links that lead out of it.*--follow-links"):
        ImageDataModule("huggingface", "set")
    assert list(list_files(Path("set"), follow_links=True).files) == ["train"]
    data = ImageDataModule("huggingface", "set", image_size=8, follow_links=True)
    assert len(data.train_reference()) + len(data.heldout_reference()) == 3


def test_names_that_are_patterns_or_addresses_are_names(folder):
    write("set/[ab]*.parquet", [9])
    os.rename("set/own.parquet", "set/zip:x?.parquet")
    assert sorted(grays(folder)) == [*OWN, 9]
    write("set/zip:::..::outside.parquet", [10])
    assert sorted(grays(folder)) == [*OWN, 9]
    with pytest.raises(ValueError, match="takes a name with '::' for an address"):
        grays("set/zip:::..::outside.parquet")


def test_the_cache_knows_other_contents_under_one_name(folder):
    assert grays(folder) == OWN
    write("set/own.parquet", [11, 12, 13])
    assert grays(folder) == [11, 12, 13]


def cells(path: str, names: list[str]) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": name} for name in names], kind)
    pq.write_table(pa.table({"image": images}), path)
    return path


def test_cells_name_files_beside_their_table():
    for i in OWN:
        Path("set/images").mkdir(parents=True, exist_ok=True)
        Path(f"set/images/{i}.png").write_bytes(png(i))
    table = cells("set/x.parquet", [f"images/{i}.png" for i in OWN])
    assert grays(table) == grays("set") == streamed("set") == OWN


@pytest.mark.parametrize(
    "name",
    ["../outside.png", "link.png", "links/outside.png", "absolute", "hf://datasets/a/b/x.png",
     "file:///etc/passwd::hf://datasets/a/b", "http://127.0.0.1:9/x.png", "zip://x::file://y"],
)  # fmt: skip
def test_cells_name_no_other(name, monkeypatch):
    Path("outside.png").write_bytes(png(200))
    Path("set").mkdir()
    os.symlink("../outside.png", "set/link.png")
    os.symlink("..", "set/links")
    monkeypatch.setattr("fsspec.open", lambda *_, **__: pytest.fail("opened"))
    name = str(Path("outside.png").resolve()) if name == "absolute" else name
    where = cells("set/x.parquet", [name] * 3)
    for read in (grays, streamed):
        with pytest.raises(ValueError, match="outside of its own folder|only files of its hub"):
            read(where)


def test_the_cache_of_datasets_is_outside_too(tmp_path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "private.png").write_bytes(png(200))
    where = cells("set/x.parquet", [str(tmp_path / "hf" / "private.png")] * 2)
    with pytest.raises(ValueError, match="outside of its own folder"):
        grays(where)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # `datasets` leaves the list open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_captions_name_no_file_outside(tmp_path):
    Path("outside.png").write_bytes(png(200))
    for name in ("../outside.png", str(Path("outside.png").resolve()), "link.png"):
        Path("set").mkdir(exist_ok=True)
        if not Path("set/link.png").is_symlink():
            os.symlink("../outside.png", "set/link.png")
        Path("set/0.png").write_bytes(png(0))
        Path("set/metadata.csv").write_text(f"file_name,label\n0.png,1\n{name},2\n")
        with pytest.warns(UserWarning, match="lead out"), pytest.raises(ValueError):
            ImageDataModule("huggingface", "set", image_size=8).setup()
    gc.collect()


def saved(where: str, values=OWN) -> Path:
    images = [{"bytes": png(v), "path": None} for v in values]
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": images}, features).save_to_disk(where)
    return Path(where)


def rewrite(path: Path, **entries: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize("how", ["above", "absolute", "a link", "a chain", "an address"])
def test_saved_tables_lie_in_their_folder(how):
    other, folder = saved("other", OUTSIDE), saved("set")
    arrow = next(other.glob("*.arrow"))
    name = {
        "above": f"../other/{arrow.name}",
        "absolute": str(arrow.resolve()),
        "a link": "link.arrow",
        "a chain": "zip://x::../other",
        "an address": "http://x/y",
    }[how]
    os.symlink(arrow.resolve(), "set/link.arrow")
    assert grays("set") == OWN
    rewrite(folder / "state.json", _data_files=[{"filename": name}])
    with pytest.raises(ValueError, match="outside of its own|leads out of set|cannot open 'set'"):
        grays("set")


@pytest.mark.parametrize("name", ["../other", "absolute", "link", 7])
def test_saved_splits_lie_in_their_folder(name):
    saved("other", OUTSIDE), saved("set/train")
    os.symlink("../other", "set/link")
    name = str(Path("other").resolve()) if name == "absolute" else name
    Path("set/dataset_dict.json").write_text(json.dumps({"splits": ["train", "link"]}))
    with pytest.raises(ValueError, match="leads out of set"):
        grays("set")
    assert grays("set", follow_links=True) == OWN
    Path("set/dataset_dict.json").write_text(json.dumps({"splits": [name, "train"]}))
    with pytest.raises(ValueError, match="names the split|leads out of set"):
        grays("set")


def test_saved_tables_keep_no_format_of_a_stranger():
    rewrite(saved("set") / "state.json", _format_type="custom", _format_kwargs={"transform": "x"})
    assert grays("set") == OWN


@pytest.mark.parametrize("kind", ["parquet", "arrow", "saved"])
@pytest.mark.parametrize(
    "feature", [{"_type": "Value", "dtype": "mark"}, {"_type": "Pdf"}, {"_type": "Video"},
                {"_type": "List", "feature": {"_type": "Value", "dtype": "mark"}},
                {"_type": "ClassLabel", "names_file": "../secret"}, {"_type": "Mark"}, [], 7]
)  # fmt: skip
def test_a_schema_names_no_function_and_no_decoder(kind, feature, monkeypatch):
    """`datasets` calls pyarrow's function of the name that a column's type is said to have."""
    monkeypatch.setitem(pa.__dict__, "mark", lambda: Path("ran").touch())
    about = {"info": {"features": {"image": {"_type": "Image"}, "other": feature}}}
    table = pa.table({"image": [{"bytes": png(v), "path": None} for v in OWN], "other": OWN})
    table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    folder = saved("set")
    if kind != "saved":
        for file in folder.iterdir():
            file.unlink()
    if kind == "parquet":
        pq.write_table(table, "set/x.parquet")
    else:
        path = next(folder.glob("*.arrow"), folder / "x.arrow")
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    assert grays("set") == streamed("set") == OWN
    assert not Path("ran").exists()


def test_no_column_beside_the_text_is_decoded():
    """`datasets` would open what a column of images names."""
    about = {"info": {"features": {"image": {"_type": "Image"},
                                   "text": {"_type": "Value", "dtype": "string"}}}}  # fmt: skip
    images = [{"bytes": None, "path": "/dev/zero"}, {"bytes": None, "path": "http://127.0.0.1:9/"}]
    table = pa.table(
        {"image": images, "text": ["words " * 50] * 2},
    )
    Path("set").mkdir()
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(about)}), "set/x.parquet"
    )
    for streaming in ({}, {"streaming": True, "max_characters": 500}):
        data = TextDataModule("huggingface", path="set", **streaming)
        assert data.train_reference().text().startswith("words")


def test_members_of_archives_are_not_decoded_beside_the_images(monkeypatch):
    import gzip

    import numpy
    import torch

    for place in ((torch, "load"), (numpy, "load")):
        monkeypatch.setattr(*place, lambda *_, **__: pytest.fail("decoded"))
    members = {}
    for i in range(4):
        members |= {f"{i}.png": png(i), f"{i}.cls": b"%d" % i, f"{i}.pth": b"x", f"{i}.npz": b"x",
                    f"{i}.json": b"{}", f"{i}.mp": b"\xc1", f"{i}.bin.gz": gzip.compress(bytes(99)),
                    f"{i}.txt": b"a text"}  # fmt: skip
    where = write_tar("x.tar", members)
    data = ImageDataModule("huggingface", where, image_size=8)
    assert data.num_classes == 4
    assert grays(where) == [0, 1, 2, 3]
    table, _ = open_splits(where, None, streaming=False)
    assert not {"bin.gz", "pth", "npz", "mp"} & {*table.features}
    assert table["txt"][0] == "a text"


def test_members_that_claim_more_than_their_archive_has(tmp_path):
    with open("big", "wb") as file:
        file.truncate(2**34)
    done = subprocess.run(["tar", "--sparse", "-cf", "x.tar", "big"], capture_output=True)
    if done.returncode:
        pytest.skip("tar makes no sparse archive")
    os.rename("big", "0.png")
    subprocess.run(["tar", "--sparse", "-cf", "x.tar", "0.png"], check=True)
    assert Path("x.tar").stat().st_size < 10**6
    with pytest.raises(ValueError, match="x.tar"):
        grays("x.tar")


SHARDS = ["data/train-00000-of-00002.parquet", "data/odd.name-00000-of-00001-abc.parquet"]
NAMES = [
    SHARDS,
    ["a.parquet", "b.parquet"],
    ["train.parquet", "test.parquet", "other.parquet"],
    ["my-train-1.parquet", "my_validation.parquet", "x.eval.parquet"],
    ["train/0.parquet", "test/0.parquet", "0.parquet"],
    ["a/training set/0.parquet", "b-dev/c/1.parquet", "b/mytest/2.parquet"],
    ["retrain.parquet", "latest.parquet", "train0.parquet", "0train.parquet"],
    ["Train/0.parquet", "TEST.parquet"],
    ["val/x.parquet", "valid_1/x.parquet", "evaluation/x.parquet"],
]  # fmt: skip


@pytest.mark.parametrize("names", NAMES)
def test_splits_are_those_that_datasets_finds(names):
    """By its own rules, which nothing but its own code states."""
    from datasets.data_files import DataFilesDict, get_data_patterns

    root = Path("set").resolve()
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    theirs = DataFilesDict.from_patterns(get_data_patterns(str(root)), base_path=str(root))
    theirs = {
        str(s): sorted(os.path.relpath(f, root) for f in found) for s, found in theirs.items()
    }
    assert {split: sorted(found) for split, found in by_split(names).items()} == theirs
    assert list(by_split(names)) == list(theirs)


TEXT = "some words, " * 40


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "txt", "jsonl.gz", "parquet"])
def test_texts_of_every_kind_are_read(kind):
    import gzip

    Path("set").mkdir()
    row = json.dumps({"text": TEXT})
    contents = {"csv": f'n,text\n1,"{TEXT}"\n', "tsv": f"n\ttext\n1\t{TEXT}\n", "json": f"[{row}]",
                "jsonl": row, "txt": TEXT, "jsonl.gz": row}  # fmt: skip
    if kind == "parquet":
        pq.write_table(pa.table({"text": [TEXT]}), "set/x.parquet")
    elif kind.endswith("gz"):
        Path(f"set/x.{kind}").write_bytes(gzip.compress(contents[kind].encode()))
    else:
        Path(f"set/x.{kind}").write_text(contents[kind])
    data = TextDataModule("huggingface", path="set", batch_size=2, chunk_length=5)
    assert data.train_reference().text().startswith("some words, some")


def test_links_of_a_folder_of_images_are_followed_where_that_is_asked_for():
    for i in OWN:
        Path("outside").mkdir(exist_ok=True)
        Path(f"outside/{i}.png").write_bytes(png(i))
    Path("set").mkdir()
    os.symlink("../outside", "set/all")
    with pytest.raises(ValueError, match="links that lead out of it"):
        ImageDataModule("huggingface", "set", image_size=8)
    for options in ({}, {"streaming": True, "heldout_fraction": 0.5}):
        data = ImageDataModule("huggingface", "set", image_size=8, follow_links=True, **options)
        assert len(data.train_reference()) + len(data.heldout_reference()) == len(OWN)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_images_with_captions_still_have_them():
    Path("set").mkdir()
    for i in range(4):
        Path(f"set/{i}.png").write_bytes(png(i))
    rows = "".join(f"{i}.png,{i % 2},a text\n" for i in range(4))
    Path("set/metadata.csv").write_text(f"file_name,label,text\n{rows}")
    data = ImageDataModule("huggingface", "set", image_size=8)
    assert data.num_classes == 2
    assert sorted(grays("set")) == [0, 1, 2, 3]
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a name above", "an absolute name", "an address", "a script"])
def test_the_real_command_line_judges_the_folders_own_images(kind, tmp_path):
    rng = np.random.default_rng(0)
    write("set/own.parquet", range(0, 40, 2))
    write("outside.parquet", range(100, 103))
    np.save("train.npy", rng.integers(0, 256, (20, 8, 8), np.uint8))
    name, text = SPEAKING[kind]
    Path("set", name).write_text(text())
    done = programs.run(
        ROOT / "evaluate.py", "--samples", "set", "--train", "train.npy",
        "--heldout", "none", "--features", "pixels@8", "--output", "result",
        env={"HF_DATASETS_CACHE": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    samples = json.loads(Path("result/report.json").read_text())["samples"]
    assert samples["n"] == 20 and not Path("ran").exists()
