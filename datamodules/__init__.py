"""Where data comes from; nothing about models."""

from novum.datamodules.images import ImageDataModule

__all__ = ["ImageDataModule"]
