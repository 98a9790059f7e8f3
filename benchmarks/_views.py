"""Simple feature spaces of uint8 images (n, c, h, w), float32 (n, d)."""

from torch import Tensor
from torch.nn import functional as F


def pixels(images: Tensor) -> Tensor:
    return images.flatten(1).float()


def pixels_at_a_quarter(images: Tensor) -> Tensor:
    return F.avg_pool2d(images.float(), 4).flatten(1)
