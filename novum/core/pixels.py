"""Pixels between uint8, which crosses the house, and the floats that networks take."""

import torch
from torch import Tensor


def uint8_to_signed(images: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1]."""
    return images.float().div(127.5).sub(1)


def signed_to_uint8(images: Tensor) -> Tensor:
    """Floats in [-1, 1] to the nearest uint8 level."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def unit_to_uint8(images: Tensor) -> Tensor:
    """Floats in [0, 1] to the nearest uint8 level."""
    return images.float().mul(255).round().clamp(0, 255).to(torch.uint8)
