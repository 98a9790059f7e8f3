"""Candidate retrieval: a few images that a sample may be an altered copy of, by coarse views.

A view is a square, half or turned window of an image, seen at 8 x 8. Samples (and their mirror
images) and pool images are compared view by view, in families of pairs of views: each family
guesses a kind of alteration, and gives its own candidates and the starting points of alignment. A
view is a linear map of the image at 16 x 16, so describing a block of images is one matrix product.
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from novum.core.precision import full_precision
from novum.metrics.candidate_filter import (
    exact_sums,
    gamma,
    padded,
    screening_dtypes,
    values_at_once,
)
from novum.metrics.neighbours import halved_sum
from novum.metrics.novelty.alignment import REGIONS

LOW, GRID = 16, 8  # sides of the image that is described, and of a view
WIDTH = 64  # numbers a view is described by
PER_FAMILY = 20  # candidates that each family of views gives to each sample
TILE, SAMPLE_BLOCK = 512, 512  # a tile of scores stays in the CPU's cache
FIXED_POINT = 2.0**16  # of covariances, whose sums over 10^9 images int64 holds
NOWHERE = 2**62  # comes after all positions


class View(NamedTuple):
    """A window: centre and half sides in [-1, 1] coordinates, turned by `degrees`."""

    x: float = 0.0
    y: float = 0.0
    width: float = 1.0
    height: float = 1.0
    degrees: float = 0.0


def window(side: float, left: float, top: float) -> View:
    """A square window in 32nds of the image's side."""
    return View((left + side / 2) / 16 - 1, (top + side / 2) / 16 - 1, side / 32, side / 32)


WHOLE, MIDDLE = View(), window(24, 4, 4)
# degrees by which a view is turned in the sample
TURNS = {MIDDLE: (-15, -10, -5, 5, 10, 15), window(20, 6, 6): (-27, 27), WHOLE: (90, 180, 270)}
PARTS = [View(x / 2, y / 2, 0.5 if x else 1, 0.5 if y else 1) for x, y in REGIONS]
LEFT, RIGHT, UPPER, LOWER, *QUARTERS = PARTS[1:]


def windows(side: int, *offsets: float) -> list[View]:
    return [window(side, left, top) for top in offsets for left in offsets]


SQUEEZED = [View(width=0.6), View(height=0.6)]
FAR = [view for view in windows(20, 0, 3, 6, 9, 12) if max(abs(view.x), abs(view.y)) > 0.3]

Family = list[tuple[View, View]]  # of the sample, and of the pool image

FAMILIES: list[Family] = [
    [(WHOLE, pool) for pool in (WHOLE, *windows(28, 0, 2, 4), *SQUEEZED)],
    [(WHOLE, pool) for pool in windows(24, 0, 2, 4, 6, 8)],
    [(WHOLE, pool) for pool in windows(16, 0, 8, 16)],
    [(window(26, 3, 3), pool) for pool in windows(26, 0, 1.5, 3, 4.5, 6)],
    [(window(20, 6, 6), pool) for pool in FAR],
    [(view._replace(degrees=turn), view) for view, turns in TURNS.items() for turn in turns],
    [
        (s, WHOLE)
        for s in (*windows(26, 0, 6), window(26, 3, 3), *windows(22, 0, 10 / 3, 20 / 3, 10))
    ],
    [(sample, WHOLE) for sample in windows(16, 0, 4, 8, 12, 16)],
    list(itertools.product(QUARTERS, QUARTERS)),
    [pair for sides in ((LEFT, RIGHT), (UPPER, LOWER)) for pair in itertools.product(sides, sides)],
]


class Start(NamedTuple):
    """Placing that a pair of views implies: mirrored or not, the region it covers, and the affine
    map, by rows, from places in the sample, once mirrored back, to the pool image's."""

    mirrored: bool
    region: int
    affine: tuple[float, float, float, float, float, float]


