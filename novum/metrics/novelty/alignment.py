"""Lays pool images over samples by similarities, and measures how well they agree.

Gauss-Newton steps on the similarity's four numbers, with gain and bias free (Evangelidis and
Psarakis, 2008): a step is a least-squares fit of the sample by the warped image and its
derivatives. Images are low-passed first, so that noise, JPEG or a blur hardly counts.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

EDGE = 1.5 / 16  # of the half side, left out at the border of a pool image, which filters spoil
LEAST_OVERLAP = 0.35  # of the sample's region
CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))
REGIONS = ("", "left half", "right half", "upper half", "lower half")
LARGEST_STEP = 0.15  # of the half side
DAMPING = 1e-3
FLOOR = 0.01  # grey levels squared a pixel: an image flatter than this correlates with nothing


class Alignment(NamedTuple):
    similarity: Tensor  # (n, 4): (a, b, tx, ty) takes x to (a + ib) x + (tx + i ty)
    correlation: Tensor  # (n,) normalised, of the overlap; -1 where that is too small
    area: Tensor  # (n,) the overlap's share of the whole sample


def align(
    samples: Tensor, images: Tensor, similarity: Tensor, regions: Tensor, steps: int
) -> Alignment:
    """The best of `steps` steps, from float samples and images (n, 1, s, s) and regions (n, s * s).

    A place in the sample shows what the similarity's place in the image does; both are in [-1, 1].
    """
    side, samples = samples.shape[-1], samples.flatten(1)
    slopes = torch.cat([images, *gradient(images)], 1)
    x, y = coordinates(side, side, samples.device)
    best = Alignment(
        similarity, samples.new_full((len(samples),), -1.0), samples.new_zeros(len(samples))
    )
    for step in range(steps + 1):
        grid = places(similarity, side)
        image, dx, dy = sample_at(slopes, grid).unbind(1)
        inside = overlap(grid, regions)
        terms = torch.stack([samples, image, x * dx + y * dy, x * dy - y * dx, dx, dy], 1)
        products = covariances(terms, inside)
        correlation = normalised(products[:, 0, 1], products[:, 0, 0], products[:, 1, 1])
        found = Alignment(similarity, *_checked(correlation, inside, regions))
        best = _better(best, found)
        if step < steps:
            similarity = similarity + _step(products)
    return best


def correlate(samples: Tensor, images: Tensor, similarity: Tensor, regions: Tensor) -> Alignment:
    """Multiple correlation of colour (n, c, s, s) under given similarities.

    Gain, bias and sharpness are free: a sample is fitted by the image and a blurred copy of it.
    """
    c, grid = samples.shape[1], places(similarity, samples.shape[-1])
    inside = overlap(grid, regions)
    image, blurred = sample_at(torch.cat([images, low_pass(images)], 1), grid).split(c, 1)
    terms = torch.stack([samples.flatten(2), image, blurred], 2).flatten(0, 1)  # (n * c, 3, s * s)
    products = covariances(terms, inside.repeat_interleave(c, 0)).unflatten(0, (-1, c)).sum(1)
    normal, target = products[:, 1:, 1:], products[:, 1:, 0]
    fit = torch.linalg.solve(normal + FLOOR * torch.eye(2, device=normal.device), target)
    explained = (fit * target).sum(1) / (products[:, 0, 0] + FLOOR)
    correlation = torch.where(target[:, 0] > 0, explained.clamp(0, 1).sqrt(), 0.0)
    return Alignment(similarity, *_checked(correlation, inside, regions))


def evidence(found: Alignment) -> Tensor:
    """-log(1 - correlation), weighed by the root of the area: a half agrees more easily."""
    return -torch.log(1 - found.correlation + 1e-4).clamp(max=0) * found.area.sqrt()


def low_pass(images: Tensor) -> Tensor:
    """Binomial 3 x 3 filter of float (n, c, h, w)."""
    c = images.shape[1]
    kernel = images.new_tensor([0.25, 0.5, 0.25])
    rows = F.pad(images, (1, 1, 0, 0), "replicate")
    rows = F.conv2d(rows, kernel.view(1, 1, 1, 3).expand(c, -1, -1, -1), groups=c)
    columns = F.pad(rows, (0, 0, 1, 1), "replicate")
    return F.conv2d(columns, kernel.view(1, 1, 3, 1).expand(c, -1, -1, -1), groups=c)


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
        part = whole.repeat(len(REGIONS), 1, 1)
        for number, (axis, past) in enumerate([(0, 1), (0, -1), (1, 1), (1, -1)], 1):
            part[number, :, axis] = torch.where(whole[:, axis] == past, 0, whole[:, axis])
        affine, region = self.affine.cpu(), self.region.cpu()
        on_image, on_sample = moved(part[region], affine), moved(whole, inverse(affine))
        on_sample = torch.where((region > 0)[:, None, None], part[region], on_sample)
        on_sample[self.mirrored.cpu(), :, 0] *= -1
        return on_sample, on_image


def moved(points: Tensor, affine: Tensor) -> Tensor:
    """Points (n, 2) or (k, n, 2) after each of k affine maps (k, 2, 3): (k, n, 2)."""
    return points @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]


def inverse(affine: Tensor) -> Tensor:
    """The affine maps (k, 2, 3) back."""
    linear = torch.linalg.pinv(affine[:, :, :2])
    return torch.cat([linear, -linear @ affine[:, :, 2:]], 2)


def coordinates(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x and y (h * w,) of the pixels in [-1, 1]."""
    across, down = ((torch.arange(n, device=device) + 0.5) / n * 2 - 1 for n in (width, height))
    return across.repeat(height), down.repeat_interleave(width)


