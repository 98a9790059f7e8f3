"""DiffAugment (Zhao et al., 2020, arXiv:2006.10738): differentiable augmentation, per image."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _uniform(x: Tensor) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype)


def jitter_color(x: Tensor) -> Tensor:
    """Brightness by U(-.5, .5), saturation by U(0, 2), contrast by U(.5, 1.5)."""
    x = x + _uniform(x) - 0.5
    gray = x.mean(1, keepdim=True)
    x = gray + (x - gray) * (2 * _uniform(x))
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (_uniform(x) + 0.5)


def translate(x: Tensor, share: float = 0.125) -> Tensor:
    """Shift by up to `share` of the size along each axis, filled with zeros."""
    b, _, h, w = x.shape
    pad_h, pad_w = round(h * share), round(w * share)
    padded = F.pad(x, (pad_w, pad_w, pad_h, pad_h))  # (b, c, h + 2 pad_h, w + 2 pad_w)
    top = torch.randint(0, 2 * pad_h + 1, (b, 1, 1), device=x.device)
    left = torch.randint(0, 2 * pad_w + 1, (b, 1, 1), device=x.device)
    rows = top + torch.arange(h, device=x.device)[None, :, None]  # (b, h, 1)
    columns = left + torch.arange(w, device=x.device)[None, None, :]  # (b, 1, w)
    image = torch.arange(b, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows, columns].permute(0, 3, 1, 2)


def cutout(x: Tensor, share: float = 0.5) -> Tensor:
    """Blank a square of `share` of the size at a random place, cut off at the border."""
    b, _, h, w = x.shape
    half_h, half_w = h * share / 2, w * share / 2
    center_y = torch.randint(0, h + 1, (b, 1, 1, 1), device=x.device)
    center_x = torch.randint(0, w + 1, (b, 1, 1, 1), device=x.device)
    y = torch.arange(h, device=x.device)[:, None] + 0.5
    inside_y = (y - center_y).abs() < half_h  # (b, 1, h, 1)
    inside_x = (torch.arange(w, device=x.device) + 0.5 - center_x).abs() < half_w  # (b, 1, 1, w)
    return x * ~(inside_y & inside_x)


class DiffAugment(nn.Module):
    """Augments real and generated images alike before the discriminator sees them.

    Args:
        color: Jitter brightness, saturation and contrast.
        translation: Shift by up to this share of the size (0: off).
        cutout: Blank a square of this share of the size (0: off).
    """

    def __init__(self, color: bool = True, translation: float = 0.125, cutout: float = 0.5) -> None:
        super().__init__()
        self.color, self.translation, self.cutout = color, translation, cutout

    def forward(self, images: Tensor) -> Tensor:
        if self.color:
            images = jitter_color(images)
        if self.translation:
            images = translate(images, self.translation)
        if self.cutout:
            images = cutout(images, self.cutout)
        return images
