"""One image as all of the data: what dreams, styles and adversarial examples start from."""

import difflib
from collections.abc import Iterable
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule
from sklearn.datasets import load_sample_image
from torch import Tensor

from novum.core.errors import InputError, first_line
from novum.core.files import check_regular
from novum.core.memory import available_bytes, require_memory
from novum.datamodules.dataloaders import Batches, CountedBatches
from novum.datamodules.sources.decode import decoded, to_gray_or_rgb
from novum.datamodules.sources.image_sources import ImageArray

EMBEDDED = ("china.jpg", "flower.jpg")  # in scikit-learn: 640 x 427
NOISE_SIZE = 512


class SingleImageDataModule(LightningDataModule):
    """One image, and an endless loader of step numbers: each step is one on that image.

    Args:
        image: A path, china.jpg or flower.jpg (scikit-learn's), or noise.
        guide: A second image, for the modules that take one; likewise.
        size: Longer side in px, to which the image is resized; null keeps it (noise: 512).
        guide_size: The same for the guide.
        seed: Of the noise.
    """

    def __init__(
        self,
        image: str = "china.jpg",
        guide: str | None = None,
        size: int | None = None,
        guide_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.source = image_array(image, size, seed)
        self.guide = image_array(guide, guide_size, seed) if guide else None

    def __str__(self) -> str:
        """Lightning's own wants DataLoaders; jsonargparse prints it while it links arguments."""
        return f"{type(self).__name__} of {', '.join(self.fingerprints())}"

    def train_reference(self) -> ImageArray:
        """The image; it is what a result is compared with."""
        return self.source

    def guide_reference(self) -> ImageArray | None:
        """The guide, if there is one."""
        return self.guide

    def fingerprints(self) -> dict[str, str]:
        """Name -> digest of the pixels of each image, for the recipe of what is made of them."""
        given = [x for x in (self.source, self.guide) if x is not None]
        return {str(images.ids[0]): images.fingerprint for images in given}

    def train_dataloader(self) -> Iterable[int]:
        return Batches(count)  # endless: the module knows when it is done

    def val_dataloader(self) -> Iterable[int]:
        return CountedBatches(lambda: iter((0,)), 1)  # when callbacks look at the image

    test_dataloader = val_dataloader


def image_array(where: str, size: int | None = None, seed: int = 0) -> ImageArray:
    """`read_image` as a source of one image, named as it was given."""
    return ImageArray(read_image(where, size, seed)[None], ids=[where])


def read_image(where: str, size: int | None = None, seed: int = 0) -> Tensor:
    """uint8 (3, h, w) of any image file: upright, 8 bits, RGB, transparent pixels white.

    Args:
        where: A path; else china.jpg, flower.jpg or noise (uniform, a square).
        size: Longer side in px to which the image is resized (Lanczos); null keeps it.
        seed: Of the noise.
    """
    if size is not None and size < 1:
        raise InputError(f"size is {size}: it must be at least 1 px")
    path = Path(where).expanduser()
    if path.exists() and not path.is_dir():
        check_regular(path)
        return _pixels(_decode(path), size)
    if where in EMBEDDED:
        return _pixels(Image.fromarray(load_sample_image(where)), size)
    if where == "noise":
        side = size or NOISE_SIZE
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (3, side, side), generator=generator).to(torch.uint8)
    near = difflib.get_close_matches(where, (*EMBEDDED, "noise"), 1)
    hint = f"did you mean {near[0]}?" if near else f"or one of {', '.join(EMBEDDED)} and noise"
    raise InputError(f"there is no image {where}: give a path, {hint}")


def _decode(path: Path) -> Image.Image:
    try:
        with decoded(path) as image:
            return to_gray_or_rgb(image, 3)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} is too large ({first_line(error).split(',')[0]}): an image may have"
            f" {Image.MAX_IMAGE_PIXELS} pixels; make it smaller first"
        ) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
        raise InputError(f"{path} is not a readable image ({first_line(error)})") from error


def _pixels(image: Image.Image, size: int | None) -> Tensor:
    if size is not None and size != max(image.size):
        scale = size / max(image.size)
        # Pillow's row of each pass, an array and a tensor
        needed = 12 * image.width * image.height * max(scale, 1.0) ** 2
        fits = int(size * (available_bytes() / needed) ** 0.5)
        require_memory(needed, f"an image of {size} px", f"give a size of {fits} px or less")
        image = image.resize(
            [max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS
        )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
