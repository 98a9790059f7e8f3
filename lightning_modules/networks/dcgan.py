"""DCGAN (Radford et al., 2016, arXiv:1511.06434) for any power of two from 8 to 256 px."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from novum.core.errors import InputError, check_at_least

SIZES = tuple(2**i for i in range(3, 9))


def _num_blocks(image_size: int) -> int:
    if image_size not in SIZES:
        raise InputError(
            f"image_size is {image_size}, but DCGAN takes a power of two from {SIZES[0]} to"
            f" {SIZES[-1]}; set data.image_size to one of {', '.join(map(str, SIZES))}"
        )
    return int(math.log2(image_size)) - 2  # each block doubles or halves 4x4


def _initialise(module: nn.Module) -> None:
    """Weights N(0, 0.02), batch-norm scales N(1, 0.02), biases 0, as published."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


class DCGANGenerator(nn.Module):
    """z (b, latent_dim) -> images (b, channels, image_size, image_size) in [-1, 1].

    Args:
        image_size: Height and width in pixels, a power of two from 8 to 256.
        channels: 1 for gray, 3 for RGB.
        latent_dim: Dimensions of z, which is standard normal.
        width: Feature maps before the last layer; each coarser resolution has twice as many.
        max_width: Upper limit of the feature maps at any resolution.
        num_classes: More than 0: class-conditional, by an embedding joined to z.
        spectral_norm: Normalise every layer's weight (Miyato et al., 2018).
    """

    def __init__(
        self,
        image_size: int = 32,
        channels: int = 3,
        latent_dim: int = 128,
        width: int = 64,
        max_width: int = 512,
        num_classes: int = 0,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "latent_dim": latent_dim}
        check_at_least(1, **sizes, width=width, max_width=max_width)
        check_at_least(0, num_classes=num_classes)
        blocks = _num_blocks(image_size)
        widths = [min(width * 2**i, max_width) for i in reversed(range(blocks))]
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.embedding = nn.Embedding(num_classes, latent_dim) if num_classes else None
        self.project = nn.ConvTranspose2d(
            latent_dim * (2 if num_classes else 1), widths[0], 4, bias=False
        )
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for c_in, c_out in zip(widths, widths[1:], strict=False):
            layers += [
                nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(c_out),
                nn.ReLU(inplace=True),
            ]
        layers.append(nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1))
        self.layers = nn.Sequential(*layers, nn.Tanh())
        self.apply(_initialise)
        if spectral_norm:
            _apply_spectral_norm(self)
        self.to(memory_format=torch.channels_last)  # a sixth faster on CPUs

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], dim=1)
        return self.layers(self.project(z[:, :, None, None]))  # (b, w, 4, 4) -> (b, c, h, w)


class DCGANDiscriminator(nn.Module):
    """Images (b, channels, image_size, image_size) in [-1, 1] -> logits (b,).

    Args:
        image_size: Height and width in pixels, a power of two from 8 to 256.
        channels: 1 for gray, 3 for RGB.
        width: Feature maps after the first layer; each coarser resolution has twice as many.
        max_width: Upper limit of the feature maps at any resolution.
        num_classes: More than 0: class-conditional, by projection (Miyato & Koyama, 2018).
        batch_norm: Batch normalisation on all layers but the first; gradient penalties and
            spectral norm go better without.
        spectral_norm: Normalise every layer's weight (Miyato et al., 2018).
    """

    def __init__(
        self,
        image_size: int = 32,
        channels: int = 3,
        width: int = 64,
        max_width: int = 512,
        num_classes: int = 0,
        batch_norm: bool = True,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        check_at_least(1, channels=channels, width=width, max_width=max_width)
        check_at_least(0, num_classes=num_classes)
        blocks = _num_blocks(image_size)
        widths = [min(width * 2**i, max_width) for i in range(blocks)]
        layers: list[nn.Module] = []
        for i, (c_in, c_out) in enumerate(zip([channels, *widths], widths, strict=False)):
            normalise = batch_norm and i > 0
            layers.append(nn.Conv2d(c_in, c_out, 4, stride=2, padding=1, bias=not normalise))
            layers += [nn.BatchNorm2d(c_out)] if normalise else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(*layers)
        self.score = nn.Conv2d(widths[-1], 1, 4)
        self.num_classes = num_classes
        self.embedding = nn.Embedding(num_classes, widths[-1]) if num_classes else None
        self.apply(_initialise)
        if spectral_norm:
            _apply_spectral_norm(self)
        self.to(memory_format=torch.channels_last)  # a sixth faster on CPUs

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        h = self.layers(images)  # (b, w, 4, 4)
        logits = self.score(h).flatten()
        if self.embedding is not None:
            logits = logits + (self.embedding(labels) * h.sum((2, 3))).sum(1)
        return logits


def _apply_spectral_norm(network: nn.Module) -> None:
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            with_spectral_norm(module)
        elif isinstance(module, nn.ConvTranspose2d):
            with_spectral_norm(module, dim=1)  # its output channels are the second axis
