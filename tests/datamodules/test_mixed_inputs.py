"""Sets whose members differ: every file is read, or left out with its number and the reason."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from novum.datamodules import ImageDataModule
from novum.datamodules.resolve_source import Opened, Reading, open_images, open_references
from novum.datamodules.sources import decode, suffixes
from novum.datamodules.sources.decode import Page, read_header
from novum.datamodules.sources.folders import find_images
from novum.datamodules.sources.suffixes import AVIF
from tests.archives import write_tar


def file_of(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def left_out(opened: Opened) -> dict[str, int]:
    return {o.reason: o.number for o in opened.survey.left_out}


def samples(where: Path | str, **options) -> Opened:
    return open_images(str(where), "samples", options=Reading(**options))


@pytest.fixture
def folder(tmp_path, pictures):
    """Ten RGB PNGs of 8 x 8, 0.png to 9.png."""
    for i, image in enumerate(pictures()):
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / f"{i}.png").write_bytes(file_of(image))
    return tmp_path / "x"


# colour and size


@pytest.mark.parametrize("name", ["0.png", "5.png", "9.png"])
@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16"])
def test_one_gray_image_does_not_make_all_gray(folder, name, mode):
    image = Image.new("L", (8, 8), 200).convert(mode) if mode != "I;16" else Image.new(mode, (8, 8))
    image.save(folder / name)
    opened = samples(folder)
    assert opened.images.shape == (3, 8, 8) and opened.native == (3, 8, 8)
    assert opened.survey.pages.where(lambda page: page.channels == 1).sum() == 1
    assert ImageDataModule("folder", str(folder)).channels == 3


def test_one_image_in_colour_makes_all_colour(tmp_path, pictures):
    for i, image in enumerate(pictures()):
        Image.fromarray(image).convert("RGB" if i == 7 else "L").save(tmp_path / f"{i}.png")
    assert samples(tmp_path).images.shape == (3, 8, 8)
    assert ImageDataModule("folder", str(tmp_path), image_size=8).channels == 3


@pytest.mark.parametrize(
    ("name", "size"), [("0.png", (4, 4)), ("0.png", (64, 64)), ("9.png", (2, 9))]
)
def test_the_commonest_size_decides(folder, name, size):
    Image.new("RGB", size).save(folder / name)
    opened = samples(folder)
    assert opened.images.shape == (3, 8, 8)
    assert opened.survey.pages.counts() == {Page("RGB", 8, 8): 9, Page("RGB", *size): 1}


def test_of_two_sizes_as_common_the_larger(tmp_path):
    for i, side in enumerate((4, 16, 4, 16)):
        Image.new("L", (side, side)).save(tmp_path / f"{i}.png")
    assert samples(tmp_path).images.shape == (1, 16, 16)


def test_where_all_differ_the_median_size(tmp_path):
    for i in range(21):
        Image.new("L", (8 + i, 8 + 2 * i)).save(tmp_path / f"{i:02}.png")
    assert samples(tmp_path).native == (1, 28, 18)


def test_a_table_is_looked_at_as_a_whole_too(tmp_path, pictures):
    cells = [file_of(image) for image in pictures()]
    cells[0] = file_of(np.zeros((4, 4), np.uint8))
    pq.write_table(pa.table({"image": cells}), tmp_path / "x.parquet")
    assert samples(tmp_path / "x.parquet").images.shape == (3, 8, 8)
    assert ImageDataModule("huggingface", str(tmp_path / "x.parquet")).channels == 3


def test_streams_look_at_many_images(tmp_path, pictures):
    cells = [file_of(image) for image in pictures(40)]
    cells[0] = file_of(np.zeros((8, 8), np.uint8))
    pq.write_table(pa.table({"image": cells}), tmp_path / "x.parquet")
    data = ImageDataModule("huggingface", str(tmp_path / "x.parquet"), streaming=True)
    assert data.channels == 3


def test_an_image_turned_by_its_exif_counts_upright():
    exif = Image.Exif()
    exif[274] = 6
    data = file_of(np.zeros((4, 6, 3), np.uint8), "JPEG", exif=exif)
    assert read_header(data).pages == {0: Page("RGB", 4, 6)}


# file names


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JPG", "apng", "pnm", "dib", "avif"])
def test_other_names_of_formats_that_are_read(folder, suffix, pictures):
    if suffix == "avif" and not AVIF:
        pytest.skip("this Pillow decodes no AVIF")
    kinds = {"apng": "PNG", "pnm": "PPM", "dib": "BMP", "avif": "AVIF"}
    data = file_of(pictures()[0], kinds.get(suffix, "JPEG"))
    (folder / f"more.{suffix}").write_bytes(data)
    assert len(samples(folder).images) == 11
    assert len(ImageDataModule("folder", str(folder), image_size=8).train_reference()) == 9


@pytest.mark.parametrize("suffix", ["heic", "jp2", "tga", "svg", "NEF"])
def test_formats_that_are_not_read_are_counted(folder, suffix):
    for i in range(4):
        (folder / f"{i}.{suffix}").write_bytes(b"II*\0 or whatever")
    reason = f".{suffix.lower()} cannot be decoded"
    with pytest.warns(UserWarning, match=f"left out: 4 {reason}"):
        opened = samples(folder)
    assert left_out(opened) == {reason: 4} and len(opened.images) == 10
    (omission,) = opened.survey.left_out
    assert omission.examples == tuple(f"{i}.{suffix}" for i in range(3))


def test_avif_without_a_decoder_is_counted(folder, monkeypatch):
    (folder / "a.avif").write_bytes(b"\0\0\0\x1cftypavif")
    monkeypatch.setattr("novum.datamodules.sources.folders.IMAGES", ("png",))
    monkeypatch.setattr("novum.datamodules.sources.folders.UNREAD", suffixes.UNREAD | {"avif"})
    with pytest.warns(UserWarning, match="left out: 1 .avif cannot be decoded"):
        assert find_images(folder)[0] == [f"{i}.png" for i in range(10)]


def test_images_of_no_or_another_name(folder, pictures):
    (folder / "nameless").write_bytes(file_of(pictures()[0]))
    (folder / "old.png.bak").write_bytes(file_of(pictures()[0]))
    (folder / "notes.txt").write_text("of something else")
    with pytest.warns(UserWarning, match="left out: 1 images named .bak"):
        opened = samples(folder)
    assert len(opened.images) == 11 and "nameless" in opened.images.ids
    assert left_out(opened) == {"no images": 1, "images named .bak": 1}


@pytest.mark.parametrize("suffix", ["npy", "zip"])
def test_what_may_hold_images_is_no_text(folder, suffix):
    (folder / f"more.{suffix}").write_bytes(b"x")
    with pytest.warns(UserWarning, match="left out: 1 arrays, tables or archives"):
        assert left_out(samples(folder)) == {"arrays, tables or archives": 1}


def test_hidden_folders_are_no_data(folder, pictures):
    for name in (".ipynb_checkpoints", "sub/.trash"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.png").write_bytes(file_of(pictures()[0]))
        (folder / name / "notes.txt").write_text("no image")
    (folder / "._0.png").write_bytes(b"macOS")
    with pytest.warns(UserWarning, match="files in hidden folders are left out: 2"):
        opened = samples(folder)
    assert left_out(opened) == {"files in hidden folders": 2, "hidden files": 1}
    assert len(opened.images) == 10
    with pytest.warns(UserWarning, match=r"\.ipynb_checkpoints/0\.png, sub/\.trash/0\.png"):
        data = ImageDataModule("folder", str(folder), image_size=8)
    assert len(data.train_reference()) == 8


def test_a_folder_of_nothing_that_is_read_says_what_is_there(tmp_path):
    (tmp_path / "0.heic").write_bytes(b"x")
    with pytest.raises(ValueError, match="no images in .* left out: 1 .heic cannot be decoded"):
        samples(tmp_path)


# frames and pages


def write_frames(path: Path, kind: str, n: int, seed: int = 0) -> np.ndarray:
    """A file of n different images in 8 colours."""
    random = np.random.default_rng(seed)
    images = np.kron(random.integers(0, 2, (n, 4, 4, 3)), np.ones((1, 2, 2, 1))).astype(np.uint8)
    first, *more = (Image.fromarray(image * 255) for image in images)
    lossless = {"lossless": True} if kind == "WEBP" else {}
    first.save(path, kind, save_all=True, append_images=more, **lossless)
    return images * 255


@pytest.mark.parametrize(
    ("name", "kind"), [("a.gif", "GIF"), ("a.tiff", "TIFF"), ("a.webp", "WEBP"), ("a.png", "PNG")]
)
@pytest.mark.parametrize("lazy", [False, True])
def test_every_frame_is_an_image(name, kind, lazy, tmp_path, monkeypatch):
    if lazy:
        monkeypatch.setattr("novum.datamodules.resolve_source.MEMORY_BUDGET", 10)
    frames = write_frames(tmp_path / name, kind, 7)
    still = write_frames(tmp_path / "b.png", "PNG", 1, seed=1)
    images = samples(tmp_path).images
    assert list(images.ids) == [*(f"{name}#{i}" for i in range(1, 8)), "b.png"]
    expected = torch.from_numpy(np.concatenate([frames, still])).permute(0, 3, 1, 2)
    assert torch.equal(images[:], expected)
    assert torch.equal(images[[6, 2, 0]], expected[[6, 2, 0]])  # in any order
    pages = samples(tmp_path).survey.pages
    assert pages.frame.tolist() == [0, 1, 2, 3, 4, 5, 6, -1]


def test_training_sees_the_same_frames_and_fingerprints_tell_them_apart(tmp_path):
    for i in range(2):
        write_frames(tmp_path / f"{i}.gif", "GIF", 5, seed=i)
    data = ImageDataModule("folder", str(tmp_path), image_size=8)
    train, heldout = data.train_reference(), data.heldout_reference()
    assert len(train) == 8 and len(heldout) == 2
    assert {*train.ids, *heldout.ids} == {f"{i}.gif#{k}" for i in range(2) for k in range(1, 6)}
    lazy = ImageDataModule("folder", str(tmp_path), image_size=8, memory_budget_gb=0)
    fingerprints = {s.fingerprint for s in (lazy.train_reference(), lazy.heldout_reference())}
    assert len(fingerprints) == 2


def test_classes_go_with_the_frames(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        write_frames(tmp_path / name / "0.gif", "GIF", 3, seed=len(name))
    Image.new("RGB", (8, 8)).save(tmp_path / "dog" / "1.png")
    assert samples(tmp_path).images.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_frames_in_a_table(tmp_path):
    write_frames(tmp_path / "a.gif", "GIF", 3)
    cells = [(tmp_path / "a.gif").read_bytes(), file_of(np.zeros((8, 8, 3), np.uint8))]
    pq.write_table(pa.table({"image": cells}), tmp_path / "x.parquet")
    assert list(samples(tmp_path / "x.parquet").images.ids) == ["0#1", "0#2", "0#3", 1]


def test_pages_of_a_tiff_may_differ(tmp_path):
    pages = [Image.new(mode, (side, side)) for mode, side in (("L", 8), ("RGB", 8), ("L", 4))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    opened = samples(tmp_path)
    assert opened.images.shape == (3, 8, 8) and len(opened.images) == 3


def test_smaller_copies_of_a_page_are_left_out(tmp_path):
    page, small = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (4, 4), "red")
    small.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(tmp_path / "a.tif", save_all=True, append_images=[small], tiffinfo={})
    opened = samples(tmp_path)
    assert len(opened.images) == 1 and list(opened.images.ids) == ["a.tif"]
    assert left_out(opened) == {"smaller copies or masks of a page": 1}


def test_no_file_gives_frames_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MOST_FRAMES", 4)
    for name, kind in (("a.gif", "GIF"), ("a.tif", "TIFF"), ("a.webp", "WEBP")):
        write_frames(tmp_path / name, kind, 6)
        header = read_header(tmp_path / name)
        assert len(header.pages) == 4 and list(header.left_out) == ["frames beyond the first 4"]


def test_frames_that_cannot_be_decoded_stop_or_are_counted(tmp_path):
    write_frames(tmp_path / "a.tif", "TIFF", 3)
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    with Image.open(tmp_path / "a.tif") as image:
        image.seek(2)
        offset = image.tag_v2[273][0]
    whole = bytearray((tmp_path / "a.tif").read_bytes())
    (tmp_path / "a.tif").write_bytes(
        whole.replace(offset.to_bytes(4, "little"), b"\xff\xff\xff\x7f")
    )
    with pytest.raises(ValueError, match=r"a\.tif#3: not a readable image .*--on-bad-image skip"):
        samples(tmp_path)
    with pytest.warns(UserWarning, match=r"skipped 1 of 4 images .*a\.tif#3"):
        opened = samples(tmp_path, skip_bad=True)
    assert left_out(opened) == {"cannot be read": 1}
    assert len(opened.survey.pages) == len(opened.images) == 3


# splits


@pytest.mark.parametrize("names", [("train", "test", "bus"), ("train", "val"), ("valid", "train")])
def test_samples_are_never_split_by_their_class_folders(names, tmp_path, pictures):
    for i, name in enumerate(names):
        (tmp_path / name).mkdir()
        for k in range(3):
            (tmp_path / name / f"{k}.png").write_bytes(file_of(pictures(9)[3 * i + k]))
    opened = samples(tmp_path)
    assert len(opened.images) == 3 * len(names) and left_out(opened) == {}
    assert opened.images.class_names == sorted(names)


def test_what_is_beside_a_split_is_counted(tmp_path, pictures):
    for name in ("train", "test", "bus", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(file_of(pictures()[0]))
    with pytest.warns(UserWarning) as told:
        opened = open_images(str(tmp_path))
    split = "images beside the split into train and test"
    assert [str(warning.message).partition(": ")[2] for warning in told] == [
        f"{split} are left out: 1 (bus/0.png)",
        "files in hidden folders are left out: 1 (.ipynb_checkpoints/0.png)",
    ]
    assert left_out(opened) == {
        split: 1, "files in hidden folders": 1, "in its held-out split": 1,
    }  # fmt: skip


def write_tables(folder: Path, *names: str, column: str = "image") -> Path:
    """Five images in each file."""
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cells = [file_of(np.full((8, 8, 3), 5 * i + k, np.uint8)) for k in range(5)]
        pq.write_table(pa.table({column: cells}), folder / name)
    return folder


def first_values(opened: Opened) -> list[int]:
    return opened.images[:][:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    "names",
    [
        ("train.parquet", "test.parquet"),
        ("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"),
        ("deep/er/train.parquet", "deep/er/test.parquet"),
    ],
)
def test_tables_given_as_samples_are_read_whole(names, tmp_path):
    where = write_tables(tmp_path / "x", *names)
    assert sorted(first_values(samples(where))) == list(range(10))
    assert first_values(samples(where, split="train")) == list(range(5))
    train = open_images(str(where))
    assert first_values(train) == list(range(5)) and left_out(train) == {"in its held-out split": 5}
    assert first_values(open_images(str(where), "heldout")) == list(range(5, 10))


def test_archives_given_as_samples_are_read_whole(tmp_path):
    for i, name in enumerate(("train-000.tar", "test-000.tar")):
        a, b = (file_of(np.full((8, 8), value, np.uint8)) for value in (i, i + 2))
        write_tar(tmp_path / name, {"a.png": a, "b.png": b})
    assert first_values(samples(tmp_path)) == [0, 2, 1, 3]
    assert first_values(samples(tmp_path, split="test")) == [1, 3]
    with pytest.raises(ValueError, match="has no split 'tset': there are train, test"):
        samples(tmp_path, split="tset")


def test_a_built_in_set_as_samples_is_whole():
    assert len(open_images("digits", "samples").images) == 1797


def test_one_place_for_both_sides_takes_the_options(tmp_path, pictures):
    cells = [file_of(image) for image in pictures()]
    cells[3] = b"no image"
    pq.write_table(pa.table({"photo": cells, "mask": cells}), tmp_path / "x.parquet")
    where = str(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"choose image_column from .*--image-column"):
        open_references(where, where, 8, 3)
    options = Reading(image_column="photo", skip_bad=True)
    with pytest.warns(UserWarning, match="skipped 1 of"):
        train, heldout = open_references(where, where, 8, 3, options=options)
    assert len(train.images) + len(heldout.images) == 9
    counts = [left_out(side).get("cannot be read", 0) for side in (train, heldout)]
    assert sum(counts) == 1
    for side in (train, heldout):
        assert len(side.survey.pages) == len(side.images)


# archives and img2dataset


def test_one_archive_of_several_formats(tmp_path):
    kinds = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
    members = {}
    for i, suffix in enumerate([*kinds] * 3):
        members |= {
            f"{i}.{suffix}": file_of(np.full((8, 8, 3), 20 * i, np.uint8), kinds[suffix]),
            f"{i}.cls": b"%d" % (i % 2),
        }
    where = write_tar(tmp_path / "x.tar", members)
    opened = samples(where)
    assert first_values(opened) == pytest.approx([20 * i for i in range(9)], abs=2)
    assert opened.images.labels.tolist() == [i % 2 for i in range(9)]
    data = ImageDataModule("huggingface", str(where), image_size=8)
    assert data.num_classes == 2 and len(data.train_reference()) == 7
    stream = ImageDataModule("huggingface", str(where), image_size=8, streaming=True)
    assert len(stream.train_reference()) + len(stream.heldout_reference()) == 9


def test_a_later_sample_with_two_images_asks_which(tmp_path):
    data = file_of(np.zeros((8, 8, 3), np.uint8))
    members = {"0.png": data, "1.png": data, "1.seg.png": data}
    where = write_tar(tmp_path / "x.tar", members)
    with pytest.raises(ValueError, match=r"several image columns: choose .* png, seg\.png"):
        samples(where)
    opened = samples(where, image_column="seg.png")
    assert len(opened.images) == 1 and left_out(opened) == {"samples without a .seg.png": 1}


def test_classes_that_are_no_numbers_are_no_reason_to_refuse_images(tmp_path):
    data = file_of(np.zeros((8, 8, 3), np.uint8))
    members = {"0.png": data, "0.cls": b"cat", "1.png": data, "1.cls": b"dog"}
    where = write_tar(tmp_path / "x.tar", members)
    with pytest.warns(UserWarning, match="read without labels: member 0.cls is not a whole number"):
        assert samples(where).images.labels is None
    with pytest.raises(ValueError, match="0.cls is not a whole number"):
        ImageDataModule("huggingface", str(where), label_column="cls")


def test_samples_of_an_archive_without_an_image_are_counted(tmp_path):
    data = file_of(np.zeros((8, 8, 3), np.uint8))
    opened = samples(write_tar(tmp_path / "x.tar", {"0.png": data, "1.txt": b"a", "2.png": data}))
    assert len(opened.images) == 2
    assert left_out(opened) == {"samples without an image that is read": 1}


def write_img2dataset(folder: Path, layout: str) -> Path:
    """Eight images in two shards, as img2dataset lays them out; one of each failed to download."""
    folder.mkdir()
    for shard in range(2):
        rows, members = [], {}
        for i in range(5):
            key, failed = f"{shard:05d}{i:04d}", i == 2
            status = "failed_to_download" if failed else "success"
            data = None if failed else file_of(np.full((8, 8, 3), 10 * (shard * 5 + i), np.uint8))
            row = {"key": key, "status": status, "url": "u", "caption": "c"}
            rows.append(row | ({"jpg": data} if layout == "parquet" else {}))
            if data is not None:
                texts = {"json": json.dumps(row).encode(), "txt": b"c"}
                members |= {f"{key}.{kind}": text for kind, text in texts.items()}
                members[f"{key}.jpg"] = data
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{shard:05d}.parquet")
        (folder / f"{shard:05d}_stats.json").write_text("{}")
        if layout == "webdataset":
            write_tar(folder / f"{shard:05d}.tar", dict(sorted(members.items())))
        elif layout == "files":
            (folder / f"{shard:05d}").mkdir()
            for name, data in members.items():
                (folder / f"{shard:05d}" / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("layout", ["webdataset", "files", "parquet"])
def test_layouts_of_img2dataset(layout, tmp_path):
    where = write_img2dataset(tmp_path / "x", layout)
    opened = samples(where)
    assert first_values(opened) == [0, 10, 30, 40, 50, 60, 80, 90]
    omitted = {"webdataset": {"no images": 4}, "files": {"no images": 20},
               "parquet": {"no images": 2, "rows whose download failed": 2}}  # fmt: skip
    assert left_out(opened) == omitted[layout]
    kind = "folder" if layout == "files" else "huggingface"
    data = ImageDataModule(kind, str(where), image_size=8, heldout_fraction=0.25)
    assert len(data.train_reference()) == 6


def test_more_tables_about_images_than_archives_of_them(tmp_path):
    where = write_img2dataset(tmp_path / "x", "webdataset")
    for i in range(5):
        pq.write_table(pa.table({"a": ["b"]}), where / f"more{i}.parquet")
    assert len(samples(where).images) == 8


def test_image_files_beside_tables_are_counted(tmp_path, pictures):
    where = write_tables(tmp_path / "x", "a.parquet")
    (where / "preview.png").write_bytes(file_of(pictures()[0]))
    assert left_out(samples(where)) == {"image files beside the tables": 1}


# arrays


@pytest.mark.parametrize(
    ("shape", "readings"),
    [
        ((32, 32, 3), ["32 gray images of 3 x 32", "one image (h, w, c) of 32 x 32"]),
        ((16, 24, 4), ["16 gray images of 4 x 24", "one image (h, w, c) of 24 x 16"]),
        ((3, 32, 32), ["3 gray images of 32 x 32", "one image (c, h, w) of 32 x 32"]),
        ((9, 3, 8, 3), ["9 images (h, w, c) of 8 x 3", "9 images (c, h, w) of 3 x 8"]),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_an_array_of_two_readings(shape, readings, suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    (np.savez if suffix == "npz" else np.save)(path, np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="which may be") as error:
        samples(path)
    assert all(reading in str(error.value) for reading in readings) and "\n" not in str(error.value)


@pytest.mark.parametrize("first", [False, True])
def test_arrays_with_alpha_are_shown_on_white(first, tmp_path):
    array = np.zeros((5, 8, 8, 4), np.uint8)
    array[2:, ..., 3] = 255
    np.save(tmp_path / "x.npy", array.transpose(0, 3, 1, 2) if first else array)
    opened = samples(tmp_path / "x.npy")
    assert opened.images.shape == (3, 8, 8) and first_values(opened) == [255, 255, 0, 0, 0]


@pytest.mark.parametrize(("kind", "mend"), [(np.float32, "scale them to 0..255"), (bool, "by 255")])
def test_arrays_of_other_types(kind, mend, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((5, 8, 8, 3), kind))
    with pytest.raises(ValueError, match=f"holds {np.dtype(kind)}, images must be uint8: .*{mend}"):
        samples(tmp_path / "x.npy")


def test_names_of_formats_are_known_once():
    assert not suffixes.UNREAD & set(suffixes.IMAGES)
    known = {suffix[1:] for suffix in Image.registered_extensions()}
    assert known - {"pdf", "ps"} <= suffixes.UNREAD | suffixes.PACKED | set(suffixes.IMAGES)


def test_hidden_links_do_not_hide_what_they_lead_to(folder):
    (folder / ".store").mkdir()
    os.rename(folder / "0.png", folder / ".store" / "0.png")
    os.symlink(".store/0.png", folder / "0.png")
    opened = samples(folder)
    assert len(opened.images) == 10 and left_out(opened) == {}
