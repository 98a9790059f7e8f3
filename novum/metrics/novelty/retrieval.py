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

from novum.core.bars import progress as show_progress

LOW, GRID = 16, 8  # sides of the image that is described, and of a view
WIDTH = 64  # numbers a view is described by
PER_FAMILY = 20  # candidates that each family of views gives to each sample
POOL_BLOCK, TILE, SAMPLE_BLOCK = 4096, 1024, 512  # a tile of scores stays in the CPU's cache


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
LEFT, RIGHT = View(x=-0.5, width=0.5), View(x=0.5, width=0.5)
UPPER, LOWER = View(y=-0.5, height=0.5), View(y=0.5, height=0.5)
HALVES = [LEFT, RIGHT, UPPER, LOWER]


def windows(side: int, *offsets: float) -> list[View]:
    return [window(side, left, top) for top in offsets for left in offsets]


FAR = [view for view in windows(20, 0, 3, 6, 9, 12) if max(abs(view.x), abs(view.y)) > 0.3]

# pairs of (view of the sample, view of the pool image)
FAMILIES: list[list[tuple[View, View]]] = [
    [(WHOLE, pool) for pool in (WHOLE, *windows(28, 0, 2, 4))],
    [(WHOLE, pool) for pool in windows(24, 0, 2, 4, 6, 8)],
    [(WHOLE, pool) for pool in windows(16, 0, 8, 16)],
    [(window(26, 3, 3), pool) for pool in windows(26, 0, 1.5, 3, 4.5, 6)],
    [(window(20, 6, 6), pool) for pool in FAR],
    [(view._replace(degrees=turn), view) for view, turns in TURNS.items() for turn in turns],
    [pair for sides in ((LEFT, RIGHT), (UPPER, LOWER)) for pair in itertools.product(sides, sides)],
]


class Start(NamedTuple):
    """Placing that a pair of views implies: mirrored or not, the region it covers, and the
    similarity (a, b, tx, ty) from places in the sample, once mirrored back, to the pool image's."""

    mirrored: bool
    region: int
    similarity: tuple[float, float, float, float]


class Candidates(NamedTuple):
    rows: Tensor  # (m, k) int64 of the pool; a row may come back from another family
    starts: Tensor  # (m, k) int64 of STARTS


def similarity_between(sample: View, pool: View) -> tuple[float, float, float, float]:
    """x -> (a + ib) x + (tx + i ty) takes the sample's window onto the pool image's."""
    scale, turn = pool.width / sample.width, math.radians(pool.degrees - sample.degrees)
    factor = scale * complex(math.cos(turn), math.sin(turn))
    offset = complex(pool.x, pool.y) - factor * complex(sample.x, sample.y)
    return factor.real, factor.imag, offset.real, offset.imag


def _start(mirrored: bool, sample: View, pool: View) -> Start:
    region = 1 + HALVES.index(sample) if sample in HALVES else 0
    return Start(mirrored, region, similarity_between(sample, pool))


STARTS = [
    _start(mirrored, *pair) for family in FAMILIES for mirrored in (False, True) for pair in family
]
SAMPLE_VIEWS = list(dict.fromkeys(sample for family in FAMILIES for sample, _ in family))
POOL_VIEWS = list(dict.fromkeys(pool for family in FAMILIES for _, pool in family))


class Descriptions:
    """Views of images as unit vectors; the directions in which the pool varies most, evened out.

    A view loses each channel's mean, is projected on the pool's principal components, and each of
    these is divided by the fourth root of its variance: half-way to whitening.
    """

    def __init__(self, pool: Tensor) -> None:
        c, device = pool.shape[1], pool.device
        whole = _view_map(WHOLE).to(device)
        covariance = torch.zeros(c * GRID**2, c * GRID**2, dtype=torch.float64, device=device)
        for block in pool.split(POOL_BLOCK):
            seen = (_low(block).unflatten(1, (c, -1)) @ whole).flatten(1)
            covariance += (seen.T @ seen).double()
        variances, directions = torch.linalg.eigh(covariance)
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


