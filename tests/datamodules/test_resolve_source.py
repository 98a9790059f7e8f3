"""One word becomes images: whatever holds the same pictures opens as the same pixels."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from novum.datamodules import ImageDataModule
from novum.datamodules.resolve_source import open_images, open_references


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(kind: str, images: np.ndarray, folder: Path) -> str:
    """The images (n, h, w, 3) in a file or folder of that kind."""
    path = folder / f"images{kind}"
    if kind == ".npy":
        np.save(path, images)
    elif kind == ".npz":
        np.savez(path, arr_0=images, arr_1=np.arange(len(images)))
    elif kind == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"image": [png(image) for image in images]}), path)
    elif kind == ".tar":
        with tarfile.open(path, "w") as tar:
            for i, image in enumerate(images):
                info = tarfile.TarInfo(f"{i:03d}.png")
                info.size = len(png(image))
                tar.addfile(info, io.BytesIO(png(image)))
    else:
        path.mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(path / f"{i:03d}.png")
    return str(path)


@pytest.mark.parametrize("kind", [".npy", ".npz", ".parquet", ".tar", "_folder"])
def test_every_kind_gives_the_same_pixels(kind, pictures, tmp_path):
    opened = open_images(write(kind, pictures(), tmp_path))
    assert torch.equal(opened.images[:], torch.from_numpy(pictures()).permute(0, 3, 1, 2))
    assert opened.native == opened.images.shape == (3, 8, 8)
    assert opened.note is None


def test_a_folder_of_tables(pictures, tmp_path):
    (tmp_path / "set").mkdir()
    write(".parquet", pictures(), tmp_path / "set")
    assert len(open_images(str(tmp_path / "set")).images) == 10


@pytest.mark.parametrize("shape", [(4, 6, 6), (4, 1, 6, 6), (4, 6, 6, 1)])
def test_gray_arrays_of_any_layout(shape, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    images = open_images(str(tmp_path / "x.npy")).images
    assert torch.equal(images[:], torch.from_numpy(pixels.reshape(4, 1, 6, 6)))


def test_channels_first(pictures, tmp_path):
    np.save(tmp_path / "x.npy", pictures().transpose(0, 3, 1, 2))
    images = open_images(str(tmp_path / "x.npy")).images
    assert torch.equal(images[:], torch.from_numpy(pictures()).permute(0, 3, 1, 2))


def test_one_array_of_several_is_chosen_by_its_name(pictures, tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=pictures(), labels=np.arange(10))
    assert len(open_images(str(path)).images) == 10
    np.savez(path, a=pictures(), b=pictures())
    with pytest.raises(ValueError, match="holds a, b, and none is called images"):
        open_images(str(path))


def test_other_sizes_and_channels_are_converted_and_noted(pictures, tmp_path):
    opened = open_images(write("_folder", pictures(), tmp_path), size=4, channels=1)
    assert opened.images.shape == (1, 4, 4)
    assert "images of 8x8 RGB are read as 4x4 gray" in opened.note
    np.save(tmp_path / "wide.npy", np.zeros((3, 6, 8), np.uint8))
    assert open_images(str(tmp_path / "wide.npy")).images.shape == (1, 6, 6)


def test_a_large_set_stays_on_disk(pictures, tmp_path, monkeypatch):
    where = write("_folder", pictures(), tmp_path)
    whole = open_images(where)
    monkeypatch.setattr("novum.datamodules.resolve_source.MEMORY_BUDGET", 100)
    lazy = open_images(where)
    assert type(lazy.images) is not type(whole.images)
    assert torch.equal(lazy.images[2:5], whole.images[2:5])


def test_a_name_gives_both_sides_of_the_split_that_training_uses():
    train, heldout = open_references("digits", "digits", 16, 1)
    data = ImageDataModule("digits", image_size=16)
    assert train.images.fingerprint == data.train_reference().fingerprint
    assert heldout.images.fingerprint == data.heldout_reference().fingerprint
    assert "8x8 gray are read as 16x16 gray" in train.note
    assert open_images("digits").images.shape == (1, 32, 32)
    assert open_images("digits", "heldout", 16).images.fingerprint == heldout.images.fingerprint


def test_a_runs_own_split_is_used():
    """Another seed would hold out images that the run was trained on."""
    run = {"dataset": "digits", "split_seed": 5, "heldout_fraction": 0.5, "subset": 100}
    train, heldout = open_references("digits", "digits", 8, 1, run)
    data = ImageDataModule(**run, image_size=8)
    assert len(train.images) == 100
    assert heldout.images.fingerprint == data.heldout_reference().fingerprint


def test_one_folder_for_both_sides_is_split_as_training_splits_it(pictures, tmp_path):
    where = write("_folder", pictures(), tmp_path)
    train, heldout = open_references(where, f"{where}/", 8, 3)
    assert len(train.images) == 8 and len(heldout.images) == 2
    data = ImageDataModule("folder", where, image_size=8)
    assert heldout.images.fingerprint == data.heldout_reference().fingerprint


def test_no_heldout_images():
    train, heldout = open_references("digits", None, 8, 1)
    assert len(train.images) == 1438 and heldout is None


class TestMistakes:
    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((3, 4, 4)), "holds float64, images must be uint8"),
            (np.array([{}], dtype=object), "cannot be read"),
            (np.zeros((3, 4, 4, 2), np.uint8), "with 1 or 3 channels"),
            (np.zeros((4, 4), np.uint8), "with 1 or 3 channels"),
            (np.zeros((0, 4, 4), np.uint8), "holds no pixels"),
        ],
    )
    def test_arrays_that_are_no_images(self, array, message, tmp_path):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(ValueError, match=f"x.npy .*{message}"):
            open_images(str(tmp_path / "x.npy"))

    def test_damaged_file(self, tmp_path):
        (tmp_path / "x.npz").write_bytes(b"PK no zip")
        with pytest.raises(ValueError, match="x.npz cannot be read"):
            open_images(str(tmp_path / "x.npz"))

    def test_unknown_name(self):
        with pytest.raises(FileNotFoundError, match="did you mean 'digits'"):
            open_images("digit")

    def test_other_file(self, tmp_path):
        (tmp_path / "x.txt").write_text("hello")
        with pytest.raises(ValueError, match="x.txt is not a kind of file that is read"):
            open_images(str(tmp_path / "x.txt"))

    def test_empty_folder(self, tmp_path):
        with pytest.raises(ValueError, match="no images in"):
            open_images(str(tmp_path))

    def test_file_that_only_looks_like_an_image(self, tree):
        (tree / "cat" / "0.png").write_text("hello")
        with pytest.raises(ValueError, match=r"0\.png: not a readable image"):
            open_images(str(tree))

    def test_one_array_for_both_sides(self, pictures, tmp_path):
        where = write(".npy", pictures(), tmp_path)
        with pytest.raises(ValueError, match="given for both sides"):
            open_references(where, where, 8, 3)

    def test_heldout_images_that_are_the_training_images(self, pictures, tmp_path):
        places = write(".npy", pictures(), tmp_path), write("_folder", pictures(), tmp_path)
        with pytest.raises(ValueError, match="hold the same images"):
            open_references(*places, 8, 3)
