"""One word of a command line becomes images: a built-in set, a folder, an array or tables."""

import difflib
import zipfile
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from novum.core.errors import InputError, NotFoundError, first_line
from novum.core.files import check_regular, open_regular
from novum.core.memory import available_bytes
from novum.datamodules.images import ImageDataModule
from novum.datamodules.sources import builtin_datasets as loaders
from novum.datamodules.sources.decode import ImageTransform, native_shape, unreadable
from novum.datamodules.sources.decode_all import decode_all, fits
from novum.datamodules.sources.huggingface import BUILDERS
from novum.datamodules.sources.image_sources import ImageSource, LazyImages
from novum.datamodules.sources.raw_images import ArrayRows, RawSet, Splits

NPY = b"\x93NUMPY"  # what the file of one array begins with
MEMORY_BUDGET = 4e9  # bytes; a larger set is decoded each time it is read
SAVED_TABLES = ("dataset_dict.json", "state.json")  # of Dataset.save_to_disk
KINDS = f"a folder of images, a .npy, .npz, {', '.join(BUILDERS)} file or a folder of those"

Side = Literal["train", "heldout"]
Shape = tuple[int, int, int]


class Opened(NamedTuple):
    """Images of one size, and what they were before."""

    where: str
    images: ImageSource
    native: Shape | None  # (c, h, w) of the first image as it is stored, where that is known

    @property
    def note(self) -> str | None:
        """Describe how the images were resized, for the reader of a report."""
        if self.native in (None, self.images.shape):
            return None
        channels, size, _ = self.images.shape
        how = ImageTransform(size, channels).spec
        stored, wanted = shape_name(self.native), shape_name(self.images.shape)
        return f"{self.where}: images of {stored} are read as {wanted} ({how})"


def open_images(
    where: str,
    side: Side = "train",
    size: int | None = None,
    channels: int | None = None,
    follow_links: bool = False,
) -> Opened:
    """The images that a name or a path stands for.

    Args:
        where: A built-in set's name, or a path.
        side: Which part is meant, where the images are split into training and held-out ones.
        size: Height and width; the shorter side of the first image if not given.
        channels: 1 or 3; those of the first image if not given.
        follow_links: Follow links that lead out of a folder.
    """
    if where in loaders.FIXED:
        return _open_side(_data_module({"dataset": where}, size, channels), where, side)
    splits = _load(where, follow_links)
    raw = splits.heldout if side == "heldout" and splits.heldout else splits.train
    native = _first_shape(raw)
    transform = ImageTransform(size or min(native[1:]), channels or native[0])
    lazy = LazyImages(raw.rows, transform, raw.labels, raw.class_names)
    if fits(len(lazy) * transform.channels * transform.size**2, MEMORY_BUDGET):
        return Opened(where, decode_all(lazy, skip_bad=False), native)
    return Opened(where, lazy, native)


def open_references(
    train: str,
    heldout: str | None,
    size: int,
    channels: int,
    trained_on: Mapping[str, Any] | None = None,
    follow_links: bool = False,
) -> tuple[Opened, Opened | None]:
    """Training and held-out images at the samples' size.

    One place given for both is cut in two as ImageDataModule cuts it, by the arguments that a run
    was `trained_on` where it is that run's data; but `follow_links` is never the run's.
    """
    modules: dict[str, ImageDataModule] = {}

    def open_side(where: str, side: Side) -> Opened:
        cut = _arguments_of_cut(where, _same_place(train, heldout), trained_on or {})
        if cut is None:
            return open_images(where, side, size, channels, follow_links)
        if where not in modules:
            modules[where] = _data_module({**cut, "follow_links": follow_links}, size, channels)
        return _open_side(modules[where], where, side)

    trained = open_side(train, "train")
    if not heldout:
        return trained, None
    unseen = open_side(heldout, "heldout")
    if trained.images.fingerprint == unseen.images.fingerprint:
        raise InputError(
            f"{train} and {heldout} hold the same images: give held-out images that were never"
            " trained on"
        )
    return trained, unseen


def _same_place(train: str, heldout: str | None) -> bool:
    return heldout is not None and Path(train).resolve() == Path(heldout).resolve()


def shape_name(shape: Shape) -> str:
    """`32x32 RGB`."""
    channels, height, width = shape
    return f"{width}x{height} {'gray' if channels == 1 else 'RGB'}"