def places(similarity: Tensor, side: int) -> Tensor:
    """Place that each pixel of a sample comes from, (n, s * s, 2)."""
    x, y = coordinates(side, side, similarity.device)
    a, b, tx, ty = similarity.T[:, :, None]
    return torch.stack([a * x - b * y + tx, b * x + a * y + ty], 2)


def sample_at(images: Tensor, grid: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """(n, c, h * w): bilinear values of the images at the places; size: theirs if not given."""
    grid = grid.unflatten(1, images.shape[-2:] if size is None else size)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False).flatten(2)


def region_masks(height: int, width: int, device: torch.device) -> Tensor:
    """(5, h * w): 1 in each of REGIONS, which end short of the seam in the middle."""
    x, y = coordinates(height, width, device)
    halves = [x < -EDGE, x > EDGE, y < -EDGE, y > EDGE]
    return torch.stack([torch.ones_like(x, dtype=torch.bool), *halves]).float()


def overlap(grid: Tensor, regions: Tensor) -> Tensor:
    return regions * (grid.abs().amax(2) <= 1 - EDGE)


def in_words(mirrored: bool, region: int, similarity: Sequence[float], side: int) -> str:
    """Describe what was done to an image of `side` px, such as "mirrored, crop 24/32 at (3, 2)"."""
    a, b, tx, ty = similarity
    scale, degrees = math.hypot(a, b), math.degrees(math.atan2(b, a))
    words = [REGIONS[region]] if region else []
    words += ["mirrored"] if mirrored else []
    turned = abs(degrees) >= 2
    words += [f"rotated {degrees:.0f}°"] if turned else []
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


def _checked(correlation: Tensor, inside: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Correlation, -1 where the overlap is too small, and the overlap's share of the sample."""
    area = inside.mean(1)
    enough = area >= LEAST_OVERLAP * regions.mean(1)
    return torch.where(enough, correlation, -1.0), area


def _better(best: Alignment, found: Alignment) -> Alignment:
    up = found.correlation > best.correlation
    return Alignment(
        torch.where(up[:, None], found.similarity, best.similarity),
        torch.where(up, found.correlation, best.correlation),
        torch.where(up, found.area, best.area),
    )


def _step(products: Tensor) -> Tensor:
    """Change (n, 4) that best explains the sample by the image and its derivatives."""
    normal, target = products[:, 1:, 1:], products[:, 1:, :1]
    damping = normal.diagonal(dim1=1, dim2=2) * DAMPING + FLOOR
    gains = torch.linalg.solve(normal + torch.diag_embed(damping), target)[:, :, 0]
    step = gains[:, 1:] / gains[:, :1].clamp(min=0.1)
    return step.clamp(-LARGEST_STEP, LARGEST_STEP)
