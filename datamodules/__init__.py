"""Where data comes from; nothing about models."""

from novum.datamodules.images import ImageDataModule
from novum.datamodules.single_image import SingleImageDataModule

__all__ = ["ImageDataModule", "SingleImageDataModule"]
