"""Membership inference: exact p-values, an interval that covers, items named at a stated rate."""

import itertools

import numpy as np
import pytest
from scipy.stats import kstest, mannwhitneyu

from novum.core.errors import InputError, NotComputable
from novum.metrics.novelty.membership import (
    conformal_p,
    loss_auc,
    membership_test,
    permutation_p,
    shift_test,
    standing_out,
    stretch_p,
)

RUNS = 400


def normal(seed: int, n: int = 100, m: int = 60, shift: float = 0.0):
    random = np.random.default_rng([7, seed])
    return random.normal(-shift, 1, n), random.normal(0, 1, m)


def ring(seed: int, n: int = 240, m: int = 40):
    """Losses of a text's passages, alike where they are neighbours: a moving average on a ring."""
    noise = np.random.default_rng([8, seed]).normal(size=n + m)
    smooth = sum(np.roll(noise, k) for k in range(12))
    return smooth[:n], smooth[n:]


class TestAuc:
    def test_is_that_of_mann_and_whitney(self):
        train, heldout = (x.round(1) for x in normal(0, shift=0.5))  # with ties
        expected = mannwhitneyu(heldout, train).statistic / (len(train) * len(heldout))
        assert loss_auc(train, heldout).value == pytest.approx(expected)

    def test_interval_where_all_pairs_agree(self):
        found = loss_auc(np.arange(20), 100 + np.arange(20))
        assert found.value == found.high == 1 and 0.8 < found.low < 0.95
        turned = loss_auc(100 + np.arange(20), np.arange(20))
        assert turned.value == turned.low == 0
        assert turned.high == pytest.approx(1 - found.low)

    @pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
    def test_covers_the_truth(self, shift):
        from scipy.stats import norm

        truth = norm.cdf(shift / 2**0.5)
        found = [loss_auc(*normal(seed, 40, 30, shift)) for seed in range(RUNS)]
        covered = np.mean([x.low <= truth <= x.high for x in found])
        assert covered >= 0.93

    def test_covers_the_truth_where_some_items_are_known(self):
        """Half of the items far below and half far above: wider than Hanley & McNeil assume."""
        covered = []
        for seed in range(RUNS):
            random = np.random.default_rng([9, seed])
            train = np.where(random.random(40) < 0.5, -10, 10) + random.normal(size=40)
            found = loss_auc(train, random.normal(size=40))
            covered.append(found.low <= 0.5 <= found.high)
        assert np.mean(covered) >= 0.93


class TestPermutation:
    def test_goes_through_all_of_few(self):
        train, heldout = np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0])
        sums = [sum(x) for x in itertools.combinations(range(1, 6), 3)]
        assert permutation_p(train, heldout) == np.mean(np.array(sums) <= 7)

    def test_is_uniform_without_memory(self):
        """At 1% a false alarm in 1% of the runs: the bound is that of 400 runs at p = 0.001."""
        p = np.array([permutation_p(*normal(seed), permutations=999) for seed in range(RUNS)])
        assert kstest(p, "uniform").pvalue > 0.001
        assert (p <= 0.01).sum() <= 12

    def test_a_memory_shows(self):
        assert membership_test(*normal(0, shift=1)).p <= 0.001
        assert permutation_p(*normal(0, shift=-1)) > 0.99

    @pytest.mark.parametrize("side", [0, 1])
    def test_halves_of_one_side_are_innocent(self, side):
        """However well the model knows it: training against itself, held-out against itself."""
        alarms = 0
        for seed in range(RUNS):
            losses = np.random.default_rng(seed).permutation(normal(seed, shift=3)[side])
            half = len(losses) // 2
            alarms += permutation_p(losses[:half], losses[half:], permutations=999) <= 0.01
        assert alarms <= 12


class TestPassagesInOrder:
    def test_is_uniform_though_neighbours_are_alike(self):
        p = np.array([stretch_p(*ring(seed)) for seed in range(RUNS)])
        assert kstest(p, "uniform").pvalue > 0.001
        naive = np.array([permutation_p(*ring(s), permutations=199) for s in range(RUNS)])
        assert (naive <= 0.01).mean() > 0.05  # why passages are not shuffled

    def test_a_memory_shows(self):
        train, heldout = ring(0)
        assert membership_test(train - 12, heldout, in_order=True).p == 1 / 280


class TestControl:
    def test_sees_a_shift_either_way(self):
        train, heldout = normal(0, shift=1)
        assert shift_test(train, heldout).p <= 0.001 and shift_test(-train, -heldout).p <= 0.001
        assert shift_test(*normal(0)).p > 0.01

    def test_is_innocent_of_equal_sizes(self):
        assert shift_test(np.full(9, 3.0), np.full(9, 3.0)).p == 1


class TestStandingOut:
    def test_p_is_uniform_over_items(self):
        p = np.concatenate([conformal_p(*normal(seed, 2, 99))[:1] for seed in range(RUNS)])
        assert kstest(p, "uniform").pvalue > 0.001

    def test_names_nobody_without_memory(self):
        """The rate of errors is the chance of naming anybody: at most 10%."""
        named = [(standing_out(*normal(seed)) <= 0.1).any() for seed in range(RUNS)]
        assert np.mean(named) <= 0.1 + 3 * (0.1 * 0.9 / RUNS) ** 0.5

    def test_names_who_is_known_at_the_rate(self):
        """40 of 100 known: of those named at 10% about a tenth are not, for either score."""
        wrong, found = [], []
        for seed in range(100):
            train, heldout = normal(seed, 100, 200)
            train[:40] -= 6
            named = standing_out(train, heldout, (train * 2, heldout * 2)) <= 0.1
            wrong.append(named[40:].sum() / max(1, named.sum()))
            found.append(named[:40].mean())
        assert np.mean(wrong) <= 0.1 and np.mean(found) > 0.95

    def test_order_is_that_of_the_losses(self):
        train, heldout = normal(1, 50, 500, shift=2)
        order = train.argsort()
        assert (np.diff(standing_out(train, heldout)[order]) >= 0).all()


class TestBadLosses:
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_finite(self, bad):
        with pytest.raises(NotComputable, match="1 of 3 losses are not finite"):
            membership_test([1.0, 2.0, bad], [1.0, 2.0])

    @pytest.mark.parametrize("few", [[], [1.0]])
    def test_too_few(self, few):
        with pytest.raises(NotComputable, match="too few"):
            membership_test([1.0, 2.0], few)

    def test_of_another_shape(self):
        with pytest.raises(InputError, match="one for each item"):
            loss_auc(np.zeros((3, 2)), np.zeros(3))

    def test_no_permutations(self):
        with pytest.raises(InputError, match="0 permutations"):
            permutation_p([1.0, 2.0], [3.0, 4.0], permutations=0)

    def test_takes_any_dtype(self):
        train, heldout = (x.astype(np.float16) for x in normal(0, shift=1))
        assert membership_test(train, heldout).p <= 0.001
        assert membership_test(list(train), list(heldout)).p <= 0.001
