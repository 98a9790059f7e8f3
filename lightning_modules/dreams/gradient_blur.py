"""Gradients blurred, which leaves less grain in a dream."""

import torch
import torch.nn.functional as F
from torch import Tensor

from novum.core.devices import constant

TAPS = 9


def smooth(x: Tensor, sigma: float) -> Tensor:
    """Mean of x (n, c, h, w) blurred by Gaussians of sigma / 2, sigma and 2 sigma px.

    Of 9 taps each, reflected at the borders, as gordicaleksa/pytorch-deepdream has it. The three
    are separable, so two passes of 9 taps a pixel take the place of three of 81.
    """
    place = torch.arange(TAPS, dtype=torch.float32, device=x.device) - TAPS // 2
    widths = sigma * constant((0.5, 1.0, 2.0), x, torch.float32)
    kernels = (-0.5 * (place / widths[:, None]).square()).exp()
    kernels = (kernels / kernels.sum(1, keepdim=True)).to(x.dtype)  # (3, 9)
    c = x.shape[1]
    x = F.pad(x, [TAPS // 2] * 4, mode="reflect")
    down = kernels.repeat(c, 1)[:, None, :, None]  # (3 c, 1, 9, 1): three blurs of each channel
    across = kernels.repeat(c, 1)[:, None, None, :]
    blurred = F.conv2d(F.conv2d(x, down, groups=c), across, groups=3 * c)
    return blurred.unflatten(1, (c, 3)).mean(2)
