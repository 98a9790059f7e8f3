"""Generators of StyleGAN (Karras et al., 2019, arXiv:1812.04948; 2020, arXiv:1912.04958)."""

import math
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novum.core.errors import InputError, check_at_least
from novum.core.precision import widened
from novum.lightning_modules.networks.stylegan_ops import (
    EqualConv2d,
    EqualLinear,
    bias_act,
    conv2d,
    instance_norm,
    modulated_conv2d,
    normalize_second_moment,
    upsample2d,
)

MEAN_OF = 1024  # latents of a class
Size = tuple[int, int]  # height, width
Architecture = Literal["skip", "residual", "original"]


def pyramid(image_size: int | Size, width: int, max_width: int) -> list[tuple[Size, int]]:
    """(height, width) and channels of each level, coarsest first; the shorter side starts at 4-7.

    Raises:
        InputError: If the sides cannot both be halved down to there.
    """
    check_at_least(1, width=width, max_width=max_width)
    h, w = (image_size, image_size) if isinstance(image_size, int) else image_size
    halvings = int(math.log2(min(h, w) / 4)) if min(h, w) >= 8 else 0
    if halvings == 0 or h % 2**halvings or w % 2**halvings:
        raise InputError(
            f"image_size is {image_size}, but StyleGAN halves both sides until the shorter one has"
            " 4 to 7 pixels: take multiples of a power of two, such as 32, 48 or [64, 48]"
        )
    return [((h >> i, w >> i), min(width << i, max_width)) for i in reversed(range(halvings + 1))]


class Mapping(nn.Module):
    """z (b, latent_dim)[, labels (b,)] -> w (b, w_dim): normalised, then `layers` dense layers."""

    def __init__(self, latent_dim: int, w_dim: int, num_classes: int, layers: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.embedding = EqualLinear(num_classes, w_dim) if num_classes else None
        first = latent_dim + (w_dim if num_classes else 0)
        self.layers = nn.Sequential(
            *(
                # a hundredth of the learning rate: w moves with all of these layers
                EqualLinear(first if i == 0 else w_dim, w_dim, activate=True, lr_multiplier=0.01)
                for i in range(layers)
            )
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        z = normalize_second_moment(z)
        if self.embedding is not None:
            assert labels is not None  # of a class-conditional network
            one_hot = F.one_hot(labels, self.num_classes).to(z.dtype)
            z = torch.cat([z, normalize_second_moment(self.embedding(one_hot))], dim=1)
        return self.layers(z)


class StyleLayer(nn.Module):
    """Modulated convolution, noise, biased activation (2020): x (b, c, h, w), w (b, w_dim)."""

    def __init__(self, c_in: int, c_out: int, size: Size, w_dim: int, up: bool = False) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, c_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(c_out, c_in, 3, 3))
        self.scale, self.up = 1 / math.sqrt(c_in * 9), up
        self.noise = Noise(size)
        self.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = modulated_conv2d(x, self.weight, self.affine(w), gain=self.scale, up=self.up)
        return bias_act(self.noise(x), self.bias)


class AdaINLayer(nn.Module):
    """Convolution, noise, biased activation, then the style's mean and scale (2019, eq. 1)."""

    def __init__(self, c_in: int, c_out: int, size: Size, w_dim: int, up: bool = False) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, 2 * c_out)
        self.weight = nn.Parameter(torch.randn(c_out, c_in, 3, 3))
        self.scale, self.up = 1 / math.sqrt(c_in * 9), up
        self.noise = Noise(size, c_out)
        self.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = conv2d(x, self.weight * self.scale, up=self.up)
        x = instance_norm(bias_act(self.noise(x), self.bias))
        scale, mean = self.affine(w).to(x.dtype)[:, :, None, None].chunk(2, dim=1)
        return x * (scale + 1) + mean


class Noise(nn.Module):
    """Adds noise to each pixel: fresh in training, one fixed picture in evaluation."""

    fixed: Tensor

    def __init__(self, size: Size, channels: int = 1) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels, 1, 1))  # of one channel: of all alike
        self.register_buffer("fixed", torch.randn(1, 1, *size))

    def forward(self, x: Tensor) -> Tensor:
        noise = self.fixed
        if self.training:
            noise = torch.randn(len(x), 1, *self.fixed.shape[2:], device=x.device, dtype=x.dtype)
        return x + noise.to(x.dtype) * self.strength.to(x.dtype)


