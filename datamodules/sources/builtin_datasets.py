"""Built-in image data by name: where each is found, and its official split where it has one."""

import difflib
import gzip
import math
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from novum.core.cache import cache_folder
from novum.core.errors import InputError, NotFoundError, first_line
from novum.core.files import open_regular
from novum.datamodules.sources.folders import load_celeba, load_folder
from novum.datamodules.sources.huggingface import load_tables
from novum.datamodules.sources.raw_images import ArrayRows, RawSet, Splits
from novum.datamodules.sources.walk import require_inside

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist
IDX_FILES = [  # images and labels of train and of test
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
]
MOST_BYTES = 2**30  # of an IDX file; EMNIST, the largest set in this format, has half of it
FIXED = {  # channels and number of classes of the sets that are known before they are read
    "digits": (1, 10),
    "mnist": (1, 10),
    "fashion_mnist": (1, 10),
    "cifar10": (3, 10),
    "celeba": (3, 0),
}
NAMES = (*FIXED, "folder", "huggingface")


def check_name(name: str) -> None:
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"unknown dataset {name!r}: {hint}there are {', '.join(NAMES)}")


def load(
    name: str,
    path: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    follow_links: bool = False,
    whole: bool = False,
) -> Splits:
    """The undecoded training and held-out images of a built-in data set.

    `whole` takes a folder or tables for one set, whatever splits they have.
    """
    check_name(name)
    place = Path(path).expanduser() if path else None
    if name in ("folder", "huggingface") and (place is None or path is None):
        raise InputError(f"dataset: {name} needs a path, which says where the images are")
    if name == "digits":
        return load_digits()
    if name == "cifar10":
        return load_cifar10(place)
    if name == "celeba":
        return load_celeba(place or _downloaded_celeba(), label_column, follow_links)
    if name == "folder" and place is not None:
        return load_folder(place, follow_links, whole)
    if name == "huggingface" and path is not None:
        return load_tables(path, image_column, label_column, split, follow_links, whole)
    return load_mnist(name, place, follow_links)


def downloads() -> Path:
    """Folder for data that is downloaded because no path is given."""
    return cache_folder() / "data"


def load_digits() -> Splits:
    """1,797 handwritten digits of 8 x 8 pixels, embedded in scikit-learn."""
    from sklearn.datasets import load_digits as sklearn_digits

    digits: Any = sklearn_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)  # grays 0 to 16 in the original
    names = [str(name) for name in digits.target_names]
    return Splits(RawSet(ArrayRows(images, "digits"), torch.from_numpy(digits.target), names))


def load_mnist(name: str, path: Path | None, follow_links: bool = False) -> Splits:
    """MNIST or Fashion-MNIST from its four IDX files, gzipped or not; downloaded if not found."""
    from torchvision import datasets

    kind = datasets.MNIST if name == "mnist" else datasets.FashionMNIST
    places = [path, path / kind.__name__ / "raw"] if path else []
    if name == "fashion_mnist" and not path:
        places.append(DEBIAN_FASHION_MNIST)
    if not path:
        places.append(downloads() / kind.__name__ / "raw")
    files = [file for pair in IDX_FILES for file in pair]
    if path and not _holding(files, places):
        raise NotFoundError(f"{path} does not hold {name}: put {', '.join(files)} (.gz) there")
    if not _holding(files, places):
        with downloading(name, f"{', '.join(files)} (.gz)"):
            kind(str(downloads()), download=True)
    folder = _holding(files, places)
    assert folder is not None  # found, or downloaded
    for file in files:
        require_inside(_present(folder, file), folder, follow_links)
    return Splits(*(_read_pair(folder, name, *pair, kind.classes) for pair in IDX_FILES))


def _holding(files: list[str], places: list[Path]) -> Path | None:
    """The first of `places` that has all files, plain or gzipped."""
    return next((place for place in places if all(_plain_or_gz(place, f) for f in files)), None)


def _plain_or_gz(folder: Path, file: str) -> Path | None:
    return next((p for p in (folder / file, folder / f"{file}.gz") if p.is_file()), None)


def _present(folder: Path, file: str) -> Path:
    found = _plain_or_gz(folder, file)
    assert found is not None  # `_holding` has looked
    return found


def _read_pair(folder: Path, name: str, images: str, labels: str, classes: list[str]) -> RawSet:
    pixels, targets = (read_idx(_present(folder, file)) for file in (images, labels))
    if pixels.ndim != 3 or targets.ndim != 1 or len(pixels) != len(targets) or not pixels.size:
        raise InputError(f"{folder}: {images} and {labels} do not fit together; fetch them again")
    if targets.max() >= len(classes):
        raise InputError(f"{folder}: {labels} has a label {targets.max()}; fetch it again")
    return RawSet(ArrayRows(pixels, name), torch.from_numpy(targets).long(), list(classes))


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of bytes (LeCun's format): two zeros, type 8, rank, big-endian sizes, data."""
    try:
        with open_regular(path) as raw, _unpacked(raw, path.suffix) as file:
            zeros, kind, rank = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{rank}I", file.read(4 * rank))
            size = math.prod(shape)
            whole = not zeros and kind == 8 and size <= MOST_BYTES
            data = file.read(size + 1) if whole else b""  # no more than the header claims
    except (EOFError, OSError, struct.error, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); fetch it again") from error
    if not whole or len(data) != size:
        raise InputError(f"{path}: not an IDX file of bytes, or cut short; fetch it again")
    return np.frombuffer(bytearray(data), np.uint8).reshape(shape)


def _unpacked(file: BinaryIO, suffix: str) -> BinaryIO | gzip.GzipFile:
    return gzip.GzipFile(fileobj=file) if suffix == ".gz" else file


def load_cifar10(path: Path | None) -> Splits:
    """CIFAR-10 as its authors packed it (`cifar-10-batches-py`), downloaded if no path is given."""
    from torchvision.datasets import CIFAR10

    root = path or downloads()
    if root.name == CIFAR10.base_folder:
        root = root.parent
    if not path:
        with downloading("cifar10", f"the folder {CIFAR10.base_folder}"):
            CIFAR10(str(root), download=True)
    try:
        parts = [CIFAR10(str(root), train=train) for train in (True, False)]
    except RuntimeError as error:
        raise NotFoundError(
            f"{root} does not hold cifar10, or a damaged copy: unpack cifar-10-python.tar.gz there"
        ) from error
    return Splits(*(_cifar_part(part) for part in parts))


def _cifar_part(part) -> RawSet:
    return RawSet(ArrayRows(part.data, "cifar10"), torch.tensor(part.targets), list(part.classes))


def _downloaded_celeba() -> Path:
    from torchvision.datasets import CelebA

    if not (downloads() / "celeba" / "img_align_celeba").is_dir():
        with downloading("celeba", "the folder img_align_celeba (and its lists)"):
            CelebA(str(downloads()), download=True)
    return downloads() / "celeba"


@contextmanager
def downloading(name: str, files: str):
    """Turns whatever a downloader raises into one line that says what to do without network."""
    try:
        yield
    except Exception as error:
        raise InputError(
            f"cannot download {name} ({first_line(error)}); put {files} in a folder, "
            "and give it as path"
        ) from error
