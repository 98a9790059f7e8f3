"""Any image file or array becomes uint8 tensors of a fixed size and 1 or 3 channels."""

import hashlib
import io
import itertools
import math
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.utils.data import get_worker_info

from novum.core.errors import InputError, first_line
from novum.core.files import open_regular, read_blocks, read_regular
from novum.core.memory import Budget, available_bytes
from novum.datamodules.sources.suffixes import AVIF

# No others: EPS would start Ghostscript, and many a decoder is hardly tried on hostile files.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", *["AVIF"] * AVIF)

# PIL only warns between its pixel limit and twice that; `open_untrusted` refuses such an image.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

MOST_BYTES = 1 << 30  # of an image's file; 89 million pixels of 64 bits have fewer
TIFF_TILE = 322, 323  # tags of a tile's width and height
MOST_SCANS = 100  # of a progressive JPEG, where each takes its time; usual are 10 ...
MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485  # PIL's limit
MOST_SCANNED = 20 * MOST_PIXELS  # ... and of their pixels
MOST_FRAMES = 10_000  # of a file
REDUCED, SECOND_VIEWS = "smaller copies or masks of a page", "depth maps or second views"
REDUCED_PAGE = 254  # TIFF tag: 1 for a smaller copy of another page, 4 for its mask
MOST_DIGITS = 1 << 26  # bytes of pixels spelt out in a PPM, read by slow Python code
FREE_BYTES = 1 << 24  # images that need no more are decoded without waiting
BAND = 1 << 20  # pixels that are converted at once


class TooLarge(int):
    """Oversized image placeholder: its number of bytes, more than MOST_BYTES."""


@dataclass(frozen=True)
class Frame:
    """One image of a file that holds several: a frame of a GIF, a page of a TIFF."""

    data: bytes | Path
    number: int  # from 0


File = bytes | Path | TooLarge
Encoded = File | np.ndarray | Frame  # what a row of a data set is before decoding


class Page(NamedTuple):
    """An image as it is stored, as far as the header tells."""

    mode: str  # of PIL; empty if unknown
    width: int
    height: int

    @property
    def channels(self) -> int:
        """1 for gray, 3 for any other."""
        return 1 if self.mode in ("1", "L", "LA", "La") or self.mode.startswith("I") else 3


class Header(NamedTuple):
    """Images of a file, and how many of its frames are none, by the reason."""

    pages: dict[int, Page]  # by the number of the frame
    left_out: dict[str, int]


@dataclass(frozen=True)
class ImageTransform:
    """Centre square of an image, resized to `size`, gray or RGB; the same for every source."""

    size: int
    channels: int

    @property
    def spec(self) -> str:
        """Settings that the pixels depend on beside the file; part of every fingerprint."""
        return (
            f"exif, 16 bit / 257, alpha on white, {'gray' if self.channels == 1 else 'rgb'}, "
            f"centre crop, PIL lanczos to {self.size}"
        )

    def __call__(self, data: Encoded) -> Tensor:
        with decoded(data) as image:
            image = to_gray_or_rgb(image, self.channels)
            square = (self.size, self.size)
            if image.size != square:
                # One call crops the centre square and resizes it: no huge strip for a
                # 1 x 60000 image.
                image = ImageOps.fit(image, square, Image.Resampling.LANCZOS)
            pixels = torch.from_numpy(np.array(image))
        return pixels[None] if self.channels == 1 else pixels.permute(2, 0, 1)  # (c, h, w)


def _share_of_memory() -> int:
    """Memory that threads may decode into: half of what is free, divided among processes that do
    the same."""
    worker = get_worker_info()
    processes = (worker.num_workers if worker else 1) * int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return available_bytes() // (2 * processes)


_memory = Budget(_share_of_memory)
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork either
    os.register_at_fork(after_in_child=_memory.reset)


@contextmanager
def decoded(data: Encoded) -> Iterator[Image.Image]:
    """A decoded PIL image, turned upright by its EXIF orientation.

    All threads together stay within memory as long as they keep such images in the context only.
    """
    if isinstance(data, np.ndarray):
        yield Image.fromarray(data)
        return
    data, number = (data.data, data.number) if isinstance(data, Frame) else (data, 0)
    size = _size(data)
    if size > MOST_BYTES:
        raise InputError(f"{size:,} bytes, more than an image may have")
    if isinstance(data, Path) and size > FREE_BYTES:
        with open_regular(data) as file:
            needed = size + peak_bytes(_opened(file, number))
        with _held(needed):
            yield _upright(_opened(io.BytesIO(as_bytes(data)), number), number)
    elif number:
        image = _in_sequence(data, number)
        with _held(peak_bytes(image)):
            yield _upright(image, number)
    else:
        image = open_untrusted(io.BytesIO(as_bytes(data)))
        with _held(peak_bytes(image)):
            yield _upright(image)


