"""Lays pool images over samples by affine maps, and measures how well they agree, block by block.

Gauss-Newton steps on the map's six numbers, with gain and bias free (Evangelidis and Psarakis,
2008): a step is a least-squares fit of the sample by the warped image and its derivatives. Images
are low-passed first, so that noise, JPEG or a blur hardly counts. Agreement is the correlation
within small blocks, so uneven light, and what covers a part, leave the rest as it is.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

EDGE = 1.5 / 16  # of the half side, left out at the border of a pool image, which filters spoil
LEAST_OVERLAP = 0.15  # of the sample's region
CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))
REGIONS = {  # by where they lie: left or right, upper or lower
    (0, 0): "",
    (-1, 0): "left half", (1, 0): "right half", (0, -1): "upper half", (0, 1): "lower half",
    (-1, -1): "upper left quarter", (1, -1): "upper right quarter",
    (-1, 1): "lower left quarter", (1, 1): "lower right quarter",
}  # fmt: skip
LARGEST_STEP = 0.15  # of the half side
DAMPING = 1e-3
FLOOR = 0.01  # grey levels squared a pixel: an image flatter than this correlates with nothing
STRETCHED = 1.15  # from here on words say so
BLOCK = 4  # blocks a side, that overlap by half
BLOCK_FLOOR = 0.25  # as FLOOR, of a block
BLOCK_SHARE = 0.5  # of a block that must be covered
UNEXPLAINED = 1e-4  # of a block's variance, at least


def align(samples: Tensor, images: Tensor, affine: Tensor, regions: Tensor, steps: int) -> Tensor:
    """The affine maps (n, 2, 3) of the largest correlation in so many steps from those given.

    A place in the sample shows what the map's place in the image does; both are in [-1, 1].

    Args:
        samples, images: Gray float (n, 1, s, s).
        regions: (n, s * s) 1 where the sample is looked at.
    """
    side, samples = samples.shape[-1], samples.flatten(1)
    slopes = torch.cat([images, *gradient(images)], 1)
    best, largest = affine, samples.new_full((len(samples),), -1.0)
    for step in range(steps + 1):
        grid = places(affine, side)
        inside = overlap(grid, regions)
        products, correlation = compare(samples, slopes, grid, inside, (side, side))
        better = _enough(inside, regions) & (correlation > largest)
        best = torch.where(better[:, None, None], affine, best)
        largest = torch.where(better, correlation, largest)
        if step < steps:
            affine = affine + affine_step(products, LARGEST_STEP)
    return best


def compare(
    samples: Tensor, slopes: Tensor, grid: Tensor, inside: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Products for `affine_step`, and the correlation (n,), of samples (n, h * w) of that size.

    Args:
        slopes: Images and their `gradient` (n, 3, s, s).
        grid: Place in the image of each of a sample's pixels (n, h * w, 2).
        inside: (n, h * w) 1 where the two are compared.
    """
    x, y = coordinates(*size, samples.device)
    image, dx, dy = sample_at(slopes, grid, size).unbind(1)
    terms = [samples, image, x * dx, y * dx, dx, x * dy, y * dy, dy]
    products = covariances(torch.stack(terms, 1), inside)
    return products, normalised(products[:, 0, 1], products[:, 0, 0], products[:, 1, 1])


def affine_step(products: Tensor, largest: float) -> Tensor:
    """Change (n, 2, 3) of maps that best explains samples by images and their derivatives.

    Args:
        products: `covariances` (n, 8, 8) of the sample, the image, x dx, y dx, dx, x dy, y dy, dy.
    """
    normal, target = products[:, 1:, 1:], products[:, 1:, :1]
    damping = normal.diagonal(dim1=1, dim2=2) * DAMPING + FLOOR
    gains = torch.linalg.solve(normal + torch.diag_embed(damping), target)[:, :, 0]
    step = gains[:, 1:] / gains[:, :1].clamp(min=0.1)
    return step.clamp(-largest, largest).view(-1, 2, 3)


