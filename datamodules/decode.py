"""Any image file or array becomes one uint8 tensor of a fixed size and 1 or 3 channels."""

import io
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from novum.errors import first_line

EXTENSIONS = ("bmp", "gif", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp")

# No others: EPS would start Ghostscript, and many a decoder is hardly tried on hostile files.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# PIL only warns between its pixel limit and twice that; `open_untrusted` refuses such an image.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

MOST_BYTES = 1 << 30  # of an image's file; 89 million pixels of 64 bits have fewer


class TooLarge(int):
    """Bytes of an image that was not read, since it has more than MOST_BYTES of them."""


Encoded = bytes | Path | np.ndarray | TooLarge  # what a row of a data set is before decoding


@dataclass(frozen=True)
class ImageTransform:
    """Centre square of an image, resized to `size`, gray or RGB; the same for every source."""

    size: int
    channels: int

    @property
    def spec(self) -> str:
        """All that the pixels depend on beside the file; part of every fingerprint."""
        return (
            f"exif, 16 bit / 257, alpha on white, {'gray' if self.channels == 1 else 'rgb'}, "
            f"centre crop, PIL lanczos to {self.size}"
        )

    def __call__(self, data: Encoded) -> Tensor:
        image = to_gray_or_rgb(open_image(data), self.channels)
        square = (self.size, self.size)
        if image.size != square:
            # One call crops the centre square and resizes it: no huge strip for a 1 x 60000 image.
            image = ImageOps.fit(image, square, Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(image))
        return pixels[None] if self.channels == 1 else pixels.permute(2, 0, 1)  # (c, h, w)


def open_image(data: Encoded) -> Image.Image:
    """A PIL image turned upright by its EXIF orientation."""
    if isinstance(data, np.ndarray):
        return Image.fromarray(data)
    return ImageOps.exif_transpose(open_untrusted(io.BytesIO(as_bytes(data))))


def open_untrusted(file: IO[bytes] | Path, formats: Sequence[str] = FORMATS) -> Image.Image:
    """A PIL image, refused before it is decoded if it has more than PIL's limit of pixels."""
    image = Image.open(file, formats=formats)
    pixels = image.width * image.height
    if pixels > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{pixels} pixels, as in a decompression bomb")
    return image


def as_bytes(data: Encoded) -> bytes:
    size = data.stat().st_size if isinstance(data, Path) else data
    if isinstance(size, int) and size > MOST_BYTES:
        raise ValueError(f"{size:,} bytes, more than an image may have")
    if isinstance(data, Path):
        return data.read_bytes()
    return data.tobytes() if isinstance(data, np.ndarray) else data


def to_gray_or_rgb(image: Image.Image, channels: int) -> Image.Image:
    """8 bits, no alpha, no palette: transparent pixels show white, CMYK and the rest become RGB."""
    if image.mode == "F":
        raise ValueError("32-bit float pixels have no fixed range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = from_16_bit(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def from_16_bit(image: Image.Image) -> Image.Image:
    """Gray of 16 bits to 8: 65535 / 257 = 255 exactly, where `convert` would clip at 255."""
    pixels = np.asarray(image).astype(np.int64).clip(0, 65535)
    return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))


def native_shape(data: Encoded) -> tuple[int, int, int]:
    """(c, h, w) before any resize; c is 1 for a gray image, 3 for any other."""
    image = open_image(data)
    gray = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
    return 1 if gray else 3, image.height, image.width


def native_channels(data: Encoded) -> int:
    """1 for a gray image, 3 for any other."""
    return native_shape(data)[0]


def first_channels(images: Iterable[tuple[str, Encoded]], skip_bad: bool) -> int:
    """`native_channels` of the first of these (name, image) pairs that can be read."""
    for name, data in images:
        try:
            return native_channels(data)
        except Exception as error:
            if not skip_bad:
                raise unreadable(name, error) from error
    raise ValueError("none of the images can be read")


def unreadable(name: str, error: Exception) -> ValueError:
    """What a user needs to know of an image that cannot be decoded."""
    return ValueError(
        f"{name}: not a readable image ({first_line(error)}); "
        "mend or remove it (training can skip it: on_bad_image: skip)"
    )
