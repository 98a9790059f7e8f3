"""Content and style images, and the masks that say which style goes where."""

from collections.abc import Iterable
from itertools import count
from pathlib import PurePath

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from novum.core.errors import InputError
from novum.datamodules.dataloaders import Batches, CountedBatches
from novum.datamodules.single_image import read_image
from novum.datamodules.sources.image_sources import ImageArray


class StyleImageDataModule(LightningDataModule):
    """Images of a style transfer: contents, and the styles of other images.

    One content takes all styles, blended by their weights or each within its mask. Several contents
    are done at once, each with the style of the same number (or all with the only one).

    Args:
        contents: Paths, or china.jpg and flower.jpg (scikit-learn's); all of one shape.
        styles: Likewise; of any shape.
        style_weights: Share of each style in a blend; null: equal.
        masks: One gray image per style, white where it goes, each of the content's shape; null: all
            styles everywhere.
        size: Longer side of the result in px; null: that of the content.
        seed: Of an image that is noise.
    """

    def __init__(
        self,
        contents: list[str],
        styles: list[str],
        style_weights: list[float] | None = None,
        masks: list[str] | None = None,
        size: int | None = 512,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not contents or not styles:
            raise InputError("style transfer needs at least one of contents and one of styles")
        self.content_names, self.style_names = contents, styles
        self.contents = torch.stack(_of_one_shape(contents, size, seed))
        self.styles = [read_image(style, seed=seed) for style in styles]
        n, k = len(contents), len(styles)
        if n > 1 and k not in (1, n):
            raise InputError(
                f"there are {n} contents and {k} styles: give one style, or one for each content"
            )
        self.style_weights = _shares(style_weights, k)
        self.masks = None if masks is None else self._read_masks(masks, size)

    def __str__(self) -> str:
        return f"{', '.join(self.content_names)} in the style of {', '.join(self.style_names)}"

    def _read_masks(self, masks: list[str], size: int | None) -> Tensor:
        """float (k, 1, h, w) in [0, 1]."""
        if len(masks) != len(self.styles) or len(self.contents) > 1:
            raise InputError(
                f"there are {len(masks)} masks for {len(self.styles)} styles and"
                f" {len(self.contents)} contents: give one content, and a mask for each style"
            )
        original = read_image(self.content_names[0]).shape[-2:]
        for mask in masks:
            shape = read_image(mask).shape[-2:]
            if shape != original:
                raise InputError(
                    f"the mask {mask} is {shape[1]} x {shape[0]} px, its content"
                    f" {self.content_names[0]} is {original[1]} x {original[0]}: make them the same"
                )
        pixels = torch.stack([read_image(mask, size) for mask in masks])
        shares = pixels.float().mean(1, keepdim=True) / 255
        empty = [mask for mask, share in zip(masks, shares, strict=True) if not share.max() > 0]
        if empty:
            raise InputError(f"the mask {empty[0]} is black: its style would go nowhere")
        return shares

    @property
    def titles(self) -> list[str]:
        """content-style, for file names."""
        styles = [PurePath(name).stem for name in self.style_names]
        contents = [PurePath(name).stem for name in self.content_names]
        if len(contents) == 1:
            return [f"{contents[0]}-{'-'.join(styles)}"]
        styles = styles * (len(contents) // len(styles))
        return [f"{i}-{c}-{s}" for i, (c, s) in enumerate(zip(contents, styles, strict=True))]

    def sources(self) -> dict[str, Tensor]:
        """Every image that went in, uint8 (3, h, w) by its name."""
        named = zip(self.content_names, self.contents, strict=True)
        return dict(named) | dict(zip(self.style_names, self.styles, strict=True))

    def fingerprints(self) -> dict[str, str]:
        """Fingerprint of each image that goes in: what a result depends on besides the config."""
        return {name: ImageArray(x[None]).fingerprint for name, x in self.sources().items()}

    def train_reference(self) -> ImageArray:
        """The contents; they are what results are compared with."""
        return ImageArray(self.contents, ids=self.content_names)

    def train_dataloader(self) -> Iterable[int]:
        return Batches(count)  # endless: the module knows when it is done

    def val_dataloader(self) -> Iterable[int]:
        return CountedBatches(lambda: iter((0,)), 1)  # when callbacks look at the image

    test_dataloader = val_dataloader


def _of_one_shape(names: list[str], size: int | None, seed: int) -> list[Tensor]:
    images = [read_image(name, size, seed) for name in names]
    for name, image in zip(names, images, strict=True):
        if image.shape != images[0].shape:
            (_, h, w), (_, first_h, first_w) = image.shape, images[0].shape
            raise InputError(
                f"{name} is {w} x {h} px, {names[0]} is {first_w} x {first_h}: contents that are"
                " done at once have one shape; crop them, or run one after the other"
            )
    return images


def _shares(weights: list[float] | None, count: int) -> list[float]:
    weights = [1.0] * count if weights is None else weights
    if len(weights) != count or min(weights) < 0 or not sum(weights) > 0:
        raise InputError(
            f"style_weights are {weights} for {count} styles: give one for each, none below 0 and"
            " not all 0"
        )
    return [weight / sum(weights) for weight in weights]