def affine_between(sample: View, pool: View) -> Tensor:
    """The map (2, 3) that takes the sample's window onto the pool image's."""
    there, here = (torch.diag(torch.tensor([v.width, v.height])) for v in (pool, sample))
    linear = _turn(pool.degrees) @ there @ here.inverse() @ _turn(-sample.degrees)
    offset = torch.tensor([pool.x, pool.y]) - linear @ torch.tensor([sample.x, sample.y])
    return torch.cat([linear, offset[:, None]], 1)


def _turn(degrees: float) -> Tensor:
    turn = math.radians(degrees)
    return torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])


def _start(mirrored: bool, sample: View, pool: View) -> Start:
    region = PARTS.index(sample) if sample in PARTS and pool != WHOLE else 0
    return Start(mirrored, region, tuple(affine_between(sample, pool).flatten().tolist()))


STARTS = [
    _start(mirrored, *pair) for family in FAMILIES for mirrored in (False, True) for pair in family
]
FIRST_PAIRS = list(itertools.accumulate((2 * len(f) for f in FAMILIES[:-1]), initial=0))
SAMPLE_VIEWS = list(dict.fromkeys(sample for family in FAMILIES for sample, _ in family))
# of what `Search` keeps: descriptions of both sides, and rounded; scores, positions and starts
BYTES_A_SAMPLE = 2 * len(SAMPLE_VIEWS) * WIDTH * (4 + 4) + len(FAMILIES) * PER_FAMILY * (4 + 8 + 8)
POOL_VIEWS = list(dict.fromkeys(pool for family in FAMILIES for _, pool in family))


class Tile(NamedTuple):
    """Some images of the pool, always TILE of them: kernels order sums by the shape."""

    images: Tensor  # uint8 (TILE, c, 32, 32), 0 where there is none
    positions: Tensor  # (TILE,) int64 in the pool, -1 where there is none


def tiles(images: Tensor, positions: Tensor) -> Iterator[Tile]:
    """Images of the pool, and others, which have no position in it, in tiles."""
    for start in range(0, len(images), TILE):
        part, at = images[start : start + TILE], positions[start : start + TILE]
        shown = part.new_zeros(TILE, *part.shape[1:])
        shown[: len(part)] = part.masked_fill((at < 0)[:, None, None, None], 0)
        yield Tile(shown, torch.cat([at, at.new_full((TILE - len(at),), -1)]))


def covariance(images: Tensor) -> Tensor:
    """Summed products (c * 64, c * 64) of the images of a tile, seen whole, as fixed-point numbers.

    Integers add up to the same whatever their order.
    """
    whole = _view_map(WHOLE).to(images.device)
    seen = (_low(images).unflatten(1, (images.shape[1], -1)) @ whole).flatten(1)
    return ((seen.T @ seen).double() * FIXED_POINT).round().long()


class Descriptions:
    """Views of images as unit vectors; the directions in which the pool varies most, evened out.

    A view loses each channel's mean, is projected on the pool's principal components, and each of
    these is divided by the fourth root of its variance: half-way to whitening.

    Args:
        summed: `covariance` of all tiles of the pool.
    """

    def __init__(self, summed: Tensor) -> None:
        c, device = len(summed) // GRID**2, summed.device
        variances, directions = torch.linalg.eigh(summed.double() / FIXED_POINT)
        variances, directions = variances.flip(0)[:WIDTH], directions.flip(1)[:, :WIDTH]
        scales = (variances.clamp(min=0) + 1e-4 * variances[0] + 1e-12) ** -0.25
        projection = (directions * scales).float().unflatten(0, (c, -1))  # (c, 64, d)
        self.maps = {
            view: torch.einsum("ij,cjd->cid", _view_map(view).to(device), projection).flatten(0, 1)
            for view in {*SAMPLE_VIEWS, *POOL_VIEWS}
        }

    def __call__(self, images: Tensor, views: list[View]) -> Tensor:
        """uint8 (n, c, 32, 32) -> unit vectors (views, n, d)."""
        described = _low(images) @ torch.cat([self.maps[view] for view in views], 1)
        described = described.view(len(images), len(views), -1).transpose(0, 1)
        return F.normalize(described, dim=2).contiguous()


