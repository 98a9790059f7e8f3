"""One word of a command line becomes images: a built-in set, a folder, an array or tables."""

import difflib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np

from novum.core.errors import InputError, NotFoundError, first_line
from novum.core.files import check_regular, open_regular
from novum.core.hub_places import dataset_name, is_hub
from novum.core.memory import available_bytes
from novum.datamodules.sources import builtin_datasets as loaders
from novum.datamodules.sources.decode import ImageTransform
from novum.datamodules.sources.decode_all import decode_all, drop_bad, fits
from novum.datamodules.sources.image_sources import ImageSource, LazyImages
from novum.datamodules.sources.in_memory import images_in_memory, images_of_array
from novum.datamodules.sources.local_tables import BUILDERS, holds_tables
from novum.datamodules.sources.raw_images import (
    IN_HELDOUT,
    IN_TRAINING,
    ArrayRows,
    Omission,
    RawSet,
    Splits,
    join_sets,
)
from novum.datamodules.sources.reference_bundle import BundledImages, is_bundle, open_bundle
from novum.datamodules.sources.survey import Survey, survey

if TYPE_CHECKING:  # with Lightning, which an evaluation of files does without
    from novum.datamodules.images import ImageDataModule

NPY = b"\x93NUMPY"  # what the file of one array begins with
MEMORY_BUDGET = 4e9  # bytes; a larger set is decoded each time it is read
KINDS = f"a folder of images, a .npy, .npz, {', '.join(BUILDERS)} file or a folder of those"

Side = Literal["train", "heldout", "samples"]
Shape = tuple[int, int, int]


class Reading(NamedTuple):
    """Options that every set of images is read with, as ImageDataModule calls them."""

    follow_links: bool = False
    image_column: str | None = None
    split: str | None = None
    skip_bad: bool = False  # on_bad_image: skip
    groups: str | None = None


class Opened(NamedTuple):
    """Images of one size, and what they were before."""

    where: str
    images: ImageSource
    native: Shape | None  # (c, h, w) of the images as they are stored, where that is known
    survey: Survey | None = None
    is_array: bool = False  # whose values may be on another scale than 0 to 255

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
    where: Any,
    side: Side = "train",
    size: int | None = None,
    channels: int | None = None,
    follow_links: bool = False,
    options: Reading | None = None,
) -> Opened:
    """The images that a name or a path stands for.

    Args:
        where: A built-in set's name, a path, or what a program holds (sources/in_memory.py).
        side: Which part is meant, where the images are split into training and held-out ones;
            samples are never split.
        size: Height and width; the shorter side of the commonest size if not given.
        channels: 1 or 3; if not given, 3 if any image is in colour.
        follow_links: Follow links that lead out of a folder.
        options: Further options, and `follow_links` again.
    """
    options = options or Reading(follow_links)
    if is_bundle(where):
        return _open_bundled(where, side, size, channels, options)
    if not isinstance(where, str):
        if _is_source(where) and where.shape == (channels, size, size):
            return Opened(f"{side} (in memory)", where, None)
        raw = images_in_memory(_pixels_of(where), side, options.image_column)
        where, is_array = f"{side} (in memory)", True
    elif where in loaders.FIXED and side != "samples":
        return _open_side(_data_module({"dataset": where}, size, channels), where, side)
    else:
        raw = _one_side(_load(where, side == "samples", options), side)
        is_array = where.endswith((".npy", ".npz"))
    found = survey(raw, options.skip_bad)
    native = found.pages.shape
    transform = ImageTransform(size or min(native[1:]), channels or native[0])
    raw = found.raw
    lazy = LazyImages(raw.rows, transform, raw.labels, raw.class_names)
    images: ImageSource = lazy
    if fits(len(lazy) * transform.channels * transform.size**2, MEMORY_BUDGET):
        images = decode_all(lazy, options.skip_bad)
    elif options.skip_bad:
        images = drop_bad(lazy)
    return Opened(where, images, native, found.of(lazy, images), is_array)


def _is_source(data: Any) -> bool:
    """True of train_reference() and the like, whose images are uint8 (n, c, h, w)."""
    return hasattr(data, "fingerprint") and hasattr(data, "shape") and hasattr(data, "ids")


def _pixels_of(data: Any) -> Any:
    return data[:] if _is_source(data) else data


def _one_side(splits: Splits, side: Side) -> RawSet:
    """The rows of a side, with the other side among what is left out."""
    train, heldout = splits
    if heldout is None:
        return train
    if side == "heldout":
        return _add(heldout, Omission(IN_TRAINING, len(train.rows)))
    return _add(train, Omission(IN_HELDOUT, len(heldout.rows)))


def _add(raw: RawSet, omission: Omission) -> RawSet:
    return raw._replace(left_out=(*raw.left_out, omission))


def open_references(
    train: Any,
    heldout: Any,
    size: int,
    channels: int,
    trained_on: Mapping[str, Any] | None = None,
    follow_links: bool = False,
    options: Reading | None = None,
) -> tuple[Opened, Opened | None]:
    """Training and held-out images at the samples' size.

    One place given for both is cut in two as ImageDataModule cuts it, by the arguments that a run
    was `trained_on` where it is that run's data; but `follow_links` is never the run's.
    """
    modules: dict[str, ImageDataModule] = {}
    options = options or Reading(follow_links)

    def open_side(where: Any, side: Side) -> Opened:
        if not isinstance(where, str) or is_bundle(where):
            return open_images(where, side, size, channels, options=options)
        cut = _arguments_of_cut(where, _same_place(train, heldout), trained_on or {}, options)
        if cut is None:
            return open_images(where, side, size, channels, options=options)
        if where not in modules:
            modules[where] = _data_module({**cut, **_given(options, cut)}, size, channels)
        return _open_side(modules[where], where, side)

    trained = open_side(train, "train")
    if heldout is None:
        return trained, None
    unseen = open_side(heldout, "heldout")
    if trained.images.fingerprint == unseen.images.fingerprint:
        raise InputError(
            f"{trained.where} and {unseen.where} hold the same images: give held-out images that"
            " were never trained on"
        )
    _require_companions(trained, unseen)
    return trained, unseen


