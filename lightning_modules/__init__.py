"""Techniques: each a LightningModule in a file of its own."""

from novum.lightning_modules.augment import DiffAugment
from novum.lightning_modules.char_lstm import CharLSTM
from novum.lightning_modules.class_visualisation import ClassVisualisation
from novum.lightning_modules.deep_dream import DeepDream
from novum.lightning_modules.gan import GAN

__all__ = ["GAN", "CharLSTM", "ClassVisualisation", "DeepDream", "DiffAugment"]