class Search:
    """The best candidates so far of each sample, in each family, of the tiles that were seen.

    Products of rounded descriptions leave out what cannot be a candidate; the others are scored in
    float32. Of scores that are equal the first position in the pool counts, which knows no labels:
    so the candidates do not depend on who saw which tile, or when.

    Args:
        samples: uint8 (m, c, 32, 32).
        exclude: (m,) a position in the pool that is none of a sample's candidates, or -1.
    """

    def __init__(
        self, samples: Tensor, descriptions: Descriptions, exclude: Tensor | None = None
    ) -> None:
        self.descriptions, self.exclude = descriptions, exclude
        self.seen = torch.stack(
            [  # in blocks of one size, as the last bit varies with it
                torch.cat([descriptions(part, SAMPLE_VIEWS) for part in x.split(SAMPLE_BLOCK)], 1)
                for x in (samples, samples.flip(-1))
            ]
        )
        self.rounded, self.error = _rounded(self.seen)
        self.best = [Best.none(len(samples), samples.device) for _ in FAMILIES]

    def add(self, tile: Tile) -> None:
        """Look for candidates among the images of a tile."""
        views = self.descriptions(tile.images, POOL_VIEWS)
        rounded, error = _rounded(views)
        slack = (1.02 * (self.error.amax(0) + error.max() + _rounding(rounded.dtype)))[:, None]
        for start in range(0, self.seen.shape[2], SAMPLE_BLOCK):
            part = slice(start, start + SAMPLE_BLOCK)
            none = (tile.positions < 0)[None]
            if self.exclude is not None:
                none = none | (tile.positions[None] == self.exclude[part, None])
            own = self.rounded[:, :, part]
            for family, best, first in zip(FAMILIES, self.best, FIRST_PAIRS, strict=True):
                known = Best(*(x[part] for x in best))
                scores = _largest(family, own, rounded).masked_fill_(none, -1)
                hits = _hits(scores, known.scores[:, -1:], slack[part])
                step = max(1, values_at_once(views.device) // (len(family) * views.shape[2]))
                for some in hits.split(step):
                    each = _each(family, self.seen[:, :, part], views, *some.T)
                    _take_in(known, some[:, 0], tile.positions[some[:, 1]], each, first)


class Best(NamedTuple):
    """Candidates of samples in one family, the best first."""

    scores: Tensor  # (m, PER_FAMILY) float32; -inf for none
    positions: Tensor  # (m, PER_FAMILY) int64 of the pool
    starts: Tensor  # (m, PER_FAMILY) int64 of STARTS

    @classmethod
    def none(cls, samples: int, device: torch.device) -> "Best":
        scores = torch.full((samples, PER_FAMILY), -torch.inf, device=device)
        nothing = torch.zeros(samples, PER_FAMILY, dtype=torch.int64, device=device)
        return cls(scores, nothing + NOWHERE, nothing)


def merge(parts: list[Best]) -> Best:
    """The best of what was found by several."""
    return _first(*(torch.cat(each, 1) for each in zip(*parts, strict=True)))


def _first(scores: Tensor, positions: Tensor, starts: Tensor) -> Best:
    order = positions.argsort(1)
    by_score = scores.gather(1, order).argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, by_score)[:, :PER_FAMILY]
    return Best(*(x.gather(1, order) for x in (scores, positions, starts)))


