import io
import os
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from novum.datamodules import ImageDataModule

CIFAR10 = os.environ.get("NOVUM_CIFAR10")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def table(pictures):
    """Ten images with a class each, a row number and a text."""
    return datasets.Dataset.from_dict(
        {
            "image": [{"bytes": png(image), "path": None} for image in pictures()],
            "label": [i % 2 for i in range(10)],
            "row": list(range(10)),
            "text": [f"number {i % 3}" for i in range(10)],
        },
        features=datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["even", "odd"]),
                "row": datasets.Value("int64"),
                "text": datasets.Value("string"),
            }
        ),
    )


@pytest.fixture
def parquet(table, tmp_path):
    """A folder with a train and a test split."""
    (tmp_path / "data").mkdir()
    table.select(range(8)).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    table.select(range(8, 10)).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
    return str(tmp_path / "data")


def images(path: str, **kwargs) -> ImageDataModule:
    return ImageDataModule("huggingface", path, image_size=8, **kwargs)


def assert_is(data: ImageDataModule, pictures: np.ndarray) -> None:
    want = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    train, heldout = data.train_reference(), data.heldout_reference()
    assert torch.equal(train[:], want[train.ids]) and len(train) + len(heldout) == len(want)


def test_parquet_folder_with_a_test_split(parquet, pictures):
    data = images(parquet)
    assert (data.channels, data.num_classes) == (3, 2)
    assert len(data.heldout_reference()) == 2
    assert data.train_reference().labels.tolist() == [0, 1] * 4
    assert data.train_reference().class_names == ["even", "odd"]
    assert_is(data, pictures())


def test_one_parquet_file_is_split_at_random(parquet, pictures):
    data = images(f"{parquet}/train-00000-of-00001.parquet", heldout_fraction=0.25)
    assert len(data.heldout_reference()) == 2
    assert_is(data, pictures()[:8])


def test_lazy_table(parquet, pictures):
    data = images(parquet, memory_budget_gb=0)
    assert not hasattr(data.train_reference(), "images")
    assert_is(data, pictures())


@pytest.mark.parametrize("split", ["train[:4]", "test"])
def test_split(parquet, split):
    data = images(parquet, split=split, heldout_fraction=0.5)
    assert len(data.train_reference()) == {"test": 1, "train[:4]": 4}[split]
    assert len(data.heldout_reference()) == {"test": 1, "train[:4]": 2}[split]


def test_labels_by_whole_number_and_by_text(parquet):
    data = images(parquet, label_column="row")
    assert data.num_classes == 10 and data.train_reference().labels.tolist() == list(range(8))
    data = images(parquet, label_column="text")
    assert data.num_classes == 3
    assert data.train_reference().class_names == ["number 0", "number 1", "number 2"]
    assert data.heldout_reference().labels.tolist() == [2, 0]


def test_saved_to_disk(table, tmp_path, pictures):
    table.save_to_disk(str(tmp_path / "one"))
    assert_is(images(str(tmp_path / "one")), pictures())
    split = datasets.DatasetDict(train=table, test=table.select(range(2)))
    split.save_to_disk(str(tmp_path / "two"))
    assert len(images(str(tmp_path / "two")).heldout_reference()) == 2


def test_arrow_file(table, tmp_path, pictures):
    table.save_to_disk(str(tmp_path / "one"))
    assert_is(images(str(next((tmp_path / "one").glob("*.arrow")))), pictures())


def test_imagefolder(tree, pictures):
    data = images(str(tree))
    assert data.num_classes == 2 and data.train_reference().class_names == ["cat", "dog"]
    assert len(data.train_reference()) == 8


def test_webdataset(tmp_path, pictures):
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for i, pixels in enumerate(pictures()):
            for name, content in ((f"{i}.png", png(pixels)), (f"{i}.cls", b"%d" % (i % 2))):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    data = images(str(tmp_path / "shard.tar"))
    assert_is(data, pictures())
    assert data.num_classes == 2


