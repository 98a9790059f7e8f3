"""Where data comes from; nothing about models."""

from novum.datamodules.images import ImageDataModule
from novum.datamodules.single_image import SingleImageDataModule
from novum.datamodules.style_images import StyleImageDataModule
from novum.datamodules.text import TextDataModule

__all__ = ["ImageDataModule", "SingleImageDataModule", "StyleImageDataModule", "TextDataModule"]
