"""Plain nn.Modules, chosen by class_path in a config."""

from typing import TYPE_CHECKING

from novum.core.lazy import lazy_exports

if TYPE_CHECKING:
    from novum.lightning_modules.networks.backbones import Backbone
    from novum.lightning_modules.networks.causal_transformer import CausalTransformer
    from novum.lightning_modules.networks.char_rnn import CharRNN
    from novum.lightning_modules.networks.classifiers import FineTuned, SmallCNN, SoftmaxRegression
    from novum.lightning_modules.networks.dcgan import DCGANDiscriminator, DCGANGenerator
    from novum.lightning_modules.networks.dit import DiT
    from novum.lightning_modules.networks.maxout import Maxout, MaxoutDiscriminator, MaxoutGenerator
    from novum.lightning_modules.networks.stylegan_discriminator import StyleGANDiscriminator
    from novum.lightning_modules.networks.stylegan_generator import StyleGANGenerator
    from novum.lightning_modules.networks.unet import UNet

__getattr__, __dir__ = lazy_exports(__name__, __file__)

__all__ = [
    "Backbone",
    "CausalTransformer",
    "CharRNN",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DiT",
    "FineTuned",
    "Maxout",
    "MaxoutDiscriminator",
    "MaxoutGenerator",
    "SmallCNN",
    "SoftmaxRegression",
    "StyleGANDiscriminator",
    "StyleGANGenerator",
    "UNet",
]