def _arguments_of_cut(
    where: str, both_sides: bool, trained_on: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """ImageDataModule's arguments for a place that it splits."""
    if trained_on and where in (trained_on.get("path"), trained_on.get("dataset")):
        return trained_on
    if where in loaders.FIXED:
        return {"dataset": where}
    if not both_sides:
        return None
    path = _existing(where)
    if path.suffix in (".npy", ".npz"):
        raise InputError(f"{where} is given for both sides: give another file of held-out images")
    return {"dataset": "huggingface" if _holds_tables(path) else "folder", "path": where}


def _data_module(
    arguments: Mapping[str, Any], size: int | None, channels: int | None
) -> ImageDataModule:
    wanted = {"image_size": size, "channels": channels}
    return ImageDataModule(**{**arguments, **{k: v for k, v in wanted.items() if v}})


def _open_side(data: ImageDataModule, where: str, side: Side) -> Opened:
    images = data.train_reference() if side == "train" else data.heldout_reference()
    return Opened(where, images, data.native_shape())


def _load(where: str, follow_links: bool) -> Splits:
    """Undecoded images of a path."""
    path = _existing(where)
    if path.suffix in (".npy", ".npz"):
        return Splits(RawSet(ArrayRows(read_array(path), where)))
    if _holds_tables(path):
        return loaders.load("huggingface", str(path), follow_links=follow_links)
    if not path.is_dir():
        raise InputError(f"{where} is not a kind of file that is read: give {KINDS}")
    return loaders.load("folder", str(path), follow_links=follow_links)


def _existing(where: str) -> Path:
    path = Path(where).expanduser()
    if not path.exists():
        near = difflib.get_close_matches(where, loaders.FIXED, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        names = ", ".join(loaders.FIXED)
        raise NotFoundError(f"no file or folder {where}: {hint}give {KINDS}, or one of {names}")
    if not path.is_dir():
        check_regular(path)
    return path


def _holds_tables(path: Path) -> bool:
    if path.is_file():
        return path.suffix in BUILDERS
    files = chain(path.glob("*"), path.glob("data/*"))
    tables = (file for file in files if file.suffix in BUILDERS or file.name in SAVED_TABLES)
    return any(file.is_file() for file in tables)


def _first_shape(raw: RawSet) -> Shape:
    name, data = next(raw.named(), (None, None))
    if name is None or data is None:
        raise InputError("there are no images")
    try:
        return native_shape(data)
    except Exception as error:
        raise unreadable(name, error) from error


def read_array(path: Path) -> np.ndarray:
    """uint8 images (n, h, w) or (n, h, w, 3) of a NumPy file; nothing is unpickled."""
    try:
        array = _load_array(path)
    except Exception as error:  # a damaged zip raises about anything
        raise InputError(
            f"{path} cannot be read ({first_line(error)}): save a plain uint8 array by numpy.save"
            " or numpy.savez"
        ) from error
    if array.dtype != np.uint8:
        raise InputError(
            f"{path} holds {array.dtype}, images must be uint8: scale them to 0..255, round, and"
            " save .astype(numpy.uint8)"
        )
    if array.ndim == 4 and array.shape[-1] not in (1, 3) and array.shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (3, 4) or array.ndim == 4 and array.shape[-1] != 3 or not array.size:
        raise InputError(
            f"{path} has the shape {array.shape}: images are (n, h, w, c), (n, c, h, w) or"
            " (n, h, w), with 1 or 3 channels"
        )
    return array


def _load_array(path: Path) -> np.ndarray:
    with open_regular(path) as raw:
        start = raw.read(len(NPY))
        raw.seek(0)
        if start == NPY:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        return _member(np.load(raw, allow_pickle=False))


def _member(archive: np.lib.npyio.NpzFile) -> np.ndarray:
    """The images in an archive."""
    with archive as file:
        names = [name for name in ("images", "samples", "arr_0") if name in file.files]
        if not names and len(file.files) != 1:
            listed = ", ".join(file.files) or "nothing"
            raise InputError(f"it holds {listed}, and none is called images")
        name = names[0] if names else file.files[0]
        members = cast(zipfile.ZipFile, file.zip).infolist()
        size = max(m.file_size for m in members if m.filename in (name, f"{name}.npy"))
        if size > available_bytes():
            raise InputError(f"unpacked it has {size / 1e9:,.1f} GB, more than memory has room for")
        return np.asanyarray(file[name])  # bytes if it is not an array: refused later
