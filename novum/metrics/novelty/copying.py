"""Copy test and copy rate: which samples are copies, and what share, with error rates.

A sample nearest to a training item is held against the samples nearest to held-out items, which
cannot be copies. Only matches are read (matches.py), so any score of likeness can be tested.
"""

import math
from bisect import bisect_left, bisect_right
from typing import Any, NamedTuple

import torch
from torch import Tensor

from novum.core.errors import InputError, NotComputable
from novum.metrics.functional.intervals import Interval, clopper_pearson_interval
from novum.metrics.novelty.nearest_matches import (
    TRAIN,
    Matches,
    find_clusters,
    find_matches,
    margin_of,
)
from novum.metrics.record import Measure, Metric

RATIOS = (2.0, 1.5, 1.25, 1.1, 1.0)


class CopyTest(NamedTuple):
    q_values: Tensor  # (m,) float64: the smallest q at which the sample is flagged
    flagged: Tensor  # (m,) bool
    train_rows: Tensor  # (m,) int64: the training row it matches, -1 where that is a held-out one
    threshold: float  # the smallest margin flagged, inf if there is none


def copy_test(train: Tensor, heldout: Tensor, fake: Tensor, q: float = 0.1) -> CopyTest:
    """Flag the samples that copy a training item.

    Of the training items named, an expected share of at most q is named in error, for any
    generator. To name any takes |train| / |heldout| / q copied items: held-out data is power.
    """
    return copy_test_from_matches(find_matches(train, heldout, fake), q)


def copy_test_from_matches(matches: Matches, q: float = 0.1) -> CopyTest:
    """Target-decoy competition (Elias & Gygi, 2007; +1: Barber & Candès, 2015) of unequal sides.

    If t training and h held-out items compete by chance, V+ / (1 + V-) is t / (h + 1) at most on
    average, V+ and V- being the wins of each side at any threshold from largest margin down.
    """
    if not 0 < q < 1:
        raise InputError(f"q = {q} is not a share of errors: take one between 0 and 1, such as 0.1")
    clusters = find_clusters(matches)
    targets = clusters.margin[clusters.trained].flip(0)  # ascending
    decoys = clusters.margin[~clusters.trained].flip(0)
    wins = len(targets) - torch.searchsorted(targets, targets)
    losses = len(decoys) - torch.searchsorted(decoys, targets)
    odds = matches.train_items / (matches.heldout_items + 1)
    best = (odds * (1 + losses) / wins.double()).clamp(max=1).cummin(0).values
    below = torch.searchsorted(targets, matches.margin, right=True)  # thresholds it would pass
    q_values = torch.cat([best.new_ones(1), best])[below]
    q_values[matches.side != TRAIN] = 1
    flagged = q_values <= q
    threshold = float(matches.margin[flagged].min()) if flagged.any() else math.inf
    train_rows = matches.item.where(matches.side == TRAIN, -1)
    return CopyTest(q_values, flagged, train_rows, threshold)


def copy_rate(train: Tensor, heldout: Tensor, fake: Tensor, ratio: float = 2.0) -> Interval:
    """Share of samples that copy: `ratio` times nearer to a training item than to others.

    With 95% confidence each, at least `low` of these samples are copies and the generator copies
    at a rate of at most `high`.
    """
    return copy_rate_from_matches(find_matches(train, heldout, fake), margin_of(ratio))


def copy_rate_from_matches(matches: Matches, margin: float) -> Interval:
    """The excess of training matches at this margin or more over what chance gives.

    The matches left, once the copied items are taken out, are as many draws from the pool's items.
    `low` asks how few copies leave draws that chance explains, taking the items with the fewest
    samples, and `high` how many; it also allows for the sampling error
    of m samples (Clopper-Pearson).
    """
    if not matches.heldout_items:
        raise NotComputable("there is no held-out item that training lacks: hold out other data")
    m, clusters = len(matches.margin), find_clusters(matches, margin)
    sizes = clusters.size[clusters.trained].sort().values
    decoys = clusters.size[~clusters.trained]
    by_chance = _explained_by_chance(matches, len(sizes), len(decoys), 0.05)
    low = int(sizes[: len(sizes) - by_chance.most].sum()) / m
    high = clopper_pearson_interval(int(sizes[by_chance.fewest :].sum()), m).high
    odds = matches.train_items / matches.heldout_items
    value = (int(sizes.sum()) - odds * int(decoys.sum())) / m
    return Interval(min(max(value, low), high), low, high)


def drawn_to_training(matches: Matches, ratios: tuple[float, ...] = RATIOS) -> float:
    """With 95% confidence at least this share of the samples owes its match to training.

    The largest `low` over the ratios, each at its part of the 5%: copies that are faint, such as a
    GAN's of a small training set, show at a small ratio alone.
    """
    part = 0.05 / len(ratios)
    return max(_lower_bound(matches, math.log(ratio), part) for ratio in ratios)


def _lower_bound(matches: Matches, margin: float, error: float) -> float:
    clusters = find_clusters(matches, margin)
    sizes = clusters.size[clusters.trained].sort().values
    decoys = int((~clusters.trained).sum())
    by_chance = _explained_by_chance(matches, len(sizes), decoys, error)
    return int(sizes[: len(sizes) - by_chance.most].sum()) / len(matches.margin)


class _Explained(NamedTuple):
    fewest: int
    most: int


def _explained_by_chance(matches: Matches, targets: int, decoys: int, error: float) -> _Explained:
    """Upper bound of matched training items that are not copies, but for 2.5% and for `error`.

    If v are not, the draws are v + `decoys` of the pool without the copied items, and the number
    of held-out items among them is hypergeometric.
    """
    from scipy.stats import hypergeom

    def drawn(v: int) -> Any:
        pool = matches.train_items - targets + v + matches.heldout_items
        return hypergeom(pool, matches.heldout_items, v + decoys)

    # an item and a draw more make more held-out ones likelier, so both are in order of v
    every = range(targets + 1)
    fewest = bisect_right(every, 0.025, key=lambda v: drawn(v).sf(decoys - 1))
    most = bisect_left(every, -error, key=lambda v: -drawn(v).cdf(decoys)) - 1
    return _Explained(min(fewest, targets), most)


MEASURES = (
    Measure(
        (
            Metric(
                "copy_rate",
                "Copy rate",
                "Samples far nearer to one training item than to others, beyond what chance gives;"
                " of text, passages with 50 characters in a row from it.",
                "novelty",
                "0",
                unit="share",
            ),
            Metric(
                "drawn_to_training",
                "Drawn to training",
                "With 95% confidence at least this share of the samples owes its nearest item to"
                " training; more than copies do: faint likeness counts too.",
                "novelty",
                "0",
                unit="share",
            ),
            Metric(
                "copies_flagged",
                "Copies flagged",
                "Samples named as copies, one by one.",
                "novelty",
                "0",
                unit="count",
            ),
            Metric(
                "items_flagged",
                "Items flagged",
                "Training items of which samples are named as copies.",
                "novelty",
                "0",
                unit="count",
            ),
            Metric(
                "items_copied",
                "Items overdrawn",
                "Training items that draw more samples than held-out items do by chance.",
                "novelty",
                "0",
                unit="count",
            ),
        ),
        position=200,
    ),
)
