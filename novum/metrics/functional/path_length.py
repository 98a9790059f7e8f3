"""Perceptual path length: how much an image changes per step through latent space."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from novum.core.errors import InputError
from novum.metrics.functional.intervals import Interval, normal_interval
from novum.metrics.record import Measure, Metric

Decode = Callable[[Tensor], Tensor]  # latents (b, ...) -> float images (b, c, h, w), not rounded
Distance = Callable[[Tensor, Tensor], Tensor]  # two batches of such images -> (b,)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Great-circle interpolation of the directions of a and b (n, d) at t (n,), of unit length."""
    a, b = (x / x.norm(dim=-1, keepdim=True) for x in (a, b))
    angle = (a * b).sum(-1, keepdim=True).clamp(-1, 1).acos() * t[:, None]
    across = b - (a * b).sum(-1, keepdim=True) * a
    across = across / across.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return a * angle.cos() + across * angle.sin()


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Straight interpolation of a and b (n, ...) at t (n,)."""
    return torch.lerp(a, b, t.view(-1, *[1] * (a.ndim - 1)))


@torch.inference_mode()
def perceptual_path_length(
    decode: Decode,
    distance: Distance,
    starts: Tensor,
    ends: Tensor,
    *,
    space: Literal["z", "w"] = "w",
    sampling: Literal["full", "end"] = "full",
    epsilon: float = 1e-4,
    batch_size: int = 64,
    seed: int = 0,
) -> Interval:
    """Mean of distance(x(t), x(t + epsilon)) / epsilon^2 over paths (Karras et al., 2019, eq. 2-3).

    Values below the 1st and above the 99th percentile are left out, as published. The result does
    not depend on the batch size but for rounding.

    Args:
        decode: Latents to float images in any range; 8-bit ones would hide a step.
        distance: Of pairs of such images, quadratic in small differences, as LPIPS is.
        starts: Latents (n, d), or styles (n, layers, d), where paths begin.
        ends: Likewise, where they end.
        space: z interpolates along great circles, w along straight lines.
        sampling: Anywhere on a path (full), or at its start (end).
        epsilon: The step, as a share of the path.
        batch_size: Pairs decoded at once.
        seed: Of the places on the paths.

    Returns:
        The mean and its 95% interval.

    Raises:
        InputError: If starts and ends differ in shape, or there are fewer than two pairs.
    """
    if starts.shape != ends.shape or len(starts) < 2:
        raise InputError(
            f"path length needs two or more pairs, got starts {tuple(starts.shape)} and ends"
            f" {tuple(ends.shape)}"
        )
    generator = torch.Generator().manual_seed(seed)
    t = torch.rand(len(starts), generator=generator) if sampling == "full" else None
    t = (torch.zeros(len(starts)) if t is None else t).to(starts.device)
    between = slerp if space == "z" else lerp
    # in double precision: a step is near the last digits of a float
    a, b = starts.double(), ends.double()
    near = between(a, b, t.double()).to(starts.dtype)
    far = between(a, b, t.double() + epsilon).to(starts.dtype)
    parts = []
    for one, other in zip(near.split(batch_size), far.split(batch_size), strict=True):
        # pairs in one batch: what a convolution gives varies with its place in it, not the image
        first, second = decode(torch.cat([one, other])).chunk(2)
        parts.append(distance(first, second).double() / epsilon**2)
    lengths = torch.cat(parts).cpu().sort().values
    cut = math.floor(0.01 * (len(lengths) - 1))
    kept = lengths[cut : len(lengths) - cut]
    return normal_interval(float(kept.mean()), float(kept.std()) / math.sqrt(len(kept)))


MEANING = "How much images change along short steps between latents."
MEASURES = (
    Measure(
        (
            Metric(
                "path_length_z_full",
                "Path length in z, full",
                MEANING,
                better="lower",
                direction="lower",
            ),
            Metric(
                "path_length_z_end",
                "Path length in z, ends",
                MEANING,
                better="lower",
                direction="lower",
            ),
            Metric(
                "path_length_w_full",
                "Path length in w, full",
                MEANING,
                better="lower; in w than in z",
                direction="lower",
            ),
            Metric(
                "path_length_w_end",
                "Path length in w, ends",
                MEANING,
                better="lower; in w than in z",
                direction="lower",
            ),
        ),
        position=110,
    ),
)
