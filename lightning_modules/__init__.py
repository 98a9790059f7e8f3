"""Techniques: each a LightningModule in a file of its own."""

from typing import TYPE_CHECKING

from novum.core.lazy import lazy_exports

if TYPE_CHECKING:
    from novum.lightning_modules.ada import AdaptiveAugment
    from novum.lightning_modules.adversarial import Adversarial
    from novum.lightning_modules.attacks import L2, PGD, LInf
    from novum.lightning_modules.augment import DiffAugment
    from novum.lightning_modules.char_lstm import CharLSTM
    from novum.lightning_modules.char_transformer import CharTransformer
    from novum.lightning_modules.classifier import Classifier
    from novum.lightning_modules.dreams.class_visualisation import ClassVisualisation
    from novum.lightning_modules.dreams.deep_dream import DeepDream
    from novum.lightning_modules.flow_matching.flow_matching import FlowMatching
    from novum.lightning_modules.flow_matching.processes import EDM, RectifiedFlow
    from novum.lightning_modules.flow_matching.solvers import RK45, Euler, Heun
    from novum.lightning_modules.gan import GAN
    from novum.lightning_modules.style_transfer.style_transfer import StyleTransfer
    from novum.lightning_modules.stylegan.stylegan import StyleGAN

__getattr__, __dir__ = lazy_exports(__name__, __file__)

__all__ = [
    "EDM",
    "GAN",
    "L2",
    "PGD",
    "RK45",
    "AdaptiveAugment",
    "Adversarial",
    "CharLSTM",
    "CharTransformer",
    "ClassVisualisation",
    "Classifier",
    "DeepDream",
    "DiffAugment",
    "Euler",
    "FlowMatching",
    "Heun",
    "LInf",
    "RectifiedFlow",
    "StyleGAN",
    "StyleTransfer",
]
