"""Matching of local features: votes for the images that share some, and a geometry that proves it.

Each feature of a sample votes for the owners of the nearest features of the pool. The images with
most votes are matched with the sample feature by feature. Any one match of two keypoints, which
have a place, a radius and a direction, is a similarity; those that most others agree with grow into
affine maps, and the features that lie where a map says count.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from novum.metrics.novelty.descriptor_index import NOWHERE, Near
from novum.metrics.novelty.local_features import (
    MOST_POINTS,
    SCALE,
    VARIANTS,
    LocalFeatures,
    mirrored_points,
    plainest,
    variant,
)

VOTE_DISTANCE = 0.4  # squared, of unit vectors
VOTE_RATIO = 0.85  # of the squared distance of the last of NEAREST
NEGATIVE_VOTES = 64  # features of a sample, the plainest, that vote for a negative of an image
CANDIDATES = 8  # images that are matched with a sample, one variant each
MATCH_DISTANCE = 0.5  # squared
MATCHES = 128  # of a sample and an image, the nearest
SEEDS = 4  # similarities that grow
GROWTH = 3  # fits of an affine map
TOLERANCE = 0.03  # half longer sides
LOOSE = 1.5  # times that, for a similarity
TURN, ZOOM = 0.6, 0.5  # radians and log scale by which keypoints may differ from the map
APART = 0.02  # half longer sides: features nearer to each other count once
LARGEST_ZOOM, LARGEST_STRETCH = 5.0, 2.5  # of one image on another
STIFFNESS = 4.0  # points' worth of a similarity in the fit of an affine map
PAIRS_AT_ONCE = 2**20  # products of descriptors


class Pairs(NamedTuple):
    """Samples, images of the pool, and the variant (b,) in which they are matched."""

    sample: Tensor
    image: Tensor
    variant: Tensor

    @classmethod
    def none(cls) -> "Pairs":
        return cls(*torch.zeros(3, 0, dtype=torch.int64))


class Placing(NamedTuple):
    """Images as they were found in samples (b,)."""

    score: Tensor  # (b,) float32: features that agree
    affine: Tensor  # (b, 2, 3): takes places in the sample, mirrored back, to the image's


class Voters(NamedTuple):
    """Features of samples in one variant, with the pool's nearest features to each."""

    features: LocalFeatures
    near: Near


def voters(samples: LocalFeatures, number: int) -> LocalFeatures:
    """Features of samples, as they are in the variant of that number, that vote in it."""
    kept = samples if number < 2 else plainest(samples, NEGATIVE_VOTES)
    return kept._replace(descriptors=variant(kept.descriptors, number))


def queries_of(counts: Tensor) -> Tensor:
    """Features (n,) that vote, in all variants, of samples that have so many."""
    return 2 * counts + (VARIANTS - 2) * counts.clamp(max=NEGATIVE_VOTES)


