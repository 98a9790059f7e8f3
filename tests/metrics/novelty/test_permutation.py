"""The permutation test: uniform without copies, small with them."""

import pytest
import torch
from scipy.stats import kstest

from novum.metrics.functional import train_heldout_permutation_test
from novum.metrics.novelty import Matches, permutation_test_from_matches
from tests.metrics.novelty.worlds import SPREADS, World

KINDS = tuple(SPREADS)


@pytest.mark.parametrize("sizes", [(200, 200), (400, 100)])
def test_p_is_uniform_without_copies(sizes):
    """Kolmogorov-Smirnov p > .01 over 240 seeds of three generators, whatever the sizes."""
    p = []
    for seed in range(240):
        world = World(seed, d=4)
        train, heldout = world.split(*sizes)
        fake = world.generate(100, KINDS[seed % 3], train)
        p.append(train_heldout_permutation_test(train, heldout, fake, 99, seed))
    assert kstest(p, "uniform", args=(0.005, 1)).pvalue > 0.01


def test_p_is_uniform_when_everything_ties():
    """Twelve matches of one margin: the test is of their number alone."""
    p = []
    for seed in range(400):
        labels = torch.randperm(40, generator=torch.Generator().manual_seed(seed))[:12] < 20
        side = torch.where(labels, 1, -1).to(torch.int8).sort(descending=True).values
        found = Matches(torch.arange(12), side, torch.ones(12), 20, 20)  # training rows lead
        p.append(permutation_test_from_matches(found, 99, seed))
    assert kstest(p, "uniform", args=(0.005, 1)).pvalue > 0.01


def test_the_plainest_matches_count_first():
    """Ten of training ahead of 90 that balance: unlikely; behind them: nothing."""
    side = torch.tensor([1] * 10 + [1, -1] * 45, dtype=torch.int8)
    margin = torch.arange(100.0, 0, -1)
    ahead = Matches(torch.arange(100), side, margin, 1000, 1000)
    assert permutation_test_from_matches(ahead) < 0.03
    assert permutation_test_from_matches(ahead._replace(margin=-margin)) > 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_power(kind):
    """1% of exact copies, m = 1000: p <= .05 in at least 95% of 20 seeds."""
    found = 0
    for seed in range(20):
        world = World(seed)
        train, heldout = world.split(1000, 1000)
        fake = world.generate(1000, kind, train, copies=10)
        found += train_heldout_permutation_test(train, heldout, fake, 199, seed) <= 0.05
    assert found >= 19


def test_many_copies_of_one_item_are_one_draw():
    world = World(1)
    train, heldout = world.split(300, 300)
    fake = torch.cat([train[:1].repeat(50, 1), world.draw(250)])
    assert train_heldout_permutation_test(train, heldout, fake) > 0.05


def test_seeded_and_never_zero():
    world = World(1)
    train, heldout = world.split(100, 100)
    p = train_heldout_permutation_test(train, heldout, train, 199, seed=3)
    assert p == pytest.approx(1 / 200)
    fresh = world.draw(50)
    one, again = (train_heldout_permutation_test(train, heldout, fresh, 99, 5) for _ in range(2))
    assert one == again


def test_no_permutation_no_p():
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="0 permutations give no p-value"):
        train_heldout_permutation_test(x, x + 1, x, permutations=0)