class ToImage(nn.Module):
    """x (b, c, h, w) -> (b, channels, h, w): a 1x1 convolution, modulated (2020) or not (2019)."""

    def __init__(self, c_in: int, channels: int, w_dim: int, modulated: bool) -> None:
        super().__init__()
        self.affine = EqualLinear(w_dim, c_in, bias=1.0) if modulated else None
        self.weight = nn.Parameter(torch.randn(channels, c_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = 1 / math.sqrt(c_in)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        if self.affine is None:
            x = conv2d(x, self.weight * self.scale)
        else:
            style = self.affine(w)
            x = modulated_conv2d(x, self.weight, style, gain=self.scale, demodulate=False)
        return x + self.bias.to(x.dtype).view(1, -1, 1, 1)


class GeneratorBlock(nn.Module):
    """One resolution: a layer that doubles the size (none in the first block), and one more."""

    def __init__(
        self,
        layer: type[StyleLayer] | type[AdaINLayer],
        c_in: int,
        c_out: int,
        size: Size,
        w_dim: int,
        architecture: Architecture,
        first: bool,
    ) -> None:
        super().__init__()
        self.up = None if first else layer(c_in, c_out, size, w_dim, up=True)
        self.layer = layer(c_out, c_out, size, w_dim)
        residual = architecture == "residual" and not first
        self.skip = EqualConv2d(c_in, c_out, 1, up=True, linear=True) if residual else None
        self.num_styles = 1 if first else 2

    def forward(self, x: Tensor, ws: Tensor) -> Tensor:
        y = x if self.up is None else self.up(x, ws[:, 0])
        y = self.layer(y, ws[:, self.num_styles - 1])
        return y if self.skip is None else (y + self.skip(x)) * math.sqrt(0.5)


class Synthesis(nn.Module):
    """Styles ws (b, num_styles, w_dim) -> images (b, channels, h, w), from a learnt constant."""

    def __init__(
        self,
        levels: list[tuple[Size, int]],
        channels: int,
        w_dim: int,
        modulation: Literal["weights", "adain"],
        architecture: Architecture,
    ) -> None:
        super().__init__()
        layer = StyleLayer if modulation == "weights" else AdaINLayer
        (h, w), c_in = levels[0]
        self.constant = nn.Parameter(torch.randn(1, c_in, h, w))
        self.blocks = nn.ModuleList()
        for i, (size, c) in enumerate(levels):
            self.blocks.append(GeneratorBlock(layer, c_in, c, size, w_dim, architecture, i == 0))
            c_in = c
        exits = levels if architecture == "skip" else levels[-1:]
        modulated = modulation == "weights"
        self.to_image = nn.ModuleList(ToImage(c, channels, w_dim, modulated) for _, c in exits)
        self.num_styles = sum(block.num_styles for block in self.levels()) + 1

    def levels(self) -> list[GeneratorBlock]:
        """Blocks, coarsest first."""
        return cast("list[GeneratorBlock]", list(self.blocks))

    def forward(self, ws: Tensor) -> Tensor:
        x = self.constant.expand(len(ws), -1, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        image, first, used = None, len(self.blocks) - len(self.to_image), 0
        for i, block in enumerate(self.levels()):
            x = block(x, ws[:, used:])
            used += block.num_styles
            if i >= first:  # shares its style with the next block's first layer
                own = self.to_image[i - first](x, ws[:, used])
                image = own if image is None else upsample2d(image) + own
        assert image is not None  # the last block has an exit
        return widened(image)


class StyleGANGenerator(nn.Module):
    """z (b, latent_dim) -> w -> images (b, channels, h, w), about in [-1, 1].

    Args:
        image_size: Height and width in pixels, one number or two; the shorter is halved to 4-7.
        channels: 1 for gray, 3 for RGB, 4 for RGBA.
        latent_dim: Dimensions of z, which is standard normal.
        w_dim: Dimensions of w.
        width: Feature maps at full size; each coarser resolution has twice as many.
        max_width: Upper limit of the feature maps at any resolution.
        num_classes: More than 0: class-conditional, by an embedding joined to z.
        mapping_layers: From z to w; 8 as published, 2 for small images.
        modulation: weights, normalised, of 2020; or adain, of 2019.
        architecture: How images leave: skip (summed over resolutions), residual, or original.
    """

    mean_w: Tensor

    def __init__(
        self,
        image_size: int | Size = 32,
        channels: int = 3,
        latent_dim: int = 512,
        w_dim: int = 512,
        width: int = 512,
        max_width: int = 512,
        num_classes: int = 0,
        mapping_layers: int = 8,
        modulation: Literal["weights", "adain"] = "weights",
        architecture: Architecture = "skip",
    ) -> None:
        super().__init__()
        check_at_least(
            1, channels=channels, latent_dim=latent_dim, w_dim=w_dim, mapping_layers=mapping_layers
        )
        check_at_least(0, num_classes=num_classes)
        levels = pyramid(image_size, width, max_width)
        self.image_size = levels[-1][0]
        self.latent_dim, self.w_dim, self.num_classes = latent_dim, w_dim, num_classes
        self.mapping = Mapping(latent_dim, w_dim, num_classes, mapping_layers)
        self.synthesis = Synthesis(levels, channels, w_dim, modulation, architecture)
        self.num_styles = self.synthesis.num_styles
        self.register_buffer("mean_w", torch.zeros(w_dim))
        self.to(memory_format=torch.channels_last)

    def map(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The same w for each layer: (b, num_styles, w_dim)."""
        return self.mapping(z, labels)[:, None].expand(-1, self.num_styles, -1)

    @torch.no_grad()
    def track_mean(self, w: Tensor, rate: float = 0.005) -> None:
        """Moves the running mean that truncation pulls towards to a batch's mean w (w_dim,)."""
        self.mean_w.lerp_(w.to(self.mean_w.dtype), rate)

    def class_means(self, classes: Tensor | None = None) -> Tensor:
        """Mean w (k, w_dim) of classes (k,), or of all, over the same latents."""
        random = torch.Generator().manual_seed(0)
        z = torch.randn(MEAN_OF, self.latent_dim, generator=random).to(self.mean_w)
        wanted = torch.arange(self.num_classes, device=z.device) if classes is None else classes
        means = [self.map(z, label.expand(MEAN_OF))[:, 0].mean(0) for label in wanted]
        return torch.stack(means)

    def truncate(
        self, ws: Tensor, psi: float, cutoff: int | None = None, means: Tensor | None = None
    ) -> Tensor:
        """Styles before layer `cutoff` (all without one) pulled towards a mean: the mean at psi 0.

        Args:
            ws: Styles (n, num_styles, w_dim).
            psi: 1 leaves them.
            cutoff: The first layer that is left as it is.
            means: One for each (n, w_dim), such as that of its class; null: that of all.
        """
        mean = self.mean_w if means is None else means[:, None]
        near = torch.lerp(mean.to(ws.dtype).expand_as(ws), ws, psi)
        return near if cutoff is None else torch.cat([near[:, :cutoff], ws[:, cutoff:]], dim=1)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.synthesis(self.map(z, labels))
