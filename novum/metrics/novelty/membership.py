"""Membership inference: does a model know the items it was trained on better than others?

A low loss says that a model learned from an item. It is no proof that it can reproduce it.
"""

import itertools
import math
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from novum.core.errors import InputError, NotComputable
from novum.metrics.functional.intervals import Interval
from novum.metrics.record import Measure, Metric

PERMUTATIONS = 9_999  # drawn where there are too many to go through them all
MOST_AT_ONCE = 2**22  # numbers drawn for permutations at once
EDGE = 1e-9  # nearest that an interval is sought to 0 and 1
FEWEST = 2  # items of a side

Losses = NDArray[np.float64]
Sides = tuple[ArrayLike, ArrayLike]  # of training and of held-out items


class Membership(NamedTuple):
    """Losses of training items against those of held-out ones.

    Args:
        auc: Chance that a training item's loss is below that of a held-out one.
        p: Of "which items were trained on makes no difference to the losses".
    """

    auc: Interval
    p: float


def membership_test(
    train: ArrayLike, heldout: ArrayLike, *, in_order: bool = False, seed: int = 0
) -> Membership:
    """Test losses (n,) of training against those (m,) of held-out items, lower is better known.

    Items must be exchangeable but for the training, so one of each group that is held out together;
    or else `in_order`, evenly spaced passages of one text whose end is held out.
    """
    sides = checked(train), checked(heldout)
    p = stretch_p(*sides) if in_order else permutation_p(*sides, seed=seed)
    return Membership(loss_auc(*sides), p)


def shift_test(
    train: ArrayLike, heldout: ArrayLike, *, in_order: bool = False, seed: int = 0
) -> Membership:
    """The control of `membership_test`: p-value of sides that differ as much either way.

    It is for figures of the items that the model has no part in.
    """
    lower = membership_test(train, heldout, in_order=in_order, seed=seed)
    turned = -checked(train), -checked(heldout)
    higher = membership_test(*turned, in_order=in_order, seed=seed)
    return lower._replace(p=min(1.0, 2 * min(lower.p, higher.p)))


def checked(losses: ArrayLike) -> Losses:
    """Losses (n,) in float64; NotComputable if there are too few, or one is not finite."""
    values = np.asarray(losses, np.float64)
    if values.ndim != 1:
        raise InputError(f"losses are {values.shape}: give one for each item, (n,)")
    if len(values) < FEWEST:
        raise NotComputable(f"{len(values)} items are too few: {FEWEST} of each side are needed")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise NotComputable(f"{bad:,} of {len(values):,} losses are not finite")
    return values


