"""Images that a program holds: arrays, tensors, lists, tables of `datasets`, DataLoaders."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from novum.core.errors import InputError, NovumError, first_line
from novum.core.memory import available_bytes
from novum.datamodules.sources.decode import Encoded
from novum.datamodules.sources.huggingface import find_image_column, undecoded
from novum.datamodules.sources.raw_images import ArrayRows, Omission, RawSet, Rows

LEAST_SIDE = 8  # of what may be a single image in colour
RESHAPE = "it as (n, h, w, c), one image as (1, h, w, c), gray ones as (n, h, w, 1)"
KEYS = ("image", "images", "pixel_values", "img", "jpg", "png", "x")  # of images in a batch
KINDS = (
    "a path, an array, a tensor, images in a list, a table of `datasets`, a DataLoader,"
    " or for samples a function of n and seed"
)


class MixedRows:
    """Images one by one: arrays of any size, encoded files or their paths."""

    def __init__(self, images: list[Encoded], name: str) -> None:
        self.images, self._name = images, name
        paths = all(isinstance(image, Path) for image in images)
        self.ids: Sequence[int | str] = list(map(str, images)) if paths else range(len(images))

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: list[int]) -> list[Encoded]:
        return [self.images[row] for row in rows]

    def name(self, row: int) -> str:
        image = self.images[row]
        return str(image) if isinstance(image, Path) else f"{self._name}, image {row}"


class CellRows:
    """Images of a table of `datasets` that the user opened: its cells may name any file."""

    def __init__(self, table: Any, column: str, name: str) -> None:
        self.table, self.column, self._name = table, column, name
        self.ids = range(len(table))

    def __len__(self) -> int:
        return len(self.table)

    def read(self, rows: list[int]) -> list[Encoded]:
        return [self._image(cell) for cell in self.table[rows][self.column]]

    def _image(self, cell: Any) -> Encoded:
        if isinstance(cell, Mapping):
            path = cell.get("path")
            return cell.get("bytes") or (Path(path) if path else b"")
        return cell if isinstance(cell, bytes) else b""

    def name(self, row: int) -> str:
        return f"{self._name}, row {row}"


def images_in_memory(data: Any, name: str, column: str | None = None) -> RawSet:
    """Undecoded images of what a program holds.

    Args:
        data: An array or a tensor; a sequence or another iterable of images or of batches; a table
            of `datasets`; a torch Dataset or DataLoader. Of pairs and mappings the images.
        name: How messages call it: samples, train or heldout.
        column: The column of a table.
    """
    if isinstance(data, Tensor | np.ndarray):
        return RawSet(ArrayRows(images_of_array(to_array(data, name), name), name))
    if type(data).__module__.partition(".")[0] == "datasets" and hasattr(data, "features"):
        if hasattr(data, "select_columns") and isinstance(data, Sized):
            return _table(data, name, column)
    if isinstance(data, Mapping):
        raise InputError(f"{name} has parts ({', '.join(map(str, data))}): give one of them")
    if isinstance(data, nn.Module) or callable(data) and not hasattr(data, "__getitem__"):
        raise InputError(f"{name} is {_kind(data)}, which has no images: give {KINDS}")
    if isinstance(data, DataLoader):
        return _loader(data, name)
    return RawSet(_rows(list(_singles(_items(data, name), name)), name))


def to_array(data: Tensor | np.ndarray, name: str) -> np.ndarray:
    """The values as NumPy has them, which knows no bfloat16 and no other layouts."""
    if isinstance(data, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array: give .filled(0), or the images without it")
    if not isinstance(data, Tensor):
        return data
    if data.is_meta:
        raise InputError(f"{name} is a tensor of the device meta, which holds no values")
    data = data.detach().cpu()
    data = data.to_dense() if data.layout != torch.strided else data
    return (data.float() if data.dtype == torch.bfloat16 else data).numpy()


def _kind(data: Any) -> str:
    return f"a {type(data).__name__}"


def _table(table: Any, name: str, column: str | None) -> RawSet:
    column = find_image_column(table.features, column, name)
    table = undecoded(table.with_format(None).select_columns([column]), column)
    return RawSet(CellRows(table, column, name))


def _loader(loader: DataLoader, name: str) -> RawSet:
    """All batches of a loader that ends."""
    try:
        len(loader)
    except TypeError as error:
        raise InputError(
            f"{name} is a DataLoader without a length, which may never end: give its data set, or"
            " .train_reference() of a DataModule of ours"
        ) from error
    batches = loader.batch_sampler is not None
    raw = RawSet(_rows(list(_singles(loader, name, batches)), name))
    if not isinstance(loader.dataset, Sized) or not loader.drop_last:
        return raw
    left = len(loader.dataset) - len(raw.rows)
    omission = Omission("in a last batch that the loader drops", left)
    return raw._replace(left_out=(omission,)) if left > 0 else raw


def _items(data: Any, name: str) -> Iterable[Any]:
    """The items of a sequence, of a map-style data set, or of an iterable."""
    if isinstance(data, str | bytes):
        raise InputError(f"{name} is {_kind(data)}: give {KINDS}")
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return (data[i] for i in range(len(data)))
    if not isinstance(data, Iterable):
        raise InputError(f"{name} is {_kind(data)}: give {KINDS}")
    return data


def _singles(items: Iterable[Any], name: str, batches: bool = False) -> Iterator[Encoded]:
    """Single images of items that are images, or `batches` of them; four axes are a batch."""
    free, taken = available_bytes(), 0
    for item in _read(items, name):
        for image in _images_of_item(item, name, batches):
            taken += image.nbytes if isinstance(image, np.ndarray) else 0
            if taken > free:
                raise InputError(
                    f"{name} has more than the {free / 1e9:.1f} GB that memory has room for: save"
                    " it as files or a table, and give the path"
                )
            yield image


def _read(items: Iterable[Any], name: str) -> Iterator[Any]:
    """The items; an error in the user's own data set is one line that says which."""
    iterator, number = iter(items), 0
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except NovumError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(f"{name}: item {number} cannot be read: {said}") from error
        yield item
        number += 1