def _open_bundled(
    where: str, side: Side, size: int | None, channels: int | None, options: Reading
) -> Opened:
    """A set of a reference bundle, at the size at which it was made."""
    if side == "samples":
        raise InputError(f"{where} is a bundle of references: give it as --train, not as samples")
    if options.groups:
        raise InputError(f"--groups: {where} holds those that it was made with; leave it out")
    images = open_bundle(where).side(side)
    wanted = channels or images.shape[0], size or images.shape[1], size or images.shape[2]
    if images.shape != wanted:
        raise InputError(
            f"{where} holds images of {shape_name(images.shape)}, and the samples are"
            f" {shape_name(wanted)}: give samples of that size, or make a bundle at theirs,"
            " --save-reference with --samples"
        )
    native = images.described.get("native")
    return Opened(where, images, native and (int(native[0]), int(native[1]), int(native[2])))


def _require_companions(trained: Opened, unseen: Opened) -> None:
    """Raise InputError for held-out images of a bundle that was made of another training set."""
    if not isinstance(unseen.images, BundledImages):
        return
    beside = unseen.images.bundle.side("train").fingerprint
    if trained.images.fingerprint != beside:
        raise InputError(
            f"{unseen.where} holds out images of another training set ({beside[:12]}) than"
            f" {trained.where} ({trained.images.fingerprint[:12]}): name the sets of one bundle"
        )


def _same_place(train: Any, heldout: Any) -> bool:
    if not (isinstance(train, str) and isinstance(heldout, str)):
        return False
    return Path(train).resolve() == Path(heldout).resolve()


def shape_name(shape: Shape) -> str:
    """`32x32 RGB`."""
    channels, height, width = shape
    return f"{width}x{height} {'gray' if channels == 1 else 'RGB'}"


def _arguments_of_cut(
    where: str, both_sides: bool, trained_on: Mapping[str, Any], options: Reading
) -> Mapping[str, Any] | None:
    """ImageDataModule's arguments for a place that it splits."""
    if trained_on and where in (trained_on.get("path"), trained_on.get("dataset")):
        return trained_on
    if where in loaders.FIXED:
        return {"dataset": where}
    if not both_sides:
        return None
    if is_hub(where):
        return {"dataset": "huggingface", "path": dataset_name(where)}
    path = _existing(where)
    if path.suffix in (".npy", ".npz"):
        raise InputError(f"{where} is given for both sides: give another file of held-out images")
    tables = holds_tables(path, options.follow_links)
    return {"dataset": "huggingface" if tables else "folder", "path": where}


def _given(options: Reading, cut: Mapping[str, Any]) -> dict[str, Any]:
    """ImageDataModule's arguments that options of an evaluation stand for."""
    given: dict[str, Any] = {"follow_links": options.follow_links}
    if options.skip_bad:
        given["on_bad_image"] = "skip"
    if options.groups:
        given["groups"] = options.groups
    if cut["dataset"] == "huggingface":
        named = {"image_column": options.image_column, "split": options.split}
        given |= {name: value for name, value in named.items() if value}
    return given


def _data_module(
    arguments: Mapping[str, Any], size: int | None, channels: int | None
) -> "ImageDataModule":
    wanted = {"image_size": size, "channels": channels}
    from novum.datamodules.images import ImageDataModule

    return ImageDataModule(**{**arguments, **{k: v for k, v in wanted.items() if v}})


def _open_side(data: "ImageDataModule", where: str, side: Side) -> Opened:
    images = data.train_reference() if side == "train" else data.heldout_reference()
    return Opened(where, images, data.native_shape(), data.surveys.get(side))


def _load(where: str, whole: bool, options: Reading) -> Splits:
    """Undecoded images of a path, or of a built-in set's name; in one set if `whole`."""
    if where in loaders.FIXED:
        return Splits(join_sets([side for side in loaders.load(where) if side]))
    columns = options.image_column, None, options.split
    if is_hub(where):
        return loaders.load("huggingface", dataset_name(where), *columns, whole=whole)
    path = _existing(where)
    if path.suffix in (".npy", ".npz"):
        return Splits(RawSet(ArrayRows(read_array(path), where)))
    if holds_tables(path, options.follow_links):
        return loaders.load("huggingface", str(path), *columns, options.follow_links, whole)
    if not path.is_dir():
        raise InputError(f"{where} is not a kind of file that is read: give {KINDS}")
    return loaders.load("folder", str(path), follow_links=options.follow_links, whole=whole)


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


def read_array(path: Path) -> np.ndarray:
    """uint8 images (n, h, w) or (n, h, w, c) of a NumPy file; nothing is unpickled."""
    try:
        array = _load_array(path)
    except Exception as error:  # a damaged zip raises about anything
        raise InputError(
            f"{path} cannot be read ({first_line(error)}): save a plain uint8 array by numpy.save"
            " or numpy.savez"
        ) from error
    return images_of_array(array, str(path), floats=False)


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