def _opened(file: IO[bytes], number: int) -> Image.Image:
    """An image at a page, whose size is its own; other formats' frames have that of the first."""
    image = open_untrusted(file)
    if number and image.format == "TIFF":
        image.seek(number)
        _require_few_pixels(image)
    return image


_last = threading.local()  # small file of frames that this thread decoded last, and from where on


def _in_sequence(data: File, number: int) -> Image.Image:
    """A file of frames to go on in: from the first, each would decode all those before it."""
    key = (str(data), data.stat().st_mtime_ns) if isinstance(data, Path) else id(data)
    known = getattr(_last, "file", None)
    if known and known[0] == key and known[2].tell() < number:
        return known[2]
    image = _opened(io.BytesIO(as_bytes(data)), number)
    small = peak_bytes(image) <= FREE_BYTES
    _last.file = (key, data, image) if small else None  # with the data, whose id is the key
    return image


@contextmanager
def _held(size: int) -> Iterator[None]:
    if size <= FREE_BYTES:
        yield
    else:
        with _memory.hold(size):
            yield


def open_image(data: Encoded) -> Image.Image:
    """`decoded`, for one image that is kept."""
    with decoded(data) as image:
        return image


def _upright(image: Image.Image, number: int = 0) -> Image.Image:
    _require_quick(image)
    if number:
        image.seek(number)
        image = image.copy()  # decodes; the next frame builds on the image itself
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _require_quick(image: Image.Image) -> None:
    """Raise ValueError for what cannot be used, or takes far longer than its pixels should."""
    if image.mode == "F":
        raise InputError("32-bit float pixels have no fixed range; save it with 8 or 16 bits")
    opened: Any = image  # of a format that keeps its file, in memory
    if image.format == "PPM" and opened.tile[0][0] == "ppm_plain":
        if opened.fp.getbuffer().nbytes > MOST_DIGITS:
            raise InputError("a PPM of digits; save it in its binary form, or as PNG")
    if image.info.get("progressive"):
        scans = opened.fp.getvalue().count(b"\xff\xda")
        if scans > MOST_SCANS or scans * image.width * image.height > MOST_SCANNED:
            raise InputError(f"{scans} scans, as in a decompression bomb")


