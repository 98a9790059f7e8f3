"""U-Net with attention for noisy images (Ho et al., 2020; Dhariwal & Nichol, 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novum.core.errors import InputError, check_at_least
from novum.lightning_modules.networks.conditioning import Conditioning, zero_initialised

GROUP = 8  # channels that are normalised together, at least


def _norm(width: int) -> nn.GroupNorm:
    most = max(1, min(32, width // GROUP))
    return nn.GroupNorm(next(n for n in range(most, 0, -1) if width % n == 0), width)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; time and class scale and shift what is between them."""

    def __init__(self, c_in: int, c_out: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(_norm(c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, padding=1))
        self.modulation = nn.Linear(condition, 2 * c_out)
        self.norm = _norm(c_out)
        self.second = nn.Sequential(
            nn.SiLU(),
            nn.Dropout(dropout),
            zero_initialised(nn.Conv2d(c_out, c_out, 3, padding=1)),
        )
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm(self.first(x)) * (1 + scale) + shift
        return self.skip(x) + self.second(h)


class Attention(nn.Module):
    """Self-attention over all pixels."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.heads = max(1, width // head_width)
        if width % self.heads:
            raise InputError(
                f"head_width is {head_width}: it must divide the {width} feature maps where there"
                " is attention"
            )
        self.norm = _norm(width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = zero_initialised(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).view(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # (b, heads, h * w, c / heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(-1, -2).reshape(b, c, h, w))


class Level(nn.Module):
    """A residual block, with attention at some resolutions."""

    def __init__(
        self, c_in: int, c_out: int, condition: int, dropout: float, head_width: int
    ) -> None:
        super().__init__()
        self.block = ResidualBlock(c_in, c_out, condition, dropout)
        self.attention = Attention(c_out, head_width) if head_width else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.attention(self.block(x, condition))


class UNet(nn.Module):
    """Noisy images (b, c, h, w), times (b,) and labels (b,) -> images of the same shape.

    The last layer begins at zero, and so does what every block adds.

    Args:
        image_size: Height and width in pixels, which each level but the last halves.
        channels: 1 for gray, 3 for RGB.
        num_classes: More than 0: class-conditional; the label `num_classes` is no class.
        width: Feature maps at the first level.
        multipliers: Of the width at each level.
        blocks: Residual blocks of each level on the way down; one more on the way up.
        attention: Resolutions with attention.
        head_width: Feature maps of each head.
        dropout: Share of the feature maps' pixels that is dropped in training.
    """

    def __init__(
        self,
        image_size: int = 32,
        channels: int = 3,
        num_classes: int = 0,
        width: int = 64,
        multipliers: tuple[int, ...] = (1, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (16, 8),
        head_width: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {"image_size": image_size, "channels": channels, "width": width}
        check_at_least(1, **sizes, blocks=blocks, head_width=head_width)
        check_at_least(0, num_classes=num_classes)
        if image_size % 2 ** (len(multipliers) - 1):
            raise InputError(
                f"image_size is {image_size}: {len(multipliers)} multipliers halve it"
                f" {len(multipliers) - 1} times, so give fewer, or another size"
            )
        self.image_size, self.channels, self.num_classes = image_size, channels, num_classes
        condition = 4 * width
        self.condition = Conditioning(condition, num_classes)
        self.first = nn.Conv2d(channels, width, 3, padding=1)

        def level(c_in: int, c_out: int, size: int) -> Level:
            heads = head_width if size in attention else 0
            return Level(c_in, c_out, condition, dropout, heads)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        size, c, skips = image_size, width, [width]
        for i, multiplier in enumerate(multipliers):
            if i:
                self.down.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                size //= 2
                skips.append(c)
            for _ in range(blocks):
                self.down.append(level(c, multiplier * width, size))
                c = multiplier * width
                skips.append(c)
        self.middle = nn.ModuleList([level(c, c, size), level(c, c, 0)])
        for i, multiplier in reversed([*enumerate(multipliers)]):
            for _ in range(blocks + 1):
                self.up.append(level(c + skips.pop(), multiplier * width, size))
                c = multiplier * width
            if i:
                self.up.append(
                    nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(c, c, 3, padding=1))
                )
                size *= 2
        self.last = nn.Sequential(
            _norm(c), nn.SiLU(), zero_initialised(nn.Conv2d(c, channels, 3, padding=1))
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        condition = self.condition(t, labels).to(x.dtype)
        h = self.first(x)
        skips = [h]
        for layer in self.down:
            h = layer(h, condition) if isinstance(layer, Level) else layer(h)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, condition)
        for layer in self.up:
            if isinstance(layer, Level):
                h = layer(torch.cat([h, skips.pop()], dim=1), condition)
            else:
                h = layer(h)
        return self.last(h)
