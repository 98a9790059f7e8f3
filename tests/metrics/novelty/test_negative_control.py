"""The negative control: training rows react to what would convict fresh samples, and to no more."""

import math

import pytest
import torch

from novum.metrics.neighbours import knn
from novum.metrics.novelty.nearest_matches import match_pool
from novum.metrics.novelty.negative_control import (
    Excess,
    PoolMatches,
    excess_over_control,
    match_within_pool,
    negative_control,
    samples_excess,
)
from novum.metrics.novelty.pool import Pool, draw_pool
from tests.metrics.novelty.worlds import World


def draw(seed, t=400, h=400, m=400, shift=0.0, copies=0):
    """Matches of fresh samples, and the control; `shift` is added to held-out rows."""
    world = World(seed)
    train, heldout = world.split(t, h)
    fake = world.generate(m, "fresh", train, copies, noise=0.05)
    heldout = heldout + shift
    pool = draw_pool(train, heldout, seed)
    items = pool.table(train, heldout)
    within = match_within_pool(pool, items)
    return match_pool(fake, pool, items), negative_control(within, 199, seed)


def test_each_item_has_its_nearest_other_item():
    world = World(0)
    train, heldout = world.split(60, 40)
    pool = draw_pool(train, heldout)
    items = pool.table(train, heldout)
    found = match_within_pool(pool, items, rows=50)
    near = knn(items[:50], items, 6)
    assert torch.equal(found.nearest, near.indices[:, 1])
    expected = (near.distances[:, 5] / near.distances[:, 1]).log()
    torch.testing.assert_close(found.margin, expected)


def test_excess_by_hand():
    """Two training and one held-out match of four rows; twice as many training items."""
    trained = torch.tensor([True, True, False, True, True, False])
    found = PoolMatches(
        torch.tensor([0, 1, 3, 4]),
        torch.tensor([1, 2, 1, 0]),
        torch.full((4,), 9.0),
        Pool(torch.arange(6), trained, torch.arange(6), 4, torch.arange(6)),
    )
    excess = negative_control(found, 9).excess[0]
    assert excess.value == pytest.approx((1 - 3 / 2 + 1 + 1) / 4)
    sums = (1 + 1, -1.5, 1)  # rows 0 and 3 match items of their own; row 0's and 2's is one
    assert excess.standard_error == pytest.approx(sum(s * s for s in sums) ** 0.5 / 4)


def test_p_is_uniform_where_nothing_was_done():
    values = torch.tensor([draw(seed, 80, 80, 10)[1].p for seed in range(100)])
    assert (values <= 0.05).sum() <= 13  # the 99.9% point of 5%
    assert 0.35 < values.mean() < 0.65


@pytest.mark.parametrize("seed", range(4))
def test_held_out_rows_of_another_kind_are_seen_and_no_fresh_sample_is_convicted(seed):
    matches, control = draw(seed, shift=0.4)
    assert control.p <= 0.01
    assert samples_excess(matches, 0.0).value > 0.1  # what convicts without a control
    assert excess_over_control(matches, control, 0.01) < 0


@pytest.mark.parametrize("seed", range(4))
def test_copies_are_found_in_spite_of_it(seed):
    matches, control = draw(seed, shift=0.4, copies=30)
    assert excess_over_control(matches, control, 0.01) > 0.02


def test_a_difference_has_the_errors_of_both():
    assert Excess(0.3, 0.03).over(Excess(0.1, 0.04), 2) == pytest.approx(0.1)
    assert Excess(0.3, 0.03).over(Excess(0.1, math.inf), 2) == -math.inf
