"""Antialiased resizing of images to any size, on any device."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

# how many times smaller torch makes an image on a GPU: wider filters do not fit into the memory
# that a block of its kernel has (48 KiB; beyond 20 and 10 it raises)
SHRINKS = {"bilinear": 8, "bicubic": 4}
COLUMNS = 1024  # of a matrix that are made at a time
PART_BYTES = 2**26  # of images as float32 that are resized at a time


def resize_antialiased(images: Tensor, size: Sequence[int], mode: str = "bilinear") -> Tensor:
    """Float images (b, c, h, w) resized to `size` (h, w), antialiased where they shrink.

    `torch.nn.functional.interpolate` on CPUs, and on a GPU as far as it can; beyond, the same
    filter as two matrix products, which differ from it by rounding.

    Args:
        mode: bilinear or bicubic; the latter may leave the range of the images.
    """
    height, width = size
    by = max(images.shape[-2] / height, images.shape[-1] / width)
    if images.device.type == "cpu" or by <= SHRINKS[mode]:
        return F.interpolate(images, (height, width), mode=mode, antialias=True)
    return by_matrices(images, (height, width), mode)


def parts_to_resize(images: Tensor) -> Sequence[Tensor]:
    """Images (b, c, h, w) in parts that take little memory as floats, however large they are."""
    return images.split(max(1, PART_BYTES // (4 * images[0].numel()))) if len(images) else [images]


def by_matrices(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Rows and columns of images (b, c, h, w) through a filter's matrices, in float32 or more."""
    wide = torch.promote_types(images.dtype, torch.float32)
    with torch.autocast(images.device.type, enabled=False):
        down, across = (
            _filter_matrix(n, m, mode).to(images.device, wide)
            for n, m in zip(images.shape[-2:], size, strict=True)
        )
        return (down @ images.to(wide) @ across.T).to(images.dtype)  # (H, h) (h, w) (w, W)


@lru_cache(8)
def _filter_matrix(n: int, m: int, mode: str) -> Tensor:
    """Weights (m, n) of a resize from n to m, float64: what it makes of the unit vectors."""
    with torch.inference_mode(False), torch.no_grad():
        parts = []
        for start in range(0, n, COLUMNS):
            width = min(COLUMNS, n - start)
            unit = torch.zeros(n, width, dtype=torch.float64)
            unit[start : start + width] = torch.eye(width, dtype=torch.float64)
            part = F.interpolate(unit[None, None], (m, width), mode=mode, antialias=True)
            parts.append(part[0, 0])
        return torch.cat(parts, 1)