@pytest.mark.parametrize("struct", [False, True])
def test_plain_parquet_without_datasets_features(tmp_path, pictures, struct):
    cells = [
        {"bytes": png(p), "path": f"{i}.png"} if struct else png(p)
        for i, p in enumerate(pictures())
    ]
    pq.write_table(pa.table({"name": ["x"] * 10, "photo": cells}), tmp_path / "x.parquet")
    data = images(str(tmp_path / "x.parquet"))
    assert data.num_classes == 0
    assert_is(data, pictures())


def test_secret_labels_are_none(table, tmp_path):
    bare = table.remove_columns("label")
    train, secret = (bare.add_column("label", [value] * 10) for value in (3, -1))
    datasets.DatasetDict(train=train, test=secret).save_to_disk(str(tmp_path / "x"))
    data = images(str(tmp_path / "x"))
    assert data.num_classes == 4 and data.heldout_reference().labels is None


def test_bad_cells_are_named_or_skipped(pictures, tmp_path):
    cells = [png(pixels) for pixels in pictures()]
    cells[4], cells[7] = b"no image", None
    pq.write_table(pa.table({"image": cells}), tmp_path / "x.parquet")
    path = str(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet, row [47]: not a readable image"):
        images(path).setup()
    data = images(path, on_bad_image="skip")
    with pytest.warns(UserWarning, match="skipped"):
        data.setup()
    assert len(data.train_reference()) + len(data.heldout_reference()) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tain"}, "has no split 'tain': there are train, test"),
        ({"split": "tain[:3]"}, "has no split 'tain\\[:3\\]': there are train, test"),
        ({"split": "train[:x]"}, "huggingface cannot open"),
        ({"image_column": "img"}, "no column 'img' in .*: there are image, label, row, text"),
        ({"image_column": "row"}, r"'row' holds no images; columns are image \(Image\), label"),
        ({"label_column": "lable"}, "no column 'lable' in .*: there are image, label, row, text"),
        ({"label_column": "image"}, "column 'image' holds Image: labels are whole numbers"),
    ],
)
def test_wrong_options_are_named(parquet, options, message):
    with pytest.raises(ValueError, match=message) as error:
        images(parquet, **options)
    assert "\n" not in str(error.value)


def test_no_image_column(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"no column holds images; columns are a \(int64\), b"):
        images(str(tmp_path / "x.parquet"))


def test_several_image_columns(tmp_path, pictures):
    cells = [png(p) for p in pictures()]
    pq.write_table(pa.table({"photo": cells, "mask": cells}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="choose image_column from"):
        images(str(tmp_path / "x.parquet"))
    assert images(str(tmp_path / "x.parquet"), image_column="photo").channels == 3


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder .*nothing"):
        images(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"huggingface cannot open 'nobody/nothing' \(.*\); give"):
        images("nobody/nothing")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match=r"huggingface cannot open .*x\.parquet"):
        images(str(tmp_path / "x.parquet"))
    (tmp_path / "x.csv").write_text("a,b")
    with pytest.raises(ValueError, match="is none of .parquet, .arrow, .tar, nor a folder"):
        images(str(tmp_path / "x.csv"))
    with pytest.raises(ValueError, match="huggingface cannot open"):
        (tmp_path / "empty").mkdir()
        images(str(tmp_path / "empty"))


@pytest.mark.skipif(not CIFAR10, reason="NOVUM_CIFAR10 names a folder with train and test.parquet")
def test_cifar10_parquet():
    data = images(str(Path(CIFAR10) / "test.parquet"))
    assert (data.channels, data.num_classes) == (3, 10)
    assert len(data.train_reference()) == 8000 and len(data.heldout_reference()) == 2000
    both = torch.cat([data.train_reference().labels, data.heldout_reference().labels])
    assert torch.bincount(both).tolist() == [1000] * 10
