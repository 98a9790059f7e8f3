"""One match for each sample out of those in several feature spaces, so that one test judges it."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from novum.metrics.novelty.nearest_matches import Matches
from novum.metrics.novelty.negative_control import PoolMatches

TAIL = 0.05  # share of the pool's largest margins whose decay is extrapolated
FEWEST = 10  # margins that a decay is estimated from
CAUTION = 2.0


class Combined(NamedTuple):
    matches: Matches  # margin: how surprising the match is, -log of a probability
    space: Tensor  # (m,) int64, the number of the space that it is of
    spaces: int


def surprise(margin: Tensor, usual: Tensor) -> Tensor:
    """-log P(a margin of the pool's own items is this large), float64 of the margin's shape.

    The empirical share, and beyond its last TAIL an exponential decay (a distance's d-th power is
    about uniform near 0), CAUTION standard errors slower than estimated. So margins of different
    spaces can be compared.
    """
    usual = usual[usual.isfinite()].sort().values
    count = max(FEWEST, round(TAIL * len(usual)))
    if count >= len(usual):
        return margin.double()
    start = usual[-count - 1]
    decay = (usual[-count:] - start).mean().clamp_min(1e-9) * (1 + CAUTION / count**0.5)
    above = len(usual) - torch.searchsorted(usual, margin)
    body = -((above.double() + 1) / (len(usual) + 1)).log()
    level = -math.log((count + 1) / (len(usual) + 1))
    return torch.where(margin > start, level + (margin - start) / decay, body)


def combine_matches(found: list[Matches], usual: list[PoolMatches]) -> Combined:
    """For each sample the match of the space in which it surprises most; `margin` says how much.

    The choice knows no labels, so the tests hold for the result as for a single space. All must be
    of one pool.
    """
    scores = torch.stack([surprise(f.margin, u.margin) for f, u in zip(found, usual, strict=True)])
    best = scores.max(0)

    def chosen(parts: list[Tensor]) -> Tensor:
        return torch.stack(parts).gather(0, best.indices[None])[0]

    matches = Matches(
        chosen([f.item for f in found]),
        chosen([f.side for f in found]),
        best.values,
        found[0].train_items,
        found[0].heldout_items,
        chosen([f.draw for f in found]),
    )
    return Combined(matches, best.indices, len(found))
