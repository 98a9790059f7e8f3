"""DeepDream (Mordvintsev, Olah and Tyka, 2015): an image in which a network sees more of what it
sees."""

from collections.abc import Iterator
from itertools import product
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from novum.core.errors import InputError
from novum.core.lightning_compat import datamodule, wrapped_optimizer
from novum.core.pixels import unit_to_uint8
from novum.core.resampling import resize_antialiased
from novum.core.seeds import derived_seed, random_generator
from novum.lightning_modules.dreams.dream_objectives import Objective
from novum.lightning_modules.dreams.gradient_blur import smooth
from novum.lightning_modules.networks.backbones import Backbone
from novum.lightning_modules.single_image_module import SingleImageModule
from novum.lightning_modules.step_memory import IMAGE, PROBE, kept_per_pixel, require_step_memory
from novum.lightning_modules.training_utils import save_plain_hyperparameters

Size = tuple[int, int]


class Stage(NamedTuple):
    """Steps on the image at one size."""

    first: int  # its first step
    size: Size
    zoom: bool  # begins by entering the picture, as a frame of the animation


class DeepDream(SingleImageModule):
    """Gradient ascent on activations, octave by octave, from coarse to fine.

    The defaults are TensorFlow's tutorial; `reinject`, normalise: mean, objective: l2 and octaves
    [-3, 0] make Google's first recipe; smoothing with normalise: standardise that of
    gordicaleksa/pytorch-deepdream.

    Args:
        backbone: The network.
        layers: Names of layers, as modules or in papers (mixed3, mixed4c, conv4_2).
        objective: Sum over layers of the mean activation, or of the mean square (l2).
        channels: Only these channels of the layers; null for all.
        unit: Row and column of the one unit looked at; switches jitter and tiles off.
        octaves: First and last power of octave_scale; each power between them is an octave, 0 is
            the size of the data.
        octave_scale: Ratio of the sizes of two octaves.
        steps: Per octave.
        step_size: In pixels' [0, 1], after the gradient is normalised.
        normalise: Gradient over its standard deviation, over its mean magnitude, or standardised.
        jitter: The image is rolled by at most this many px at each step, and back.
        tile: Larger images are computed in tiles of at most this many px, at random offsets that
            leave out no pixel, so memory does not grow with them.
        reinject: Each octave adds the dream of the one before to the source, and so keeps the
            source's detail; else the whole dream is enlarged.
        smoothing: Blurs gradients by three Gaussians, wider from step to step (0: not).
        zoom_frames: Frames of an animation that goes on into the picture.
        zoom_steps: Steps per frame.
        zoom: Enlargement from frame to frame.
        seed: Of jitter and tiles.
    """

    def __init__(
        self,
        backbone: Backbone,
        layers: list[str],
        objective: Literal["mean", "l2"] = "mean",
        channels: list[int] | None = None,
        unit: tuple[int, int] | None = None,
        octaves: tuple[int, int] = (-2, 2),
        octave_scale: float = 1.3,
        steps: int = 50,
        step_size: float = 0.005,
        normalise: Literal["std", "mean", "standardise"] = "std",
        jitter: int = 32,
        tile: int = 512,
        reinject: bool = False,
        smoothing: float = 0.0,
        zoom_frames: int = 0,
        zoom_steps: int = 5,
        zoom: float = 1.05,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, seed)
        save_plain_hyperparameters(self)
        _check(octaves, octave_scale, steps, tile, zoom)
        self.automatic_optimization = False
        self.objective = Objective(backbone, layers, objective, channels, unit)
        self.octaves, self.octave_scale, self.steps = octaves, octave_scale, steps
        self.step_size, self.normalise, self.smoothing = step_size, normalise, smoothing
        self.jitter, self.tile, self.reinject = jitter, tile, reinject
        self.zoom_frames, self.zoom_steps, self.zoom = zoom_frames, zoom_steps, zoom
        if unit is not None:  # the unit stays where it is, and sees the whole image
            self.jitter, self.tile = 0, 2**31
        self.image = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.frames: list[Tensor] = []  # uint8 (3, h, w) of the animation

    # -- the schedule --------------------------------------------------------------------------

    @property
    def total_steps(self) -> int:
        first, last = self.octaves
        return self.steps * (last - first + 1) + self.zoom_frames * self.zoom_steps

    def stages(self, size: Size) -> list[Stage]:
        """The octaves of an image of that size, then the frames of the animation."""
        first, last = self.octaves
        sizes = [_scaled(size, self.octave_scale**power) for power in range(first, last + 1)]
        stages = [Stage(i * self.steps, octave, False) for i, octave in enumerate(sizes)]
        start = len(sizes) * self.steps
        return stages + [
            Stage(start + i * self.zoom_steps, sizes[-1], True) for i in range(self.zoom_frames)
        ]

    def stage(self) -> str:
        first = [start for start in self.starts if start <= self.global_step]
        h, w = self.starts[first[-1]].size
        octaves = len([stage for stage in self.starts.values() if not stage.zoom])
        number, of = f"octave {len(first)}", octaves
        if len(first) > octaves:
            number, of = f"frame {len(first) - octaves}", self.zoom_frames
        return f"{number} of {of}, {w} x {h} px"

    def on_fit_start(self) -> None:
        data = datamodule(self.trainer)
        self.source = data.train_reference()[:].to(self.device) / 255  # (1, 3, h, w)
        self.starts = {stage.first: stage for stage in self.stages(self.source.shape[-2:])}
        guide = data.guide_reference()
        if guide is not None:
            self.objective.look_at(self.backbone, guide[:].to(self.device) / 255)
        self._require_memory()

    def _require_memory(self) -> None:
        """Fail before the first step if the last octave does not fit: whole images, and a tile."""
        per_pixel = kept_per_pixel(
            lambda image: self.backbone.activations(image, self.objective.layers),
            resized(self.source, (PROBE, PROBE)),
        )
        h, w = image_size(self.source)

        def needed(size: int) -> float:
            scale = size / max(h, w) * self.octave_scale ** self.octaves[1]
            tile = min(self.tile, h * scale) * min(self.tile, w * scale)
            return per_pixel * tile + IMAGE * h * w * scale**2

        last = "{1} x {0}".format(*_scaled((h, w), self.octave_scale ** self.octaves[1]))
        require_step_memory(needed, max(h, w), f"a dream of {last} px", "--data.size", self.device)

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.SGD([self.image], lr=self.step_size, maximize=True)

    # -- one step ------------------------------------------------------------------------------

    def training_step(self, batch: int, batch_idx: int) -> None:
        step = self.global_step
        if step in self.starts:
            self.image.data = self._enter(self.starts[step])
        within = step - max(first for first in self.starts if first <= step)
        shift = self._shift(step)
        rolled = self.image.detach().roll(shift, (2, 3))
        value, gradient = self.gradient(rolled)
        if self.smoothing:
            with torch.autocast(self.device.type, enabled=False):  # the network alone is in bf16
                gradient = smooth(gradient, (within + 1) / self.steps * 2 + self.smoothing)
        gradient = normalised(gradient, self.normalise)
        self.image.grad = gradient.roll([-s for s in shift], (2, 3))
        wrapped_optimizer(self).step()
        with torch.no_grad():
            self.image.clamp_(0, 1)
        self.log_losses(objective=value)
        if self.zoom_frames and step + 1 >= self.steps * (self.octaves[1] - self.octaves[0] + 1):
            self._keep_frame(step + 1)

    def gradient(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Objective and its gradient for (1, 3, h, w), tile by tile, each weighed by its area."""
        gradient, total = torch.empty_like(image), image.new_zeros(())
        for rows, columns in tiles(image_size(image), self.tile):
            part = image[..., rows, columns].contiguous().requires_grad_()
            value = self.objective(self.backbone, part)
            share = part[0, 0].numel() / image[0, 0].numel()
            (gradient[..., rows, columns],) = torch.autograd.grad(value * share, part)
            total += value.detach() * share
        return total, gradient

    def _shift(self, step: int) -> list[int]:
        """Pixels to roll by: the jitter, or anything where the seams of tiles must wander."""
        generator = random_generator(derived_seed(self.seed, step))
        return [
            int(torch.randint(-reach, reach + 1, (), generator=generator))
            for reach in (self.jitter if s <= self.tile else s // 2 for s in self.image.shape[-2:])
        ]

    def _enter(self, stage: Stage) -> Tensor:
        """The image with which a stage begins."""
        if stage.first == 0:
            return resized(self.source, stage.size)
        if stage.zoom:
            return zoomed(self.image.detach(), self.zoom)
        if not self.reinject:
            return resized(self.image.detach(), stage.size)
        dream = self.image.detach() - resized(self.source, image_size(self.image))
        return (resized(self.source, stage.size) + resized(dream, stage.size)).clamp(0, 1)

    def _keep_frame(self, done: int) -> None:
        """The last state of the octaves and of each frame."""
        if done in self.starts or done == self.total_steps:
            self.frames.append(unit_to_uint8(self.image.detach())[0].cpu())

    # -- what callbacks see ----------------------------------------------------------------------

    def images(self) -> Tensor:
        """The dream at the last octave's size, whichever it has reached."""
        if not hasattr(self, "source"):  # from a checkpoint
            return self.image.detach()
        last = _scaled(self.source.shape[-2:], self.octave_scale ** self.octaves[1])
        return resized(self.image.detach(), last).clamp(0, 1)


def _check(octaves: tuple[int, int], scale: float, steps: int, tile: int, zoom: float) -> None:
    if octaves[0] > octaves[1]:
        raise InputError(f"octaves are {octaves[0]} to {octaves[1]}: the first is the smaller")
    for name, value, least in (("octave_scale", scale, 1), ("zoom", zoom, 1)):
        if not value > least:
            raise InputError(f"{name} is {value}: it must be more than {least}")
    if steps < 1:
        raise InputError(f"steps is {steps}: it must be at least 1")
    if tile < 64:
        raise InputError(f"tile is {tile}: networks need tiles of at least 64 px")


def _scaled(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def image_size(image: Tensor) -> Size:
    """Height and width of images (..., h, w)."""
    return image.shape[-2], image.shape[-1]


def resized(image: Tensor, size: Size) -> Tensor:
    """Bilinear, antialiased where it shrinks."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image.clone()
    return resize_antialiased(image, tuple(size))


def zoomed(image: Tensor, factor: float) -> Tensor:
    """The middle of an image (1, 3, h, w), enlarged to its size."""
    matrix = torch.eye(2, 3, device=image.device)[None] / factor
    grid = F.affine_grid(matrix, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, mode="bicubic", align_corners=False).clamp(0, 1)


def normalised(gradient: Tensor, how: str) -> Tensor:
    """Over its mean magnitude (`mean`), its deviation (`std`), or also centred (`standardise`)."""
    least = torch.finfo(gradient.dtype).tiny  # no more: random networks have gradients of 1e-20
    if how == "mean":
        return gradient / gradient.abs().mean().clamp_min(least)
    centre = gradient.mean() if how == "standardise" else 0.0
    return (gradient - centre) / gradient.std().clamp_min(least)


def tiles(size: Size, largest: int) -> Iterator[tuple[slice, slice]]:
    """Cuts (h, w) into equal parts of at most `largest` px a side: every pixel, once."""
    height, width = size
    yield from product(list(_cuts(height, largest)), list(_cuts(width, largest)))


def _cuts(side: int, largest: int) -> Iterator[slice]:
    parts = -(-side // largest)
    ends = [round(i * side / parts) for i in range(parts + 1)]
    yield from map(slice, ends, ends[1:])