def _rounded(described: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors as products take them, and the largest error (..., n) over the views."""
    rounded = described.to(screening_dtypes(described.device)[0])
    return rounded, (described - rounded).norm(dim=-1).amax(-2)


def _rounding(dtype: torch.dtype) -> float:
    """Largest error of a product of unit vectors, and of its sum in float32."""
    return torch.finfo(dtype).eps / 2 + 4 * gamma(WIDTH + 2, torch.float32)


def _largest(family: Family, samples: Tensor, views: Tensor) -> Tensor:
    """The largest product (m, n) of a family's pairs, 0 if none is above."""
    shape = samples.shape[2], views.shape[1]
    largest, product = torch.zeros(2, *shape, dtype=views.dtype, device=views.device)
    with exact_sums(), full_precision(views.device):
        for own in samples:
            for sample, pool in family:
                one, other = own[SAMPLE_VIEWS.index(sample)], views[POOL_VIEWS.index(pool)]
                torch.mm(one, other.T, out=product)
                torch.maximum(_ordered(largest), _ordered(product), out=_ordered(largest))
    return largest


def _ordered(x: Tensor) -> Tensor:
    """From 0 up, bfloat16 is in the order of its bits, and integers compare faster."""
    return x.view(torch.int16) if x.dtype == torch.bfloat16 else x


def _hits(scores: Tensor, limit: Tensor, slack: Tensor) -> Tensor:
    """Places (k, 2) in rounded scores, -1 where there is none, of all that may exceed the limit."""
    if not bool(limit.isfinite().all()):  # at first
        count = min(PER_FAMILY, scores.shape[1])
        limit = limit.maximum(scores.topk(count).values[:, -1:].float() - slack)
    return (scores >= (limit - slack).clamp(min=0)).nonzero()


def _each(family: Family, samples: Tensor, views: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Products (pairs, k) of samples and pool images in each pair of views, as in STARTS."""
    found = []
    for own in samples:
        for sample, pairs in itertools.groupby(family, key=lambda pair: pair[0]):
            numbers = [POOL_VIEWS.index(pool) for _, pool in pairs]
            known = (
                views[numbers].index_select(1, column)
                if len(numbers) > 1
                else views[numbers[0]].index_select(0, column)[None]
            )
            found.append(
                halved_sum(known.mul_(own[SAMPLE_VIEWS.index(sample)].index_select(0, row)))
            )
    return torch.cat(found)


def _take_in(best: Best, row: Tensor, positions: Tensor, each: Tensor, first: int) -> None:
    """Take in pool images, by their products with the samples of ascending rows."""
    scores, pair = each.max(0)
    kept = scores >= best.scores[row, -1]
    row, scores, pair, positions = (x[kept] for x in (row, scores, pair, positions))
    if not len(row):
        return
    rows, own = row.unique_consecutive(return_inverse=True)
    new = Best(
        padded(own, len(rows), scores, -torch.inf),
        padded(own, len(rows), positions, NOWHERE),
        padded(own, len(rows), pair + first, 0),
    )
    merged = merge([Best(*(x[rows] for x in best)), new])
    for x, y in zip(best, merged, strict=True):
        x[rows] = y


def _low(images: Tensor) -> Tensor:
    """(n, c, 32, 32) -> float (n, c * 256) at half size."""
    return F.avg_pool2d(images.float(), images.shape[-1] // LOW).flatten(1)


def _view_map(view: View) -> Tensor:
    """(256, 64): what takes a channel at 16 x 16 to its view at 8 x 8 without the mean."""
    basis = torch.eye(LOW**2).view(-1, 1, LOW, LOW)
    turn = math.radians(view.degrees)
    at = (torch.arange(GRID) + 0.5) / GRID * 2 - 1
    x, y = view.width * at[None, :], view.height * at[:, None]
    grid = torch.stack(
        [
            view.x + math.cos(turn) * x - math.sin(turn) * y,
            view.y + math.sin(turn) * x + math.cos(turn) * y,
        ],
        -1,
    )
    grid = grid.expand(len(basis), -1, -1, -1)
    seen = F.grid_sample(basis, grid, padding_mode="border", align_corners=False).flatten(1)
    return seen - seen.mean(1, keepdim=True)
