"""Where data comes from; nothing about models."""

from novum.datamodules.images import ImageDataModule
from novum.datamodules.single_image import SingleImageDataModule
from novum.datamodules.style_images import StyleImageDataModule

__all__ = ["ImageDataModule", "SingleImageDataModule", "StyleImageDataModule"]
