"""Plain nn.Modules, chosen by class_path in a config."""

from novum.lightning_modules.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from novum.lightning_modules.networks.maxout import Maxout, MaxoutDiscriminator, MaxoutGenerator
from novum.lightning_modules.networks.stylegan import StyleGANGenerator
from novum.lightning_modules.networks.stylegan_discriminator import StyleGANDiscriminator

__all__ = [
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Maxout",
    "MaxoutDiscriminator",
    "MaxoutGenerator",
    "StyleGANDiscriminator",
    "StyleGANGenerator",
]
