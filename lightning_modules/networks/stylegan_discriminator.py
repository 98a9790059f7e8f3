"""The discriminators of StyleGAN: residual, with images at every resolution, or plain."""

import math

import torch
from torch import Tensor, nn

from novum.core.errors import check_at_least
from novum.core.precision import widened
from novum.lightning_modules.networks.stylegan_generator import (
    Architecture,
    Size,
    pyramid,
)
from novum.lightning_modules.networks.stylegan_ops import (
    EqualConv2d,
    EqualLinear,
    downsample2d,
    normalize_second_moment,
)


class DiscriminatorBlock(nn.Module):
    """Two convolutions, the second of which halves the size; residual or not."""

    def __init__(self, c_in: int, c_out: int, residual: bool) -> None:
        super().__init__()
        gain = math.sqrt(0.5) if residual else 1.0
        self.first = EqualConv2d(c_in, c_in, 3)
        self.down = EqualConv2d(c_in, c_out, 3, down=True, gain=gain)
        self.skip = None
        if residual:
            self.skip = EqualConv2d(c_in, c_out, 1, down=True, linear=True, gain=gain)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(self.first(x))
        return y if self.skip is None else y + self.skip(x)


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """x (b, c, h, w) -> (b, 1, h, w): mean standard deviation within groups (Karras et al., 2018).

    A batch that `group` does not divide is cut into the largest groups that do.
    """
    b, c, h, w = x.shape
    size = math.gcd(b, group)
    y = widened(x).reshape(size, -1, c, h, w)  # images i, i + b/size, ... form a group
    y = (y - y.mean(0)).square().mean(0)
    deviation = (y + 1e-8).sqrt().mean((1, 2, 3))  # (b / size,)
    return deviation.to(x.dtype).repeat(size)[:, None, None, None].expand(b, 1, h, w)


class StyleGANDiscriminator(nn.Module):
    """Images (b, channels, h, w) in [-1, 1] -> logits (b,).

    Args:
        image_size: Height and width in pixels, one number or two.
        channels: 1 for gray, 3 for RGB, 4 for RGBA.
        width: Feature maps at full size; each coarser resolution has twice as many.
        max_width: Upper limit of the feature maps at any resolution.
        num_classes: More than 0: class-conditional, by projection (Miyato & Koyama, 2018).
        architecture: residual, skip (images enter at every resolution), or original.
        group: Images whose common standard deviation is a feature (0: none).
    """

    def __init__(
        self,
        image_size: int | Size = 32,
        channels: int = 3,
        width: int = 512,
        max_width: int = 512,
        num_classes: int = 0,
        architecture: Architecture = "residual",
        group: int = 4,
    ) -> None:
        super().__init__()
        check_at_least(0, group=group, num_classes=num_classes)
        check_at_least(1, channels=channels)
        levels = pyramid(image_size, width, max_width)[::-1]
        widths = [c for _, c in levels]
        self.num_classes, self.group = num_classes, group
        entries = widths if architecture == "skip" else widths[:1]
        self.from_image = nn.ModuleList(EqualConv2d(channels, c, 1) for c in entries)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(a, b, architecture == "residual")
            for a, b in zip(widths, widths[1:], strict=False)
        )
        (h, w), c = levels[-1]
        self.last = EqualConv2d(c + (1 if group else 0), c, 3)
        self.dense = EqualLinear(c * h * w, c, activate=True)
        self.score = EqualLinear(c, c if num_classes else 1)
        self.classes = nn.Parameter(torch.randn(num_classes, c)) if num_classes else None
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        x = self.from_image[0](images)
        for i, block in enumerate(self.blocks, 1):
            x = block(x)
            if len(self.from_image) > 1:
                images = downsample2d(images)
                x = x + self.from_image[i](images)
        if self.group:
            x = torch.cat([x, minibatch_deviation(x, self.group)], dim=1)
        features = self.score(self.dense(self.last(x).flatten(1)))
        if self.classes is None:
            return features.flatten()
        directions = normalize_second_moment(self.classes)[labels]
        return (features * directions).sum(1) / math.sqrt(features.shape[1])

    def freeze(self, layers: int) -> None:
        """Fixes the `layers` highest resolutions (Freeze-D: Mo et al., 2020)."""
        for part in [*self.from_image[:layers], *self.blocks[:layers]]:
            part.requires_grad_(False)
