import gzip
import pickle
import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from novum.datamodules.sources import builtin_datasets as loaders
from novum.datamodules.sources.builtin_datasets import (
    DEBIAN_FASHION_MNIST,
    IDX_FILES,
    load,
    read_idx,
)
from novum.datamodules.sources.folders import read_list

NO_NETWORK = URLError("no network")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, gz: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n, (images, labels) in zip((6, 4), IDX_FILES, strict=True):
        pixels = np.arange(n * 28 * 28).reshape(n, 28, 28).astype(np.uint8)
        for name, array in ((images, pixels), (labels, np.arange(n, dtype=np.uint8))):
            file, data = (f"{name}.gz", gzip.compress(idx(array))) if gz else (name, idx(array))
            (folder / file).write_bytes(data)


def test_digits_are_whole():
    train, heldout = load("digits")
    assert heldout is None and train.rows.array.shape == (1797, 8, 8)
    assert train.rows.array.min() == 0 and train.rows.array.max() == 255
    assert train.labels.dtype == torch.int64 and train.labels[:10].tolist() == list(range(10))


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("inner", ["", "raw"])
def test_mnist_from_idx_files(tmp_path, name, gz, inner):
    kind = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[name]
    write_mnist(tmp_path / kind / "raw" if inner else tmp_path, gz)
    train, heldout = load(name, str(tmp_path))
    assert len(train.rows) == 6 and len(heldout.rows) == 4
    assert train.rows.read([1])[0].tolist() == (np.arange(784, 1568) % 256).reshape(28, 28).tolist()
    assert heldout.labels.tolist() == [0, 1, 2, 3] and len(train.class_names) == 10


def test_mnist_downloads_into_the_cache(monkeypatch):
    from torchvision.datasets import mnist

    def fetch(url, download_root, filename, md5):
        write_mnist(Path(download_root))
        write_mnist(Path(download_root), gz=False)

    monkeypatch.setattr(mnist, "download_and_extract_archive", fetch)
    assert len(load("mnist").train.rows) == 6
    monkeypatch.setattr(mnist, "download_and_extract_archive", None)  # now it is there
    assert len(load("mnist").train.rows) == 6


@pytest.mark.skipif(not DEBIAN_FASHION_MNIST.exists(), reason="package dataset-fashion-mnist")
def test_fashion_mnist_of_debian():
    train, heldout = load("fashion_mnist")
    assert train.rows.array.shape == (60000, 28, 28) and heldout.rows.array.shape == (10000, 28, 28)
    assert torch.bincount(train.labels).tolist() == [6000] * 10
    assert train.class_names[train.labels[0]] == "Ankle boot"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "celeba"])
def test_no_network_is_one_line_with_the_mend(name, monkeypatch):
    from torchvision.datasets import celeba, cifar, mnist

    def fail(*args, **kwargs):
        raise NO_NETWORK

    monkeypatch.setattr(loaders, "DEBIAN_FASHION_MNIST", Path("/nowhere"))
    monkeypatch.setattr(mnist, "download_and_extract_archive", fail)
    monkeypatch.setattr(cifar, "download_and_extract_archive", fail)
    monkeypatch.setattr(celeba, "download_file_from_google_drive", fail)
    with pytest.raises(ValueError, match=rf"cannot download {name} \(.*\); put .* as path$") as e:
        load(name)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_path_without_the_files(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} does not hold {name}"):
        load(name, str(tmp_path))


@pytest.mark.parametrize(
    "damage", [lambda b: b[:100], lambda b: b"\0\0\x0d\1" + b[4:], lambda b: b""]
)
def test_damaged_idx_file_is_named(tmp_path, damage):
    good = idx(np.zeros((10, 28, 28), np.uint8))
    for file, data in (("plain", damage(good)), ("packed.gz", gzip.compress(good)[:-9])):
        (tmp_path / file).write_bytes(data)
        with pytest.raises(ValueError, match=f"{file}: .*fetch it again"):
            read_idx(tmp_path / file)


