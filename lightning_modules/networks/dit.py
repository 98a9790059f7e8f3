"""Diffusion transformer with adaLN-zero (Peebles & Xie, 2023, arXiv:2212.09748)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novum.core.errors import InputError, check_at_least
from novum.lightning_modules.networks.conditioning import Conditioning, zero_initialised


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Tokens (b, n, d) scaled and shifted by vectors (b, d)."""
    return x * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """Attention and a two-layer network; time and class modulate both, and gate what they add."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.modulation = zero_initialised(nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        a, b, gate_attention, c, d, gate_mlp = self.modulation(condition).chunk(6, dim=1)
        x = x + gate_attention[:, None] * self._attention(_modulated(self.norm(x), a, b))
        return x + gate_mlp[:, None] * self.mlp(_modulated(self.norm(x), c, d))

    def _attention(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = heads.unbind(0)  # (b, heads, n, d / heads)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class DiT(nn.Module):
    """Noisy images (b, c, h, w), times (b,) and labels (b,) -> images of the same shape.

    Args:
        image_size: Height and width in pixels, a multiple of `patch`.
        channels: 1 for gray, 3 for RGB.
        num_classes: More than 0: class-conditional; the label `num_classes` is no class.
        patch: Pixels of a token's side.
        width: Of each token, a multiple of four times `heads`.
        depth: Blocks.
        heads: Of attention.
    """

    def __init__(
        self,
        image_size: int = 32,
        channels: int = 3,
        num_classes: int = 0,
        patch: int = 2,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
    ) -> None:
        super().__init__()
        sizes = {"image_size": image_size, "channels": channels, "patch": patch}
        check_at_least(1, **sizes, width=width, depth=depth, heads=heads)
        check_at_least(0, num_classes=num_classes)
        if image_size % patch:
            raise InputError(f"image_size is {image_size}: it must be a multiple of patch, {patch}")
        if width % (4 * heads):
            raise InputError(f"width is {width}: it must be a multiple of 4 x heads, {4 * heads}")
        self.image_size, self.channels, self.num_classes = image_size, channels, num_classes
        self.patch = patch
        self.condition = Conditioning(width, num_classes)
        self.first = nn.Linear(channels * patch**2, width)
        place = _places(image_size // patch, width)
        self.place = nn.Parameter(place, requires_grad=False)  # as published: not learned
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero_initialised(nn.Linear(width, 2 * width))
        self.last = zero_initialised(nn.Linear(width, channels * patch**2))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        condition = self.condition(t, labels).to(x.dtype)
        h = self.first(F.pixel_unshuffle(x, self.patch).flatten(2).transpose(1, 2)) + self.place
        for block in self.blocks:
            h = block(h, condition)
        h = _modulated(self.norm(h), *self.modulation(condition).chunk(2, dim=1))
        tokens = self.image_size // self.patch
        patches = self.last(h).transpose(1, 2).unflatten(2, (tokens, tokens))
        return F.pixel_shuffle(patches, self.patch)


def _places(tokens: int, width: int) -> Tensor:
    """Sines and cosines (tokens^2, width) of row and column."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 4) / (width // 4))
    angles = torch.arange(tokens)[:, None] * frequencies  # (tokens, width / 4)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = waves[:, None].expand(-1, tokens, -1)
    return torch.cat([rows, waves.expand(tokens, -1, -1)], dim=2).flatten(0, 1)
