"""DataModules; they know nothing about models."""

from typing import TYPE_CHECKING

from novum.core.lazy import lazy_exports

if TYPE_CHECKING:
    from novum.datamodules.images import ImageDataModule
    from novum.datamodules.single_image import SingleImageDataModule
    from novum.datamodules.style_images import StyleImageDataModule
    from novum.datamodules.text import TextDataModule

__getattr__, __dir__ = lazy_exports(__name__, __file__)

__all__ = [
    "ImageDataModule",
    "SingleImageDataModule",
    "StyleImageDataModule",
    "TextDataModule",
]
