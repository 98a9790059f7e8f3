"""Where data comes from; nothing about models."""

from novum.datamodules.images import ImageDataModule
from novum.datamodules.text import TextDataModule

__all__ = ["ImageDataModule", "TextDataModule"]
