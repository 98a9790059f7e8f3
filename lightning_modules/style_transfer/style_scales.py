"""From one size of an image to the next: its pixels, the state of its optimizer, its colours."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from novum.core.resampling import resize_antialiased

Size = tuple[int, int]  # height, width


def resized(images: Tensor, size: Size) -> Tensor:
    """Bicubic, antialiased where it shrinks; may leave [0, 1] a little."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images.clone()
    return resize_antialiased(images, tuple(size), "bicubic")


def enlarge_state(optimizer: Optimizer, size: Size) -> None:
    """Adam's moments at the new size; the history of L-BFGS, which has none, is dropped."""
    if isinstance(optimizer, LBFGS):
        optimizer.state.clear()
        optimizer._numel_cache = None  # it counts its parameters once
        return
    for state in optimizer.state.values():
        for name, value in state.items():
            if torch.is_tensor(value) and value.ndim == 4:
                squared = name.endswith("_sq")  # must not fall below 0
                mode = "bilinear" if squared else "bicubic"
                state[name] = F.interpolate(value, tuple(size), mode=mode)


def with_colours_of(content: Tensor, images: Tensor) -> Tensor:
    """Images (b, 3, h, w) with their brightness and the content's colour differences (YIQ)."""
    luma = content.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    brightness = (images * luma).sum(1, keepdim=True)
    return (content + brightness - (content * luma).sum(1, keepdim=True)).clamp(0, 1)