def loss_auc(train: ArrayLike, heldout: ArrayLike, confidence: float = 0.95) -> Interval:
    """Chance that a training item's loss is below a held-out one's; a tie counts a half.

    The score interval of Newcombe (2006, Statistics in Medicine 25, method 5), which holds at 0 and
    1 too, widened where the variance of DeLong et al. (1988) is greater than the one it assumes.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    below, above = (_shares_beyond(*sides) for sides in ((train, heldout), (heldout, train)))
    n, m, auc = len(below), len(above), float(below.mean())
    z = float(norm.ppf(0.5 + confidence / 2))
    found = float(below.var(ddof=1) / n + above.var(ddof=1) / m)
    assumed = _variance(auc, n, m)
    wider = max(1.0, found / assumed) if assumed > 0 else 1.0

    def beyond(theta: float) -> float:
        return abs(theta - auc) - z * math.sqrt(wider * _variance(theta, n, m))

    inside = min(max(auc, EDGE), 1 - EDGE)
    low = brentq(beyond, 0, inside) if auc > EDGE else 0.0
    high = brentq(beyond, inside, 1) if auc < 1 - EDGE else 1.0
    return Interval(auc, cast(float, low), cast(float, high))


def _shares_beyond(own: ArrayLike, others: ArrayLike) -> Losses:
    """Share of the others above each value, or for held-out items below: ties count a half."""
    own, others = checked(own), np.sort(checked(others))
    at_most, below = (np.searchsorted(others, own, side) for side in ("right", "left"))
    return 1 - (at_most + below) / (2 * len(others))


def _variance(auc: float, n: int, m: int) -> float:
    """Variance of Hanley & McNeil (1982), with both sizes at their mean but in the product."""
    size = (n + m) / 2 - 1
    spread = (1 - auc) / (2 - auc) + auc / (1 + auc)
    return auc * (1 - auc) * (1 + size * spread) / (n * m)


def permutation_p(
    train: ArrayLike, heldout: ArrayLike, permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """p-value of training losses as low as these, by the sum of their ranks.

    Exact: over all labellings where they are few, else over some drawn at random and the one that
    is there (Phipson & Smyth, 2010).
    """
    from scipy.stats import rankdata

    own, others = checked(train), checked(heldout)
    n, size = len(own), len(own) + len(others)
    if permutations < 1:
        raise InputError(f"{permutations} permutations give no p-value: take some, such as 999")
    ranks = rankdata(np.concatenate([own, others]))  # halves at the finest: sums are exact
    observed = ranks[:n].sum()
    if math.comb(size, n) <= permutations:
        sums = np.array([sum(chosen) for chosen in itertools.combinations(ranks, n)])
        return float((sums <= observed).mean())
    generator = np.random.default_rng(seed)
    lower, step = 1, max(1, MOST_AT_ONCE // size)
    for first in range(0, permutations, step):
        drawn = generator.random((min(step, permutations - first), size), np.float32)
        chosen = drawn.argpartition(n - 1, axis=1)[:, :n]
        lower += int((ranks[chosen].sum(1) <= observed).sum())
    return lower / (1 + permutations)


def stretch_p(train: ArrayLike, heldout: ArrayLike) -> float:
    """p-value of held-out losses as high as these, for passages in the order of one long text.

    Both are laid end to end on a ring, as `exchangeability_test` has it: p is the share of its
    stretches as long as the held-out text whose losses are as high. Neighbours may be alike.
    """
    from scipy.stats import rankdata

    own, others = checked(train), checked(heldout)
    ranks = rankdata(np.concatenate([own, others]))
    ring = np.concatenate([[0.0], ranks, ranks[: len(others) - 1]]).cumsum()
    sums = ring[len(others) :] - ring[: -len(others)]  # of each stretch, by where it begins
    return float((sums >= sums[len(own)]).mean())


def conformal_p(train: ArrayLike, heldout: ArrayLike) -> Losses:
    """p-value (n,) of each training item: how often an item that was held out is as low.

    Valid for any losses if items are exchangeable (Vovk et al., 2005; Bates et al., 2023).
    """
    own, others = checked(train), np.sort(checked(heldout))
    return (1 + np.searchsorted(others, own, "right")) / (1 + len(others))


def standing_out(train: ArrayLike, heldout: ArrayLike, *others: Sides) -> Losses:
    """q-value (n,) of each training item: the rate of errors if all up to it are named.

    By the rule of Benjamini & Hochberg (1995) from `conformal_p`, the smallest that the losses give
    and those of `others`, of the same items, times their number.
    """
    from scipy.stats import false_discovery_control

    every = [conformal_p(*sides) for sides in ((train, heldout), *others)]
    p = np.minimum.reduce(every) * len(every)
    return false_discovery_control(p.clip(max=1))


MEASURES = (
    Measure(
        (
            Metric(
                "membership_auc",
                "Known by its loss",
                "How often the loss of a training item is below that of a held-out one; 50% is"
                " chance. Above, the model knows what it was trained on, which is no proof that it"
                " reproduces any of it.",
                "novelty",
                "50%",
                unit="share",
            ),
            Metric(
                "calibrated_auc",
                "Known by its gain",
                "The same of losses less those of an earlier checkpoint, or of a twin, which are"
                " high where an item is hard.",
                "novelty",
                "50%",
                unit="share",
            ),
            Metric(
                "membership_p",
                "Membership p",
                "How often a random choice of training items looks as well known to the model.",
                "novelty",
                "not near 0",
                unit="p-value",
            ),
            Metric(
                "items_known",
                "Items known",
                "Training items whose losses are lower than chance gives, of those measured.",
                "novelty",
                "0",
                unit="count",
            ),
        ),
        position=210,
    ),
)