def _images_of_item(item: Any, name: str, batches: bool) -> Iterator[Encoded]:
    item = _pixels(item, name)
    if isinstance(item, Image.Image):
        yield _png(item, name)
    elif isinstance(item, list) and item and all(isinstance(x, Image.Image) for x in item):
        yield from (_png(image, name) for image in item)
    elif isinstance(item, str | Path):
        path = Path(item).expanduser()
        if not path.is_file():
            raise InputError(
                f"{name} holds {str(item)[:60]!r}, which is no file of an image: give paths of"
                " files, or kind='text' for texts"
            )
        yield path
    elif isinstance(item, Tensor | np.ndarray):
        array = to_array(item, name)
        if array.ndim == 2 or array.ndim == 3 and not batches:
            array = _one(array, name)
        elif array.ndim == 3:  # gray ones
            array = array[..., None]
        yield from images_of_array(array, name)
    else:
        raise InputError(f"{name} holds {_kind(item)}: give {KINDS}")


def _one(image: np.ndarray, name: str) -> np.ndarray:
    """A single image, gray or in colour, as a batch (1, h, w) or (1, h, w, c) or (1, c, h, w)."""
    if image.ndim == 3 and not {image.shape[0], image.shape[2]} & {1, 3, 4}:
        raise InputError(
            f"{name} holds an image of the shape {image.shape}: give (h, w), (h, w, c) or"
            " (c, h, w), or all images in one array"
        )
    return image[None]


