"""Images that any two differ by: seeded random textures with detail at three scales."""

import torch
from torch import Tensor
from torch.nn import functional as F


def textures(n: int, seed: int = 0, channels: int = 3, side: int = 32) -> Tensor:
    """uint8 (n, channels, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(n, channels, side, side)
    for cells, strength in ((3, 1.0), (6, 0.7), (12, 0.4)):
        gray = torch.randn(n, 1, cells, cells, generator=generator)
        colour = torch.randn(n, channels, cells, cells, generator=generator)
        mixed = F.interpolate(gray + 0.4 * colour, (side, side), mode="bicubic")
        images += strength * mixed
    return (128 + 40 * images).round().clamp(0, 255).to(torch.uint8)