def retrieve(
    samples: Tensor,
    pool: Tensor,
    descriptions: Descriptions,
    exclude: Tensor | None = None,
    progress: bool = True,
) -> Candidates:
    """Candidates of uint8 samples (m, c, 32, 32) among more than PER_FAMILY pool images.

    Args:
        exclude: (m,) a row of the pool that is none of a sample's candidates, or -1.
    """
    seen = [  # in blocks of one size, as the last bit varies with it
        torch.cat([descriptions(part, SAMPLE_VIEWS) for part in x.split(SAMPLE_BLOCK)], 1)
        for x in (samples, samples.flip(-1))
    ]
    best = [_Best(len(samples), samples.device) for _ in FAMILIES]
    with show_progress(
        total=len(pool), doing="candidates", unit="img", delay=5, disable=not progress
    ) as bar:
        for first in range(0, len(pool), POOL_BLOCK):
            pool_views = descriptions(pool[first : first + POOL_BLOCK], POOL_VIEWS)
            for start in range(0, len(samples), SAMPLE_BLOCK):
                part = slice(start, start + SAMPLE_BLOCK)
                out = None if exclude is None else exclude[part] - first
                pairs = _pairs([views[:, part] for views in seen], pool_views)
                for family, kept in zip(pairs, best, strict=True):
                    kept.add(part, first, *_family_best(family, out))
            bar.update(pool_views.shape[1])
    sizes = [2 * len(family) for family in FAMILIES]
    offsets = itertools.accumulate(sizes, initial=0)
    return Candidates(
        torch.cat([kept.rows for kept in best], 1),
        torch.cat([kept.pairs + offset for kept, offset in zip(best, offsets, strict=False)], 1),
    )


class _Best:
    """The best candidates so far of one family."""

    def __init__(self, samples: int, device: torch.device) -> None:
        self.scores = torch.full((samples, PER_FAMILY), -torch.inf, device=device)
        self.rows = torch.zeros(samples, PER_FAMILY, dtype=torch.int64, device=device)
        self.pairs = torch.zeros_like(self.rows)

    def add(self, part: slice, first: int, scores: Tensor, columns: Tensor, pairs: Tensor) -> None:
        scores = torch.cat([self.scores[part], scores], 1)
        rows = torch.cat([self.rows[part], columns + first], 1)
        pairs = torch.cat([self.pairs[part], pairs], 1)
        self.scores[part], kept = scores.topk(PER_FAMILY)
        self.rows[part], self.pairs[part] = rows.gather(1, kept), pairs.gather(1, kept)


Pair = tuple[Tensor, Tensor]  # descriptions of a sample view (m, d) and of a pool view (n, d)


def _pairs(seen: list[Tensor], pool_views: Tensor) -> Iterator[list[Pair]]:
    """Each family's pairs of descriptions, in the order of STARTS."""
    for family in FAMILIES:
        yield [
            (views[SAMPLE_VIEWS.index(sample)], pool_views[POOL_VIEWS.index(pool)])
            for views in seen
            for sample, pool in family
        ]


def _family_best(pairs: list[Pair], exclude: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, columns and pairs of the pool images whose best pair of views is most alike."""
    tiles = []
    for start in range(0, len(pairs[0][1]), TILE):
        columns = slice(start, start + TILE)
        tile = pairs[0][0] @ pairs[0][1][columns].T
        for sample, pool in pairs[1:]:
            torch.maximum(tile, sample @ pool[columns].T, out=tile)
        tiles.append(tile)
    scores = torch.cat(tiles, 1)
    if exclude is not None:
        row = ((exclude >= 0) & (exclude < scores.shape[1])).nonzero()[:, 0]
        scores[row, exclude[row]] = -torch.inf
    scores, columns = scores.topk(min(PER_FAMILY, scores.shape[1]))
    each = [(sample[:, None] * pool[columns]).sum(2) for sample, pool in pairs]
    return scores, columns, torch.stack(each).argmax(0)


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
