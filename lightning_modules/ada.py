"""Adaptive discriminator augmentation (Karras et al., 2020b, arXiv:2006.06676)."""

import math
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novum.core.devices import constant
from novum.core.errors import InputError
from novum.lightning_modules.affine import (
    moved,
    pad_reflected,
    rearrange,
    scaled,
    transform,
    turned,
)

# an orthonormal low-pass filter of Daubechies' wavelets, with two moments
SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
BAND_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # of natural images: appendix B

Pipe = Literal[
    "blit", "geom", "color", "filter", "noise", "cutout", "bg", "bgc", "bgcf", "bgcfn", "bgcfnc"
]
ORDER = ("blit", "geom", "color", "filter", "noise", "cutout")
LETTERS = ("bg", "bgc", "bgcf", "bgcfn", "bgcfnc")


class AdaptiveAugment(nn.Module):
    """Each published transformation with probability p; p follows how sure the discriminator is.

    Every `interval` steps p moves by batch * interval / (1000 * speed_kimg): up where the mean
    sign of the logits of real images exceeds the target, down elsewhere, within [0, 1]. While p
    is 0 images pass as they are.

    Args:
        pipe: A group of transformations, or several by their first letters; bgc is customary.
        target: Mean sign of the real images' logits.
        speed_kimg: Thousands of images for p to go from 0 to 1.
        interval: Steps between adjustments.
        p: Probability at the start; with speed_kimg 0 it stays.
    """

    def __init__(
        self,
        pipe: Pipe = "bgc",
        target: float = 0.6,
        speed_kimg: float = 500.0,
        interval: int = 4,
        p: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise InputError(f"p is {p}: it is a probability, from 0 to 1")
        self.groups = ORDER[: len(pipe)] if pipe in LETTERS else (pipe,)
        self.target, self.speed_kimg, self.interval = target, speed_kimg, interval
        # on the images' device, so that no step waits; no buffers, which change their precision
        self._p = torch.tensor(float(p))
        self._signs = torch.zeros(())  # sum of batches' mean signs since p moved
        self._batches = 0

    @property
    def p(self) -> float:
        """The probability; to read it waits for the device."""
        return float(self._p)

    def observe(self, mean_sign: Tensor) -> None:
        """Takes a batch's mean sign of the real images' logits, over all ranks."""
        self._signs = self._signs.to(mean_sign.device) + mean_sign.float()
        self._batches += 1

    def due(self, step: int) -> bool:
        return bool(self.speed_kimg) and (step + 1) % self.interval == 0

    def mean_sign(self) -> Tensor:
        """Since the last adjustment."""
        return self._signs / self._batches

    def adjust(self, mean_sign: Tensor, batch_size: int) -> None:
        by = batch_size * self.interval / (1000 * self.speed_kimg)
        up = (mean_sign >= self.target).float() * 2 - 1
        self._p = (self._p.to(up.device) + by * up).clamp(0, 1)
        self._signs, self._batches = torch.zeros_like(self._signs), 0

    def get_extra_state(self) -> Tensor:
        """p, and the signs seen since it moved, for checkpoints."""
        return torch.tensor([self.p, float(self._signs), self._batches], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        p, signs, batches = state.tolist()
        self._p = torch.tensor(p, dtype=torch.float32)
        self._signs, self._batches = torch.tensor(signs, dtype=torch.float32), int(batches)

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type == "cpu" and self.p == 0:  # to look at p is free there
            return images
        self._p = self._p.to(images.device)
        # no autocast: it would compute places of pixels in half precision
        with torch.autocast(images.device.type, enabled=False):
            # the published transformations at p 0 change nothing but rounding; here nothing at all
            return torch.where(self._p > 0, self._augmented(images), images)

    def _augmented(self, images: Tensor) -> Tensor:
        draw = Draw(self._p, images)
        if "blit" in self.groups:  # moves whole pixels: a filter would blur what is exact
            images = rearrange(images, _pixel_moves(draw, images.shape[2:]))
        if "geom" in self.groups:
            images = transform(images, _geometry(draw, images.shape[2:]))
        if "color" in self.groups:
            images = _recolor(images, draw)
        if "filter" in self.groups:
            images = _filter_bands(images, draw)
        if "noise" in self.groups:
            sigma = draw.normal().abs() * 0.1 * draw.chosen()
            images = images + torch.randn_like(images) * sigma[:, None, None, None].to(images)
        if "cutout" in self.groups:
            images = _cut_out(images, draw)
        return images


class Draw:
    """Random numbers (b,), one for each image; what is chosen happens with probability p."""

    def __init__(self, p: Tensor | float, images: Tensor) -> None:
        self._like = images[:, 0, 0, 0].detach().float()
        self.p = p if isinstance(p, Tensor) else torch.full_like(self._like[0], p)

    def uniform(self) -> Tensor:
        return torch.rand_like(self._like)

    def normal(self) -> Tensor:
        return torch.randn_like(self._like)

    def chosen(self, p: Tensor | None = None) -> Tensor:
        """1 or 0."""
        return (self.uniform() < (self.p if p is None else p)).float()

    def power(self, deviation: float) -> Tensor:
        """2 to a normal, or 1."""
        return torch.exp2(self.normal() * deviation * self.chosen())


# -- geometry ----------------------------------------------------------------------------------


# Matrices (b, 3, 3) from output to input pixels, both counted from the image's centre.


def _pixel_moves(draw: Draw, size: torch.Size) -> Tensor:
    """Mirroring, quarter turns, whole-pixel shifts."""
    h, w = size
    flip = 1 - 2 * (draw.uniform() < 0.5) * draw.chosen()
    quarter = (draw.uniform() * 4).floor() * draw.chosen()
    x, y, moves = draw.uniform(), draw.uniform(), draw.chosen()
    shift = (((2 * t - 1) * 0.125 * n * moves).round() for t, n in ((x, w), (y, h)))
    return scaled(flip, torch.ones_like(flip)) @ turned(quarter * (math.pi / 2)) @ moved(*shift)


def _geometry(draw: Draw, size: torch.Size) -> Tensor:
    """Scaling, turns before and after a stretch, fractional shifts."""
    h, w = size
    turns = 1 - (1 - draw.p).sqrt()  # twice, so that some turn has probability p
    scale = draw.power(0.2)
    total = scaled(scale, scale)
    total = total @ turned((2 * draw.uniform() - 1) * math.pi * draw.chosen(turns))
    stretch = draw.power(0.2)
    total = total @ scaled(stretch, 1 / stretch)
    total = total @ turned((2 * draw.uniform() - 1) * math.pi * draw.chosen(turns))
    moves = draw.chosen()
    return total @ moved(*(draw.normal() * 0.125 * n * moves for n in (w, h)))


# -- color, bands, cutout ----------------------------------------------------------------------


def _recolor(images: Tensor, draw: Draw) -> Tensor:
    """Brightness, contrast, luma flip, hue, saturation; the alpha of RGBA stays."""
    brightness = (draw.normal() * 0.2 * draw.chosen())[:, None, None, None]
    luma = draw.power(0.5)  # contrast scales all of a color
    contrast = luma
    luma = luma * (1 - 2 * (draw.uniform() < 0.5) * draw.chosen())
    angle = (2 * draw.uniform() - 1) * math.pi * draw.chosen()
    chroma = contrast * draw.power(1.0)
    if images.shape[1] == 1:
        return (images + brightness.to(images)) * luma[:, None, None, None].to(images)
    matrix = _hue_matrix(angle) * chroma[:, None, None] + luma[:, None, None] / 3
    color = torch.einsum("bij,bjhw->bihw", matrix.to(images), images[:, :3] + brightness.to(images))
    return torch.cat([color, images[:, 3:]], dim=1)


def _hue_matrix(angle: Tensor) -> Tensor:
    """Turns colors about the gray axis by `angle` (b,) and drops their gray part: (b, 3, 3)."""
    gray = torch.full((3, 3), 1 / 3, device=angle.device, dtype=angle.dtype)
    cross = constant((0.0, -1, 1, 1, 0, -1, -1, 1, 0), angle).view(3, 3) / 3**0.5
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return (
        torch.eye(3, device=angle.device, dtype=angle.dtype) - gray
    ) * c + cross * s  # Rodrigues


@cache
def filter_bank() -> tuple[float, ...]:
    """Four symmetric band-pass filters of 43 taps, coarsest first, whose sum is the identity."""
    low = torch.tensor(SYM2, dtype=torch.float64)
    high = low * torch.tensor([1.0, -1, 1, -1])

    def convolve(a: Tensor, b: Tensor) -> Tensor:
        return F.conv1d(a[:, None], b.flip(0)[None, None], padding=len(b) - 1)[:, 0]

    low2 = convolve(low[None], low.flip(0))[0] / 2
    high2 = convolve(high[None], high.flip(0))[0] / 2
    bank = torch.eye(4, 1, dtype=torch.float64)
    for band in range(1, 4):
        wide = bank.new_zeros(4, 2 * bank.shape[1] - 1)
        wide[:, ::2] = bank
        bank = convolve(wide, low2)
        middle = bank.shape[1] // 2
        bank[band, middle - 3 : middle + 4] += high2
    return tuple(bank.flatten().tolist())


def _filter_bands(images: Tensor, draw: Draw) -> Tensor:
    """Amplifies or damps each band of frequencies, at equal expected power."""
    power = constant(BAND_POWER, images, torch.float32)
    gains = torch.ones(len(images), 4, device=images.device, dtype=torch.float32)
    for band in range(4):
        factor = torch.ones_like(gains)
        factor[:, band] = draw.power(1.0)
        gains = gains * factor / (factor.square() @ power).sqrt()[:, None]
    bank = constant(filter_bank(), images, torch.float32).view(4, -1)
    taps = (gains @ bank).to(images.dtype)  # (b, 43)
    b, c, h, w = images.shape
    x = pad_reflected(images, 21).reshape(1, b * c, h + 42, w + 42)
    taps = taps.repeat_interleave(c, dim=0)
    x = F.conv2d(x, taps[:, None, :, None], groups=b * c)
    return F.conv2d(x, taps[:, None, None, :], groups=b * c).view(b, c, h, w)


def _cut_out(images: Tensor, draw: Draw) -> Tensor:
    """Blanks a rectangle of half the size at a random place."""
    h, w = images.shape[2:]
    x, y, cut = draw.uniform(), draw.uniform(), draw.chosen()

    def inside(center: Tensor, n: int) -> Tensor:
        pixels = (torch.arange(n, device=images.device, dtype=torch.float32) + 0.5) / n
        return (pixels - center[:, None]).abs() < 0.25  # (b, n)

    hole = inside(y, h)[:, None, :, None] & inside(x, w)[:, None, None, :]
    return images * ~(hole & (cut > 0)[:, None, None, None])