def write_cifar(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    files = {f"data_batch_{i}": 2 for i in range(1, 6)} | {"test_batch": 3}
    for seed, (file, n) in enumerate(files.items()):
        data = np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)
        (folder / file).write_bytes(pickle.dumps({"data": data, "labels": list(range(n))}))
    names = {"label_names": [f"class{i}" for i in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"])
def test_cifar10_as_its_authors_packed_it(tmp_path, monkeypatch, inner):
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    write_cifar(tmp_path)
    train, heldout = load("cifar10", str(tmp_path / inner))
    first = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)[0]
    assert np.array_equal(train.rows.read([0])[0], first.reshape(3, 32, 32).transpose(1, 2, 0))
    assert train.labels.tolist() == [0, 1] * 5 and heldout.labels.tolist() == [0, 1, 2]
    assert train.class_names[3] == "class3"


def test_damaged_cifar10_is_refused(tmp_path):
    write_cifar(tmp_path)  # right names, wrong md5
    with pytest.raises(FileNotFoundError, match="or a damaged copy"):
        load("cifar10", str(tmp_path))


def write_celeba(root: Path, layout: str) -> Path:
    """Four faces, the last in the test part; 2 and 4 smile."""
    base = root / "celeba" if layout == "torchvision" else root
    faces = base / "img_align_celeba"
    faces = faces / "img_align_celeba" if layout == "kaggle" else faces
    faces.mkdir(parents=True)
    for i in range(1, 5):
        Image.new("RGB", (178, 218), (i, i, i)).save(faces / f"{i:06}.jpg")
    names = [f"{i:06}.jpg" for i in range(1, 5)]
    if layout == "kaggle":
        rows = [f"{name},-1,{1 if i % 2 else -1}" for i, name in enumerate(names)]
        (base / "list_attr_celeba.csv").write_text("\n".join(["image_id,Male,Smiling", *rows]))
        rows = [f"{name},{2 if i == 3 else 0}" for i, name in enumerate(names)]
        (base / "list_eval_partition.csv").write_text("\n".join(["image_id,partition", *rows]))
    else:
        rows = [f"{name} -1  {1 if i % 2 else -1}" for i, name in enumerate(names)]
        (base / "list_attr_celeba.txt").write_text("\n".join(["4", "Male Smiling ", *rows]))
        rows = [f"{name} {2 if i == 3 else 0}" for i, name in enumerate(names)]
        (base / "list_eval_partition.txt").write_text("\n".join(rows))
    return base


@pytest.mark.parametrize("layout", ["torchvision", "kaggle", "plain"])
def test_celeba(tmp_path, layout):
    write_celeba(tmp_path, layout)
    train, heldout = load("celeba", str(tmp_path), label_column="Smiling")
    assert train.rows.ids == ["000001.jpg", "000002.jpg", "000003.jpg"]
    assert heldout.rows.ids == ["000004.jpg"]
    assert train.labels.tolist() == [0, 1, 0] and heldout.labels.tolist() == [1]
    assert train.class_names == ["not Smiling", "Smiling"]
    assert load("celeba", str(tmp_path)).train.labels is None


def test_celeba_of_images_only(tmp_path):
    base = write_celeba(tmp_path, "plain")
    for file in base.glob("*.txt"):
        file.unlink()
    for path in (base, base / "img_align_celeba"):
        train, heldout = load("celeba", str(path))
        assert len(train.rows) == 4 and heldout is None
    with pytest.raises(FileNotFoundError, match="needs list_attr_celeba.txt or .csv"):
        load("celeba", str(base), label_column="Smiling")


def test_celeba_attribute_names_are_listed(tmp_path):
    base = write_celeba(tmp_path, "plain")
    with pytest.raises(ValueError, match="no attribute 'Smile' in .*: there are Male, Smiling"):
        load("celeba", str(base), label_column="Smile")
    assert read_list(base / "list_attr_celeba.txt")[1]["000002"] == ["-1", "1"]


def test_folder_of_classes(tree):
    train, heldout = load("folder", str(tree))
    assert heldout is None and train.class_names == ["cat", "dog"]
    assert train.rows.ids[:2] == ["cat/1.png", "cat/3.png"] and len(train.rows) == 10
    assert train.labels.tolist() == [0] * 5 + [1] * 5


def test_folder_with_loose_images_has_no_classes(tree):
    (tree / "cat" / "1.png").rename(tree / "1.PNG")
    (tree / "notes.txt").write_text("not an image, and not read")
    (tree / "._3.png").write_bytes(b"macOS")
    train = load("folder", str(tree)).train
    assert train.labels is None and train.rows.ids[0] == "1.PNG" and len(train.rows) == 10


@pytest.mark.parametrize("name", ["test", "val"])
def test_folder_with_its_own_split(tree, name):
    for part in ("train", name):
        (tree / part).mkdir()
    (tree / "cat").rename(tree / "train" / "a")
    (tree / "dog").rename(tree / name / "a")
    train, heldout = load("folder", str(tree))
    assert train.rows.ids[0] == "a/1.png" and heldout.rows.ids[0] == "a/0.png"
    (tree / name / "a").rename(tree / name / "b")
    with pytest.raises(ValueError, match="different subfolders"):
        load("folder", str(tree))


def test_folder_missing_or_empty(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        load("folder", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=f"no images in {tmp_path}: .*jpg.*png"):
        load("folder", str(tmp_path))
    with pytest.raises(ValueError, match="folder needs a path"):
        load("folder")


def test_unknown_name():
    with pytest.raises(ValueError, match="'fashion-mnist': did you mean 'fashion_mnist'"):
        load("fashion-mnist")
    with pytest.raises(ValueError, match="unknown dataset 'xyz': there are digits, "):
        load("xyz")