def open_untrusted(file: IO[bytes] | Path, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """A PIL image, refused before it is decoded if it has more than PIL's limit of pixels."""
    if isinstance(file, Path):
        file = io.BytesIO(as_bytes(file))
    image = Image.open(file, formats=formats)
    _require_few_pixels(image)
    return image


def _require_few_pixels(image: Image.Image) -> None:
    pixels = _unpacked_pixels(image)
    if pixels > (Image.MAX_IMAGE_PIXELS or pixels):
        raise Image.DecompressionBombError(f"{pixels} pixels, as in a decompression bomb")


def peak_bytes(image: Image.Image) -> int:
    """At most what decoding an opened image and converting its pixels takes, beside its file."""
    stored = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    beside = {"JPEG": 8, "MPO": 8, "WEBP": 12, "AVIF": 12, "TIFF": 8}.get(
        image.format or "", 4
    )  # the decoder's own, or a copy
    return _unpacked_pixels(image) * (stored + beside)


def _unpacked_pixels(image: Image.Image) -> int:
    """Those of the image, or of a TIFF's tile, which may be far larger."""
    tile = 0
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        sides = (tags.get(tag) for tag in TIFF_TILE)
        tile = math.prod(side if isinstance(side, int) else 0 for side in sides)
    return max(image.width * image.height, tile)


def _size(data: File) -> int:
    if isinstance(data, Path):
        return data.stat().st_size
    return data if isinstance(data, int) else len(data)


def as_bytes(data: Encoded) -> bytes:
    if isinstance(data, np.ndarray):
        return data.tobytes()
    if isinstance(data, Frame):
        data = data.data
    if _size(data) > MOST_BYTES:
        raise InputError(f"{_size(data):,} bytes, more than an image may have")
    if isinstance(data, Path):
        return read_regular(data, MOST_BYTES)
    assert isinstance(data, bytes)  # larger ones were refused above
    return data


def digest(data: Encoded) -> str:
    """Number of bytes and sha256 of an undecoded image; a file is read a part at a time."""
    if isinstance(data, Frame):
        return f"{digest(data.data)} frame {data.number}"
    size, found = 0, hashlib.sha256()
    if isinstance(data, Path) and FREE_BYTES < _size(data) <= MOST_BYTES:
        parts: Iterable[bytes] = read_blocks(data)
    else:
        parts = [as_bytes(data)]
    for part in parts:
        size += len(part)
        found.update(part)
    return f"{size} {found.hexdigest()}"


def to_gray_or_rgb(image: Image.Image, channels: int) -> Image.Image:
    """8 bits, no alpha, no palette: transparent pixels show white, CMYK and the rest become RGB."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and not image.has_transparency_data:
        return image
    if image.width * image.height <= BAND:
        return _flat(image, mode)
    flat = Image.new(mode, image.size)  # a part at a time: copies of the whole would add up
    for box in _boxes(*image.size):
        flat.paste(_flat(image.crop(box), mode), box)
    return flat


def _boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Parts of an image of about BAND pixels."""
    columns = min(width, BAND)
    rows = max(1, BAND // columns)
    for top, left in itertools.product(range(0, height, rows), range(0, width, columns)):
        yield left, top, min(left + columns, width), min(top + rows, height)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = from_16_bit(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return image.convert(mode)


def from_16_bit(image: Image.Image) -> Image.Image:
    """Gray of 16 bits to 8: 65535 / 257 = 255 exactly, where `convert` would clip at 255."""
    pixels = np.asarray(image).astype(np.int64).clip(0, 65535)
    return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))


def read_header(data: Encoded) -> Header:
    """Mode and size of every image of a file, upright, none of them decoded."""
    if isinstance(data, np.ndarray):
        mode = "L" if data.ndim == 2 else {1: "L", 3: "RGB", 4: "RGBA"}[data.shape[-1]]
        return Header({0: Page(mode, data.shape[1], data.shape[0])}, {})
    if isinstance(data, Path):
        if data.stat().st_size > MOST_BYTES:
            raise InputError(f"{data.stat().st_size:,} bytes, more than an image may have")
        with open_regular(data) as file:
            return _pages(open_untrusted(file))
    return _pages(open_untrusted(io.BytesIO(as_bytes(data))))


def _pages(image: Image.Image) -> Header:
    first, beyond = _page(image), f"frames beyond the first {MOST_FRAMES:,}"
    if image.format in ("JPEG", "MPO"):  # of which the first is the picture
        extra = getattr(image, "n_frames", 1) - 1
        return Header({0: first}, {SECOND_VIEWS: extra} if extra else {})
    if image.format == "TIFF":
        return _tiff_pages(image, beyond)
    try:
        found = _count_gif(image) if image.format == "GIF" else getattr(image, "n_frames", 1)
    except Exception:  # decoders raise OSError, SyntaxError, struct.error, ...
        return Header({0: first}, {"animations damaged beyond the first frame": 1})
    pages = dict.fromkeys(range(min(found, MOST_FRAMES)), first)
    return Header(pages, {beyond: found - MOST_FRAMES} if found > MOST_FRAMES else {})


def _count_gif(image: Any) -> int:
    """Frames of a GIF, as `n_frames` counts them, but no more than needed."""
    count = 1
    with suppress(EOFError):
        while count <= MOST_FRAMES:
            image._seek(count, False)
            count += 1
    return count


def _tiff_pages(image: Image.Image, beyond: str) -> Header:
    pages, reduced, left_out = {0: _page(image)}, [], {}
    try:
        for number in range(1, MOST_FRAMES):
            image.seek(number)
            if _is_reduced(image):
                reduced.append(number)
            else:
                pages[number] = _page(image)
        left_out[beyond] = 1
    except EOFError:
        pass
    except Exception:
        left_out["pages of damaged files, from the damage on"] = 1
    if reduced:
        left_out[REDUCED] = len(reduced)
    return Header(pages, left_out)


def _page(image: Image.Image) -> Page:
    known = "exif" in image.info or image.format == "TIFF"
    turned = known and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return Page(image.mode, *(image.size[::-1] if turned else image.size))


def _is_reduced(image: Image.Image) -> bool:
    tags: Any = getattr(image, "tag_v2", {})
    kind = tags.get(REDUCED_PAGE, 0)
    return isinstance(kind, int) and bool(kind & 5)


MAGIC = b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"


def holds_image(file: Path) -> bool:
    """Return True if a file of any name begins like an image of a format that is read."""
    with open_regular(file) as opened:
        start = opened.read(12)
    packed = start[:4] == b"RIFF" and start[8:] == b"WEBP"
    return packed or start.startswith(MAGIC) or start[4:11] == b"ftypavi"


def native_shape(data: Encoded) -> tuple[int, int, int]:
    """(c, h, w) before any resize; c is 1 for a gray image, 3 for any other."""
    with decoded(data) as image:
        return Page(image.mode, *image.size).channels, image.height, image.width


def native_channels(data: Encoded) -> int:
    """1 for a gray image, 3 for any other."""
    return native_shape(data)[0]


def first_channels(images: Iterable[tuple[str, Encoded]], skip_bad: bool) -> int:
    """Channels of the first of these (name, image) pairs that can be read."""
    for name, data in images:
        try:
            return read_header(data).pages[0].channels
        except Exception as error:
            if not skip_bad:
                raise unreadable(name, error) from error
    raise InputError("none of the images can be read")


def unreadable(name: str, error: Exception) -> InputError:
    """Error for an image that cannot be decoded."""
    return InputError(
        f"{name}: not a readable image ({first_line(error)}); mend or remove it, or skip such"
        " images (on_bad_image: skip; evaluate.py: --on-bad-image skip)"
    )
