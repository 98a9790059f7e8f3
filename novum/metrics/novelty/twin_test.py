"""Counterfactual memorisation: how much more one of two twins makes of an item than the other.

Twins are two models of which each learns the half of the data that the other holds out. The lead of
an item is any figure of it, twin a's less twin b's. If it makes no difference to an item which twin
learned from it, its half is a coin that its lead knows nothing of; memorisation is a lead of the
item's own twin (Feldman & Zhang, 2020; of likelihoods van den Burg & Williams, 2021). That one twin
is better all over is no lead: leads are taken from their median.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from novum.core.errors import InputError, NotComputable
from novum.datamodules.halves import Deal, deal_units
from novum.metrics.functional.intervals import Interval, normal_interval, wilson_interval

PERMUTATIONS = 999
FEWEST_UNITS = 20  # below which no test could tell anything at 1%

Figures = NDArray[np.float64]


class TwinTest(NamedTuple):
    """Memorisation of the items that were looked at, and of the units that they are of.

    Args:
        memorised: (n,) Lead of each item's own twin.
        mean: Of these, with an interval over units.
        differ: Units in which the twins differ.
        ahead: Share of these whose own twin is ahead; 0.5 by chance.
        p: Of "it makes no difference which twin learned from an item", if own twins are ahead.
        item: (u,) Row of the item that stands for each unit: that of the largest lead, whichever
            twin has it.
        score: (u,) Memorisation of these items.
        q: (u,) Share of the units up to this one that are named in error, if all these are named.
    """

    memorised: Figures
    mean: Interval
    differ: int
    ahead: Interval
    p: float
    item: NDArray[np.int64]
    score: Figures
    q: Figures


def twin_test(
    lead: ArrayLike, unit: ArrayLike, deal: Deal, *, ranks: bool = True, seed: int = 0
) -> TwinTest:
    """Test leads (n,) of twin a over twin b on some items of these units (n,).

    The test is exact: halves are dealt again as they were, and the leads of own twins summed.

    Args:
        ranks: Sum the ranks of leads, which shows small leads on many items; else leads as they
            are, which shows large ones on a few.

    Raises:
        NotComputable: If there are too few units.
        InputError: If a lead is not finite.
    """
    lead, unit = np.asarray(lead, np.float64), np.asarray(unit, np.int64)
    if lead.shape != unit.shape or lead.ndim != 1:
        raise InputError(f"leads are {lead.shape} and units {unit.shape}: give one of each an item")
    if bad := int((~np.isfinite(lead)).sum()):
        raise NotComputable(f"{bad:,} of {len(lead):,} figures are not finite")
    known, place = np.unique(unit, return_inverse=True)
    if len(known) < FEWEST_UNITS:
        raise NotComputable(f"{len(known)} {deal.kind} are too few: {FEWEST_UNITS} are needed")
    counts = np.bincount(place)
    lead = lead - np.median(np.bincount(place, lead) / counts)
    of_unit = np.bincount(place, lead) / counts
    sign = np.where(deal.in_a, 1.0, -1.0)
    memorised = lead * sign[unit]
    item = _largest(np.abs(lead), place, len(known))
    return TwinTest(
        memorised,
        _mean(memorised, place),
        int((of_unit != 0).sum()),
        _ahead(of_unit * sign[known]),
        _p(_ranked(of_unit) if ranks else of_unit, known, deal, seed),
        item,
        memorised[item],
        mirror_q(memorised[item]),
    )


def _largest(size: Figures, place: NDArray, units: int) -> NDArray[np.int64]:
    """Row of the largest of each unit."""
    order = np.lexsort((size, place))
    return order[np.searchsorted(place[order], np.arange(units), "right") - 1]


def _mean(memorised: Figures, place: NDArray) -> Interval:
    """Mean of the items, with an interval that takes units for the draws."""
    value = float(memorised.mean())
    error = math.sqrt(float(np.square(np.bincount(place, memorised - value)).sum()))
    return normal_interval(value, error / len(memorised))


def _ahead(of_unit: Figures) -> Interval:
    """Share of the units in which twins differ whose own twin is ahead."""
    differ = of_unit != 0
    if not differ.any():
        return Interval(0.5, 0.0, 1.0)
    return wilson_interval(int((of_unit > 0).sum()), int(differ.sum()))


def _ranked(of_unit: Figures) -> Figures:
    """Signed ranks (Wilcoxon, 1945)."""
    from scipy.stats import rankdata

    return np.sign(of_unit) * rankdata(np.abs(of_unit))


def _p(of_unit: Figures, known: NDArray, deal: Deal, seed: int) -> float:
    """p-value of own twins that are as far ahead in sum."""
    generator = np.random.default_rng([seed, 1])  # another than the deal's own

    def total(in_a: NDArray[np.bool_]) -> float:
        return float(of_unit[in_a[known]].sum())  # that of all is the same for all deals

    least = total(deal.in_a) - 1e-9 * float(np.abs(of_unit).sum())  # sums are not exact
    as_far = sum(total(deal_units(deal.sizes, generator)) >= least for _ in range(PERMUTATIONS))
    return (1 + as_far) / (1 + PERMUTATIONS)


def mirror_q(score: ArrayLike) -> Figures:
    """q-value (u,) of each score, if those of units that are not memorised are as often negative.

    The knockoff+ filter (Barber & Candès, 2015): Benjamini & Hochberg's rule where the p-value of a
    score is how often one as far below 0 is found. Unlike p-values against the other half, which
    its own memorised items shift, it holds whatever share of the units is memorised. At q = 0.1 it
    takes ten units to name any.
    """
    score = np.asarray(score, np.float64)
    order = np.argsort(-score, kind="stable")
    wins, losses = (
        len(score) - np.searchsorted(np.sort(x), score[order], "left") for x in (score, -score)
    )
    share = np.where(score[order] > 0, np.minimum(1.0, (1 + losses) / wins), 1.0)
    q = np.empty_like(score)
    q[order] = np.minimum.accumulate(share[::-1])[::-1]
    return q
