"""Techniques: each a LightningModule in a file of its own."""

from novum.lightning_modules.attacks import L2, PGD, LInf
from novum.lightning_modules.augment import DiffAugment
from novum.lightning_modules.classifier import Classifier
from novum.lightning_modules.gan import GAN

__all__ = ["GAN", "L2", "PGD", "Classifier", "DiffAugment", "LInf"]