def candidates(found: Sequence[Voters], images: int, exclude: Tensor | None = None) -> Pairs:
    """Pairs that are worth matching, by sample.

    Args:
        found: The voters of each variant.
        images: Of the pool.
        exclude: (m,) an image that is none of a sample's candidates, or -1.
    """
    keys, weights = [], []
    for number, (features, near) in enumerate(found):
        there = near.key < NOWHERE
        owner = torch.where(there, near.key // MOST_POINTS, 0)
        last = near.distance.amax(1, keepdim=True)
        good = there & (near.distance < VOTE_DISTANCE) & (near.distance < VOTE_RATIO * last)
        own = features.owners[:, None].expand_as(owner)
        if exclude is not None:
            good &= owner != exclude[own]
        keys.append(((own * images + owner) * VARIANTS + number)[good])
        weights.append((1 - near.distance / last)[good])
    key, inverse = torch.cat(keys).unique(return_inverse=True)
    votes = torch.zeros(len(key)).index_add_(0, inverse, torch.cat(weights))
    sample = key // (images * VARIANTS)
    order = votes.argsort(descending=True, stable=True)
    order = order[sample[order].argsort(stable=True)]
    place = torch.arange(len(order)) - torch.searchsorted(sample[order], sample[order])
    key = key[order[place < CANDIDATES]]
    return Pairs(key // (images * VARIANTS), key // VARIANTS % images, key % VARIANTS)


def match(samples: LocalFeatures, pool: LocalFeatures, pairs: Pairs) -> Placing:
    """Match samples with images of the pool."""
    cost = samples.starts.diff()[pairs.sample] * pool.starts.diff()[pairs.image]
    sizes = (cost.cumsum(0) // PAIRS_AT_ONCE).unique_consecutive(return_counts=True)[1].tolist()
    parts = zip(*(x.split(sizes) for x in pairs), strict=True)
    found = [_match(samples, pool, Pairs(*part)) for part in parts]
    found.append(Placing(torch.zeros(0), torch.zeros(0, 2, 3)))
    return Placing(*(torch.cat(part) for part in zip(*found, strict=True)))


def _match(samples: LocalFeatures, pool: LocalFeatures, pairs: Pairs) -> Placing:
    own_points, own, own_there = _padded(samples, pairs.sample)
    points, other, there = _padded(pool, pairs.image)
    number = pairs.variant
    own = torch.stack([variant(x, int(v)) for x, v in zip(own, number, strict=True)])
    flip = (number % 2 == 1)[:, None, None]
    own_points = torch.where(flip, mirrored_points(own_points), own_points)
    own_points[..., 3] += math.pi * (number >= 2)[:, None]
    likeness = own.float() @ other.float().transpose(1, 2)  # (b, n, k)
    likeness = likeness.masked_fill(~there[:, None], -1)
    best = likeness.max(2)
    distance = (2 - 2 * best.values / SCALE**2).masked_fill(~own_there, 4.0)
    distance, order = distance.sort(1)
    distance, order = distance[:, :MATCHES], order[:, :MATCHES]
    a = _gather(own_points, order)
    b = _gather(points, best.indices.gather(1, order))
    return _agree(a, b, distance < MATCH_DISTANCE)


def _agree(own: Tensor, other: Tensor, there: Tensor) -> Placing:
    """The affine map of most features, from matched keypoints (b, n, 4)."""
    x, y = own[..., :2], other[..., :2]
    zoom = (other[..., 2] / own[..., 2].clamp(min=1e-9)).clamp(1e-3, 1e3)
    turn = other[..., 3] - own[..., 3]
    seeds = _similarities(x, y, zoom, turn)  # (b, n, 2, 3)
    turned = torch.remainder(turn[:, None] - turn[:, :, None] + math.pi, 2 * math.pi) - math.pi
    zoomed = (zoom[:, None] / zoom[:, :, None]).log()
    alike = (turned.abs() < TURN) & (zoomed.abs() < ZOOM) & there[:, None] & there[:, :, None]
    agrees = alike & (_residuals(seeds, x, y) < (LOOSE * TOLERANCE) ** 2)  # (b, seed, match)
    chosen = agrees.sum(2).topk(min(SEEDS, agrees.shape[1]), dim=1).indices
    seeds, alike, agrees = (_gather(t, chosen) for t in (seeds, alike, agrees))
    maps = seeds
    for _ in range(GROWTH):
        maps = _fit(seeds, x, y, agrees)
        agrees = alike & (_residuals(maps, x, y) < TOLERANCE**2)
    wide, high = torch.linalg.svdvals(maps[..., :2].float()).unbind(-1)
    plausible = (wide < LARGEST_ZOOM) & (high > 1 / LARGEST_ZOOM) & (wide < LARGEST_STRETCH * high)
    agrees &= plausible[..., None]
    score = _distinct(agrees, x, y)
    best = score.max(1)
    return Placing(best.values, _gather(maps, best.indices[:, None])[:, 0])


def _similarities(x: Tensor, y: Tensor, zoom: Tensor, turn: Tensor) -> Tensor:
    """(b, n, 2, 3) that take each keypoint to its match."""
    cos, sin = zoom * turn.cos(), zoom * turn.sin()
    linear = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    offset = y - (linear @ x[..., None])[..., 0]
    return torch.cat([linear, offset[..., None]], -1)


def _residuals(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (b, s, n) between where s maps take points and where they should."""
    across, down = (
        maps[..., i, 0, None] * x[:, None, :, 0]
        + maps[..., i, 1, None] * x[:, None, :, 1]
        + (maps[..., i, 2, None] - y[:, None, :, i])
        for i in (0, 1)
    )
    return across.square_().add_(down.square_())


def _fit(seeds: Tensor, x: Tensor, y: Tensor, agrees: Tensor) -> Tensor:
    """Least-squares affine maps of the matches that agree, drawn to the seeds."""
    places = torch.cat([x, torch.ones_like(x[..., :1])], -1)[:, None]  # (b, 1, n, 3)
    weights = agrees.float()[..., None]
    short = y[:, None] - places @ seeds.transpose(-1, -2)
    normal = (places * weights).transpose(-1, -2) @ places
    spread = torch.tensor([1.0, 1.0, 1e-3]) * STIFFNESS * 0.02
    change = torch.linalg.solve(
        normal + torch.diag_embed(spread), (places * weights).transpose(-1, -2) @ short
    )
    return seeds + change.transpose(-1, -2)


def _distinct(agrees: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Matches (b, s) that agree; those at one place in either image count once."""
    near = (torch.cdist(x, x) < APART) | (torch.cdist(y, y) < APART)
    before = near.tril(-1).float()  # (b, n, n)
    again = agrees.float() @ before.transpose(1, 2) > 0
    return (agrees & ~again).sum(2).float()


def _gather(x: Tensor, order: Tensor) -> Tensor:
    shape = order.shape + (1,) * (x.ndim - 2)
    return x.gather(1, order.view(shape).expand(*order.shape, *x.shape[2:]))


def _padded(features: LocalFeatures, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points (b, n, 4), descriptors (b, n, 128) and a mask (b, n) of those that are there."""
    counts = features.starts.diff()[rows]
    places = torch.arange(max(1, int(counts.max())))[None]
    there = places < counts[:, None]
    at = (features.starts[rows][:, None] + places).clamp(max=max(len(features.points) - 1, 0))
    return features.points[at], features.descriptors[at], there
