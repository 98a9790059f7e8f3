"""Techniques: each a LightningModule in a file of its own."""

from novum.lightning_modules.ada import AdaptiveAugment
from novum.lightning_modules.augment import DiffAugment
from novum.lightning_modules.gan import GAN
from novum.lightning_modules.stylegan import StyleGAN

__all__ = ["GAN", "AdaptiveAugment", "DiffAugment", "StyleGAN"]
