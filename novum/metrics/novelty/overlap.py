"""Agreement of two images where an affine map lays one over the other, in gray.

The map is refined by Gauss-Newton steps on its six numbers, with gain and bias free (Evangelidis
and Psarakis, 2008). The image that shows more of the scene is sampled on the grid of the other, at
the size at which their pixels are about equal.
"""

import torch
from torch import Tensor

from novum.core.resampling import parts_to_resize, resize_antialiased
from novum.metrics.novelty.alignment import (
    affine_step,
    compare,
    gradient,
    inverse,
    low_pass,
    places,
)

SIDES = (32, 64, 128)  # px of the gray images that are compared
GRID = SIDES[0]
STEPS = 3
LARGEST_STEP = 0.1  # of the half side
DRIFT = 0.25  # of a number of the map, over all steps
LEAST_PLACES = 100  # of the grid


def thumbnails(images: Tensor) -> list[Tensor]:
    """Gray uint8 images (n, s, s) of SIDES, of uint8 (n, c, h, w); none larger than these are."""
    sides = sides_of(*images.shape[-2:])
    parts = []
    for part in parts_to_resize(images):
        light = part.float().mean(1, keepdim=True)
        small = (resize_antialiased(light, (s, s)).round().clamp(0, 255) for s in sides)
        parts.append([x.to(torch.uint8)[:, 0] for x in small])
    return [torch.cat(x) for x in zip(*parts, strict=True)]


def sides_of(height: int, width: int) -> list[int]:
    """SIDES of the thumbnails of images of that size."""
    return [s for s in SIDES if s <= max(height, width, GRID)]


def agreement(own: list[Tensor], other: list[Tensor], affine: Tensor) -> tuple[Tensor, Tensor]:
    """Evidence (b,) that `other` shows what `own` does, and the affine map (b, 2, 3) refined.

    `affine` takes places of `own` to places of `other`, both in [-1, 1]. Evidence is -log(1 -
    correlation), weighed by the root of the share of the smaller image that overlaps.
    """
    larger = affine[:, :, :2].det().abs() < 1  # own is seen in a part of the other
    there = inverse(affine)
    maps = torch.where(larger[:, None, None], affine, there)
    grids = torch.where(larger[:, None, None], own[0], other[0])
    seen = [torch.where(larger[:, None, None], b, a) for a, b in zip(own, other, strict=True)]
    wanted = GRID / maps[:, :, :2].det().abs().clamp(min=1e-6).sqrt()
    level = (wanted[:, None] > torch.tensor([1.41 * s for s in SIDES[: len(seen) - 1]])).sum(1)
    value, refined = torch.zeros(len(affine)), maps.clone()
    for number, images in enumerate(seen):
        rows = (level == number).nonzero()[:, 0]
        if len(rows):
            value[rows], refined[rows] = _refine(grids[rows], images[rows], maps[rows])
    return value, torch.where(larger[:, None, None], refined, inverse(refined))


def _refine(grid: Tensor, images: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
    """Evidence and map after the best of STEPS steps."""
    target = low_pass(grid[:, None].float()).flatten(1)
    image = low_pass(images[:, None].float())
    slopes = torch.cat([image, *gradient(image)], 1)
    best, chosen, start = torch.zeros(len(grid)), affine, affine
    for step in range(STEPS + 1):
        there = places(affine, GRID)
        inside = (there.abs().amax(2) <= 1).float()
        products, correlation = compare(target, slopes, there, inside, (GRID, GRID))
        enough = inside.sum(1) >= LEAST_PLACES
        enough &= (affine - start).abs().amax((1, 2)) <= DRIFT
        evidence = -torch.log(1 - correlation.clamp(0, 1) + 1e-3) * inside.mean(1).sqrt()
        evidence = evidence.clamp(min=0) * enough
        better = evidence > best
        best = torch.where(better, evidence, best)
        chosen = torch.where(better[:, None, None], affine, chosen)
        if step < STEPS:
            affine = affine + affine_step(products, LARGEST_STEP)
    return best, chosen