def _pixels(item: Any, name: str) -> Any:
    """The images of a pair of images and labels, or of a mapping."""
    if isinstance(item, Mapping):
        found = next((item[key] for key in KEYS if key in item), None)
        if found is None:
            listed = ", ".join(map(str, item))
            raise InputError(f"{name} has batches of {listed}: none of them is called image")
        return found
    pictures = isinstance(item, list) and all(isinstance(x, Image.Image) for x in item)
    return item[0] if isinstance(item, tuple | list) and item and not pictures else item


def _png(image: Image.Image, name: str) -> bytes:
    """A picture as the file that would hold it."""
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        if image.mode in ("I", "F"):
            raise InputError(f"{name} has an image of mode {image.mode}: give .convert('L')")
        image = image.convert("RGB")
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _rows(images: list[Encoded], name: str) -> Rows:
    if not images:
        raise InputError(f"{name} is empty: give images")
    arrays = [image for image in images if isinstance(image, np.ndarray)]
    if len(arrays) == len(images) and len({image.shape for image in arrays}) == 1:
        return ArrayRows(np.stack(arrays), name)
    return MixedRows(images, name)


def images_of_array(array: np.ndarray, name: str, floats: bool = True) -> np.ndarray:
    """uint8 images (n, h, w) or (n, h, w, c) of an array.

    Args:
        array: uint8, or floats from 0 to 1 if `floats`.
        name: How messages call it.
    """
    if floats and array.dtype.kind == "f" and array.size:
        array = _of_floats(array, name)
    if array.dtype != np.uint8:
        scale = "multiply them by 255" if array.dtype == bool else "scale them to 0..255, round"
        raise InputError(
            f"{name} holds {array.dtype}, images must be uint8: {scale}, and"
            f" {'give' if floats else 'save'} .astype(numpy.uint8)"
        )
    layouts = _layouts(array.shape)
    if len(layouts) > 1:
        readings, mend = " or ".join(layouts), "give" if floats else "save"
        raise InputError(
            f"{name} has the shape {array.shape}, which may be {readings}: {mend} {RESHAPE}"
        )
    if array.ndim > 2 and not array.size:
        raise InputError(f"{name} has the shape {array.shape}: it holds no pixels, give images")
    if not layouts:
        raise InputError(
            f"{name} has the shape {array.shape}: images are (n, h, w, c), (n, c, h, w) or"
            " (n, h, w), with 1 or 3 channels, or 4 with alpha"
        )
    if "(c, h, w)" in layouts[0]:
        array = np.moveaxis(array, 1, -1)
    return array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array


def _of_floats(array: np.ndarray, name: str) -> np.ndarray:
    low, high = float(array.min()), float(array.max())
    if not (0 <= low and high <= 1):  # NaN too
        mend = "(x + 1) / 2" if -1 <= low and high <= 1 else "x / 255, or uint8"
        raise InputError(
            f"{name} holds floats from {low:.3g} to {high:.3g}: images are uint8, or floats from 0"
            f" to 1; give {mend}"
        )
    return np.round(array * np.float32(255)).astype(np.uint8)


def _layouts(shape: tuple[int, ...]) -> list[str]:
    """Plausible readings of an array's shape, in words."""
    found = []
    if len(shape) == 3:
        found.append("{0} gray images of {2} x {1}".format(*shape))
        if shape[2] in (3, 4) and min(shape[:2]) >= LEAST_SIDE:
            found.append("one image (h, w, c) of {1} x {0} in colour".format(*shape))
        if shape[0] in (3, 4) and min(shape[1:]) >= LEAST_SIDE:
            found.append("one image (c, h, w) of {2} x {1} in colour".format(*shape))
    if len(shape) == 4:
        if shape[3] in (1, 3, 4) and min(shape[1:3]) >= shape[3]:
            found.append("{0} images (h, w, c) of {2} x {1} with {3} channels".format(*shape))
        if shape[1] in (1, 3, 4) and min(shape[2:]) >= shape[1]:
            found.append("{0} images (c, h, w) of {3} x {2} with {1} channels".format(*shape))
    return found