def agreement(samples: Tensor, images: Tensor, affine: Tensor, regions: Tensor) -> Tensor:
    """Evidence (n,) that images show what samples do under given maps; -1 for too small an overlap.

    -log(1 - correlation^2) of the sample's blocks, which overlap by half, the colours of a block
    together: the mean of those that the image covers, weighed by the root of their share. Gain and
    bias are free in each, and the image may be a blurred copy.

    Args:
        samples, images: Float (n, c, s, s).
    """
    grid = places(affine, samples.shape[-1])
    inside = overlap(grid, regions)
    shown = sample_at(images, grid).view_as(samples)
    likeness = _in_blocks(samples, shown, inside)
    likeness = torch.maximum(likeness, _in_blocks(samples, low_pass(shown), inside))
    return torch.where(_enough(inside, regions), likeness, -1.0)


def _in_blocks(samples: Tensor, shown: Tensor, inside: Tensor) -> Tensor:
    """Evidence in the blocks that are covered; one of a negative correlation has none."""
    side = samples.shape[-1]
    there = inside.view(-1, 1, side, side)
    terms = torch.cat([samples, shown, samples * shown, samples**2, shown**2], 1) * there
    means = _block_means(torch.cat([terms, there], 1), side // BLOCK // 2)
    covered, means = means[:, -1], means[:, :-1] / means[:, -1:].clamp(min=1e-6)
    a, b, ab, aa, bb = means.split(samples.shape[1], 1)
    common, own, other = ((x - y).sum(1) for x, y in ((ab, a * b), (aa, a * a), (bb, b * b)))
    spread = (own.clamp(min=0) + BLOCK_FLOOR) * (other.clamp(min=0) + BLOCK_FLOOR)
    explained = (common.clamp(min=0) ** 2 / spread).clamp(max=1)
    covered = covered.where(covered >= BLOCK_SHARE, 0)
    evidence = -torch.log(1 - explained + UNEXPLAINED).clamp(max=0) * covered
    return evidence.mean((1, 2)) * covered.mean((1, 2)).clamp(min=1e-6) ** -0.5


def _block_means(x: Tensor, half: int) -> Tensor:
    """Means of blocks of 2 * half px that overlap by half (slices are faster than pooling)."""
    x = sum((x[..., i::half] for i in range(1, half)), x[..., ::half])
    x = sum((x[..., i::half, :] for i in range(1, half)), x[..., ::half, :])
    x = x[..., :-1] + x[..., 1:]
    return (x[..., :-1, :] + x[..., 1:, :]).div_(4 * half**2)


def low_pass(images: Tensor) -> Tensor:
    """Binomial 3 x 3 filter of float (n, c, h, w)."""
    x = F.pad(images, (1, 1, 1, 1), "replicate")
    x = (x[..., :-2] + x[..., 2:]).add_(x[..., 1:-1], alpha=2)
    return (x[..., :-2, :] + x[..., 2:, :]).add_(x[..., 1:-1, :], alpha=2).mul_(1 / 16)


def gradient(images: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences per unit of [-1, 1] coordinates."""
    x = F.pad(images, (1, 1, 1, 1), "replicate") * (images.shape[-1] / 4)
    return x[..., 1:-1, 2:] - x[..., 1:-1, :-2], x[..., 2:, 1:-1] - x[..., :-2, 1:-1]


class Placed(NamedTuple):
    """Geometry of k images on samples."""

    mirrored: Tensor  # (k,) bool: the sample shows the mirror image
    affine: Tensor  # (k, 2, 3): from places in the sample, mirrored back, to the image's
    region: Tensor  # (k,) of REGIONS: the part of the sample that shows it

    def places(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Place in the image of each of a sample's pixels (k, h * w, 2); 1 if it is in there."""
        x, y = coordinates(height, width, self.affine.device)
        grid = moved(torch.stack([x, y], 1), self.affine)
        return grid, overlap(grid, region_masks(height, width, self.affine.device)[self.region])

    def outlines(self) -> tuple[Tensor, Tensor]:
        """Corners (k, 4, 2) of the part that both show, on the sample and on the image."""
        whole = torch.tensor(CORNERS, dtype=self.affine.dtype)
        lies = torch.tensor(list(REGIONS), dtype=whole.dtype)[:, None]
        part = torch.where(whole == -lies, 0, whole)
        affine, region = self.affine.cpu(), self.region.cpu()
        on_image, on_sample = moved(part[region], affine), moved(whole, inverse(affine))
        on_sample = torch.where((region > 0)[:, None, None], part[region], on_sample)
        on_sample[self.mirrored.cpu(), :, 0] *= -1
        return on_sample, on_image


def moved(points: Tensor, affine: Tensor) -> Tensor:
    """Points (n, 2) or (k, n, 2) after each of k affine maps (k, 2, 3): (k, n, 2)."""
    x, y = points[..., None, :, :].unbind(-1)
    a, b, c = affine[..., None].unbind(2)  # (k, 2, 1) each
    return (a * x + b * y + c).transpose(1, 2)


def inverse(affine: Tensor) -> Tensor:
    """The affine maps (k, 2, 3) back."""
    linear = torch.linalg.pinv(affine[:, :, :2])
    return torch.cat([linear, -linear @ affine[:, :, 2:]], 2)


def coordinates(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x and y (h * w,) of the pixels in [-1, 1]."""
    across, down = ((torch.arange(n, device=device) + 0.5) / n * 2 - 1 for n in (width, height))
    return across.repeat(height), down.repeat_interleave(width)


def places(affine: Tensor, side: int) -> Tensor:
    """Place that each pixel of a sample comes from, (n, s * s, 2)."""
    return moved(torch.stack(coordinates(side, side, affine.device), 1), affine)


def sample_at(images: Tensor, grid: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """(n, c, h * w): bilinear values of the images at the places; size: theirs if not given."""
    grid = grid.unflatten(1, images.shape[-2:] if size is None else size)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False).flatten(2)


def region_masks(height: int, width: int, device: torch.device) -> Tensor:
    """(9, h * w): 1 in each of REGIONS, which end short of the seam in the middle."""
    x, y = coordinates(height, width, device)
    within = [(x * across > EDGE * abs(across) - 1e-6) & (y * down > EDGE * abs(down) - 1e-6)
              for across, down in REGIONS]  # fmt: skip
    return torch.stack(within).float()


def overlap(grid: Tensor, regions: Tensor) -> Tensor:
    return regions * (grid.abs().amax(2) <= 1 - EDGE)


def in_words(mirrored: bool, region: int, affine: Tensor, side: int) -> str:
    """Describe what was done to an image of `side` px, such as "mirrored, crop 24/32 at (3, 2)"."""
    (p, q, tx), (r, s, ty) = affine.tolist()
    degrees = math.degrees(math.atan2(r - q, p + s))
    scale = math.hypot(p + s, r - q) / 2
    narrow, wide = torch.linalg.svdvals(affine[:, :2].double()).flip(0).tolist()
    words = [list(REGIONS.values())[region]] if region else []
    words += ["mirrored"] if mirrored else []
    turned = abs(degrees) >= 2
    words += [f"rotated {degrees:.0f}°"] if turned else []
    words += [f"stretched {wide / narrow:.1f} times"] if wide > STRETCHED * narrow else []
    left, top = (round((t - scale + 1) * side / 2) for t in (tx, ty))
    if scale < 0.97 and not turned:
        words.append(f"crop {round(scale * side)}/{side} at ({left}, {top})")
    elif not 0.97 <= scale <= 1.03:
        words.append(f"scaled by {1 / scale:.2f}")
    right, down = (round(-t * side / 2) for t in (tx, ty))
    if (right or down) and scale >= 0.97:
        words.append(f"shifted ({right}, {down}) px")
    return ", ".join(words) or "unmoved"


def covariances(terms: Tensor, inside: Tensor) -> Tensor:
    """(n, k, k) of terms (n, k, s * s) over the places inside."""
    weights = inside / inside.sum(1, keepdim=True).clamp(min=1)
    centred = terms - terms @ weights[:, :, None]
    return (centred * weights[:, None]) @ centred.transpose(1, 2)


def normalised(ab: Tensor, aa: Tensor, bb: Tensor) -> Tensor:
    return ab / ((aa + FLOOR) * (bb + FLOOR)).sqrt()


def _enough(inside: Tensor, regions: Tensor) -> Tensor:
    return inside.mean(1) >= LEAST_OVERLAP * regions.mean(1)
