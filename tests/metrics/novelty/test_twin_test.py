"""Twins without memorisation raise no alarm; what one of them memorised is named."""

import numpy as np
import pytest

from novum.core.errors import InputError, NotComputable
from novum.datamodules.halves import Deal, deal_units
from novum.metrics.novelty import twin_test as module
from novum.metrics.novelty.twin_test import mirror_q, twin_test


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch):
    monkeypatch.setattr(module, "PERMUTATIONS", 99)


def dealt(n, rng, sizes=None):
    sizes = np.ones(n, np.int64) if sizes is None else sizes
    return Deal(np.repeat(np.arange(n), sizes), sizes, deal_units(sizes, rng), "images")


def leads(deal, rng, memorised=0, by=0.0, better=0.0):
    """Noise, that twin a is `better` by, and some units that the own twin knows `by` more."""
    units = len(deal.sizes)
    known = rng.choice(units, memorised, replace=False)
    shift = np.zeros(units)
    shift[known] = by * np.where(deal.in_a[known], 1, -1)
    return better + rng.standard_normal(len(deal.unit)) + shift[deal.unit], known


@pytest.mark.parametrize("ranks", [True, False])
def test_no_memorisation_no_alarm(ranks):
    """Also where one twin is better all over: p is uniform, nobody is named, intervals cover."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        deal = dealt(60, rng)
        lead, _ = leads(deal, rng, better=3.0)
        found.append(twin_test(lead, deal.unit, deal, ranks=ranks))
    p = np.array([x.p for x in found])
    for level in (0.1, 0.3, 0.5):  # within 3.5 standard errors
        assert abs((p <= level).mean() - level) < 3.5 * (level * (1 - level) / 200) ** 0.5
    assert np.mean([(x.q <= 0.1).any() for x in found]) < 0.06
    assert np.mean([x.mean.low <= 0 <= x.mean.high for x in found]) > 0.9
    assert np.mean([x.ahead.low <= 0.5 <= x.ahead.high for x in found]) > 0.9


@pytest.mark.parametrize("memorised", [15, 100])
def test_memorised_items_are_named(memorised):
    """Whatever share of the items is memorised, about a tenth of the named are named in error."""
    rng = np.random.default_rng(1)
    errors, powers, ps = [], [], []
    for _ in range(60):
        deal = dealt(200, rng)
        lead, known = leads(deal, rng, memorised, by=5.0, better=-1.0)
        found = twin_test(lead, deal.unit, deal, ranks=False)
        named = found.q <= 0.1
        truth = np.isin(deal.unit[found.item], known)
        errors.append((named & ~truth).sum() / max(named.sum(), 1))
        powers.append(truth[named].sum() / memorised)
        ps.append(found.p)
        assert found.mean.low <= memorised * 5.0 / 200 <= found.mean.high
    assert np.median(ps) <= 0.02
    assert np.mean(errors) < 0.13 and np.mean(powers) > 0.8


def test_units_are_the_draws():
    """Items of one unit share its coin: many of them are no more evidence than one."""
    rng = np.random.default_rng(2)
    sizes = np.full(24, 50)
    ps, covered = [], []
    for _ in range(200):
        deal = dealt(24, rng, sizes)
        common = rng.standard_normal(24)[deal.unit]  # of all items of a unit
        lead = common + 0.01 * rng.standard_normal(len(deal.unit))
        found = twin_test(lead, deal.unit, deal)
        ps.append(found.p)
        covered.append(found.mean.low <= 0 <= found.mean.high)
        assert len(found.item) == 24 and len(found.memorised) == 1200
    assert abs(np.mean(np.array(ps) <= 0.1) - 0.1) < 0.08
    assert np.mean(covered) > 0.85


def test_exact_values():
    deal = Deal(np.arange(20), np.ones(20, np.int64), np.arange(20) < 10, "images")
    lead = np.where(deal.in_a, 1.0, -1.0) * np.arange(1, 21)
    found = twin_test(lead, deal.unit, deal)
    assert found.p == 0.01  # 1 / (1 + 99)
    assert found.ahead.value == 1.0 and found.differ == 20
    centre = np.median(lead)
    assert np.allclose(found.memorised, (lead - centre) * np.where(deal.in_a, 1, -1))
    assert found.item.tolist() == list(range(20))


def test_the_largest_lead_stands_for_a_unit_whichever_twin_has_it():
    unit = np.repeat(np.arange(20), 2)
    deal = Deal(unit, np.full(20, 2), np.arange(20) % 2 == 0, "groups")
    lead = np.tile([0.1, -3.0, 0.1, 2.9], 10)  # the median of units is 0.025
    found = twin_test(lead, unit, deal)
    assert found.item.tolist() == list(range(1, 40, 2))


def test_q_values_of_the_knockoff_filter():
    score = np.array([9.0, 8, 7, -6, 5, 4, 3, 2, 0, -1])
    q = mirror_q(score)
    assert q[[0, 1, 2, 4, 5, 6, 7]].tolist() == [2 / 7] * 7
    assert q[[3, 8, 9]].tolist() == [1, 1, 1]
    assert mirror_q(np.arange(1.0, 11)).tolist() == [0.1] * 10


def test_ties_and_nothing():
    deal = dealt(30, np.random.default_rng(3))
    found = twin_test(np.zeros(30), deal.unit, deal)
    assert found.p == 1.0 and found.differ == 0 and found.ahead == (0.5, 0.0, 1.0)
    assert (found.q == 1).all() and found.mean.value == 0


def test_wrong_input():
    deal = dealt(30, np.random.default_rng(4))
    with pytest.raises(NotComputable, match="2 of 30 figures are not finite"):
        twin_test([np.nan, np.inf, *range(28)], deal.unit, deal)
    with pytest.raises(NotComputable, match="19 images are too few: 20"):
        twin_test(np.arange(19.0), deal.unit[:19], deal)
    with pytest.raises(InputError, match="give one of each an item"):
        twin_test(np.arange(3.0), deal.unit, deal)
