import io
from itertools import islice

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from novum.datamodules import ImageDataModule, stream

N = 60


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), number, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder, numbers, name: str, shards: int = 3, bad: tuple[int, ...] = ()) -> None:
    """Image i is flat gray i, of class i % 2."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd"])}
    )
    cells = [{"bytes": b"bad" if i in bad else png(i), "path": None} for i in numbers]
    rows = {"image": cells, "label": [i % 2 for i in numbers]}
    table = datasets.Dataset.from_dict(rows, features=features)
    folder.mkdir(exist_ok=True)
    for shard in range(shards):
        part = table.shard(shards, shard)
        part.to_parquet(folder / f"{name}-{shard:05}-of-{shards:05}.parquet")


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "data", range(N), "train")
    return str(tmp_path / "data")


def images(path: str, **kwargs) -> ImageDataModule:
    kwargs = {"image_size": 8, "batch_size": 4, "memory_budget_gb": 1} | kwargs
    return ImageDataModule("huggingface", path, streaming=True, **kwargs)


def numbers(source) -> list[int]:
    return source[:][:, 0, 0, 0].tolist()


def order(data: ImageDataModule, batches: int, rank=0, world=1, start=0) -> list[int]:
    found = data._stream.batches(data.batch_size, data.seed, rank, world, start, threads=2)
    return [int(n) for batch in islice(found, batches) for n in batch["image"][:, 0, 0, 0]]


def test_train_and_heldout_are_disjoint_and_whole(data):
    one = images(data)
    assert (one.channels, one.num_classes) == (1, 2)
    train, heldout = numbers(one.train_reference()), numbers(one.heldout_reference())
    assert sorted(train + heldout) == list(range(N))
    assert 3 <= len(heldout) <= 24  # a fifth of 60, by a hash of each file
    assert one.train_reference().labels.tolist() == [n % 2 for n in train]
    assert numbers(images(data, split_seed=1).heldout_reference()) != heldout


def test_budget_limits_what_is_kept(data):
    one = images(data, memory_budget_gb=20 * 64 / 1e9)
    assert len(one.train_reference()) == 16 and len(one.heldout_reference()) == 4


def test_official_test_split_is_held_out(tmp_path):
    write(tmp_path / "data", range(20), "train")
    write(tmp_path / "data", range(100, 107), "test", shards=1)
    one = images(str(tmp_path / "data"))
    assert numbers(one.heldout_reference()) == list(range(100, 107))
    assert sorted(numbers(one.train_reference())) == list(range(20))


def test_batches_are_shuffled_passes_over_the_training_images(data):
    one = images(data)
    train = sorted(numbers(one.train_reference()))
    got = order(one, 3 * len(train) // 4)
    passes = [got[i : i + len(train)] for i in range(0, len(got) - len(train) + 1, len(train))]
    assert all(sorted(p) == train for p in passes)
    assert passes[0] != passes[1] and passes[0] != train
    batch = next(iter(one.train_dataloader()))
    assert batch["label"].tolist() == [n % 2 for n in batch["image"][:, 0, 0, 0].tolist()]


@pytest.mark.parametrize("world", [2, 3, 4])  # 3 shards: whole shards each, or every world-th row
def test_ranks_share_each_pass(data, world, monkeypatch):
    one = images(data)
    train = sorted(numbers(one.train_reference()))
    monkeypatch.setattr(stream, "count", lambda: range(1, 2))  # only the second pass
    records = [record for rank in range(world) for record in one._stream.endless(0, rank, world)]
    assert sorted(int(one._stream.decode(record)[0, 0, 0]) for record in records) == train


@pytest.mark.parametrize("start", [3, 11, 40])
def test_resume_continues_the_order(data, start):
    one = images(data)
    assert order(one, start + 3)[4 * start :] == order(images(data), 3, start=start)


def test_bad_rows_are_named_or_replaced(tmp_path):
    write(tmp_path / "data", range(N), "train", bad=(7, 9))
    with pytest.raises(ValueError, match=r"stream row \d+: not a readable image"):
        order(images(str(tmp_path / "data")), 30)
    one = images(str(tmp_path / "data"), on_bad_image="skip")
    with pytest.warns(UserWarning, match=r"skipped .* stream row"):
        got = order(one, 30)
    assert len(got) == 120 and not {7, 9} & set(got)


def test_wrong_options(data, tmp_path):
    for options in ({"label_column": "lable"}, {"image_column": "img"}, {"split": "tain"}):
        with pytest.raises(ValueError, match="(no column|no split) '.*there are"):
            images(data, **options)
    with pytest.raises(ValueError, match="streaming needs a path, and takes no subset"):
        images(data, subset=3)
    table = datasets.Dataset.from_dict({"image": [png(0)], "class": [1]})
    table.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="cannot tell how many classes column 'class' has"):
        images(str(tmp_path / "x.parquet"), label_column="class")


def test_a_stream_without_training_images_ends(data, monkeypatch):
    monkeypatch.setattr(stream.ImageStream, "is_heldout", lambda self, record: True)
    with pytest.raises(ValueError, match="streams no training image"):
        order(images(data), 1)


@pytest.mark.parametrize("kind", ["saved", "imagefolder", "webdataset"])
def test_other_formats(kind, tmp_path, tree):
    if kind == "imagefolder":
        path = tree
    elif kind == "saved":
        path = tmp_path / "saved"
        datasets.Dataset.from_dict({"image": [png(i) for i in range(10)]}).save_to_disk(path)
    else:
        path = _tar(tmp_path)
    one = images(str(path))
    total = len(one.train_reference()) + len(one.heldout_reference())
    assert total == 10 and one.train_reference()[0].dtype == torch.uint8


def _tar(folder):
    import tarfile

    with tarfile.open(folder / "x.tar", "w") as tar:
        for i in range(10):
            info = tarfile.TarInfo(f"{i}.png")
            info.size = len(png(i))
            tar.addfile(info, io.BytesIO(png(i)))
    return folder / "x.tar"
