"""The copy test's error rates and power, and what the copy rate's bounds hold."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom

from novum.metrics.functional import copy_rate, copy_test
from novum.metrics.novelty import (
    Matches,
    copy_rate_from_matches,
    copy_test_from_matches,
    drawn_to_training,
    find_matches,
)
from novum.metrics.novelty.copying import _explained_by_chance
from tests.metrics.novelty.worlds import SPREADS, World

KINDS = tuple(SPREADS)


def matches(margins: list[float], sides: list[int], train_items=100, heldout_items=100) -> Matches:
    """Each sample has an item of its own."""
    side = torch.tensor(sides, dtype=torch.int8)
    margin = torch.tensor(margins, dtype=torch.float64)
    return Matches(torch.arange(len(side)), side, margin, train_items, heldout_items)


def judge(seed, kind, n_train, n_heldout, m, copies=0, d=16, **options):
    world = World(seed, d)
    train, heldout = world.split(n_train, n_heldout)
    return copy_test(train, heldout, world.generate(m, kind, train, copies), **options)


def false_share(flagged: torch.Tensor, copies: int) -> float:
    return float(flagged[copies:].sum()) / max(1, int(flagged.sum()))


# --- the copy test


def test_q_values_by_hand():
    """Of 2, 3, 4 wins against 0, 0, 1 losses: odds (1 + losses) / wins, no larger below."""
    found = copy_test_from_matches(matches([9, 8, 7, 6, 5, 0], [1, 1, 1, -1, 1, 0], 101, 100))
    assert found.q_values.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1, 2 / 4, 1])
    assert found.train_rows.tolist() == [0, 1, 2, -1, 4, -1]
    assert not found.flagged.any() and found.threshold == math.inf


def test_flags_are_what_q_allows():
    found = matches([9.0] * 12 + [1.0] * 20, [1] * 12 + [-1] * 20, 101, 100)
    judged = copy_test_from_matches(found, q=0.1)
    assert judged.flagged.tolist() == [True] * 12 + [False] * 20
    assert judged.threshold == 9
    assert judged.q_values[0] == pytest.approx(1 / 12)
    assert not copy_test_from_matches(found, q=0.08).flagged.any()


def test_odds_are_those_of_the_sizes():
    """Training sets five times larger win five times as often by chance."""
    found = matches([9.0] * 12, [1] * 12, 505, 100)
    assert copy_test_from_matches(found).q_values[0] == pytest.approx(5 / 12)


def test_samples_of_one_item_are_one_win():
    one = Matches(
        torch.zeros(50, dtype=torch.int64), torch.ones(50, dtype=torch.int8),
        torch.full((50,), 9.0), 100, 100,
    )  # fmt: skip
    assert copy_test_from_matches(one).q_values.min() == pytest.approx(100 / 101)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(300, 300), (500, 100)])
def test_false_alarms(kind, sizes):
    """No copies: P(any flag at q = .1) <= .12 over 200 seeds in all per pair of sizes."""
    alarms = [bool(judge(s, kind, *sizes, m=200).flagged.any()) for s in range(67)]
    assert sum(alarms) / len(alarms) <= 0.12


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_false_alarms_of_larger_sets(kind):
    alarms = [bool(judge(s, kind, 1000, 1000, m=1000).flagged.any()) for s in range(67)]
    assert sum(alarms) / len(alarms) <= 0.12


@pytest.mark.parametrize("kind", KINDS)
def test_false_discoveries_among_copies(kind):
    """Mean false share <= q + 2 standard errors over 60 seeds."""
    shares = torch.tensor(
        [false_share(judge(s, kind, 500, 500, m=500, copies=25).flagged, 25) for s in range(60)]
    )
    assert shares.mean() <= 0.1 + 2 * shares.std() / math.sqrt(60)
    assert shares.max() > 0  # errors were possible


@pytest.mark.parametrize("kind", KINDS)
def test_one_percent_of_exact_copies_is_found(kind):
    """m = 2000: at least 99% of them flagged, over 5 seeds."""
    found = [judge(s, kind, 1000, 1000, m=2000, copies=20) for s in range(5)]
    assert sum(float(f.flagged[:20].double().mean()) for f in found) / 5 >= 0.99


def test_underfit_with_two_percent_of_copies_raises_the_alarm_and_names_their_sources():
    world = World(0)
    train, heldout = world.split(800, 800)
    rows = torch.arange(20)
    fake = torch.cat([train[rows], world.draw(980, SPREADS["underfit"])])
    found = copy_test(train, heldout, fake)
    assert found.flagged[:20].all()
    assert torch.equal(found.train_rows[:20], rows)
    assert found.q_values[:20].max() <= 0.1


def test_noisy_copies_are_found_in_an_unequal_split():
    """Five times as much training data takes 5 / q = 50 copied items."""
    world = World(1)
    train, heldout = world.split(1000, 200)
    fake = torch.cat([train[:60] + 0.05 * world.draw(60), world.draw(540)])
    found = copy_test(train, heldout, fake)
    assert found.flagged[:60].double().mean() > 0.95
    assert false_share(found.flagged, 60) < 0.25
    assert not copy_test(train, heldout, fake[20:]).flagged.any()  # 40 could be luck


def test_copies_of_duplicated_training_items_are_found():
    """Blind spot of authenticity and of distance ratios."""
    world = World(2)
    train, heldout = world.split(500, 500)
    train[250:] = train[:250]
    found = copy_test(train, heldout, torch.cat([train[:30], world.draw(470)]))
    assert found.flagged[:30].all()
    assert torch.equal(found.train_rows[:30], torch.arange(30))


def test_q_must_be_a_share():
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="q = 1.5 is not a share of errors"):
        copy_test(x, x + 1, x, q=1.5)


# --- the copy rate


def rate(seed, kind, n_train, n_heldout, m, copies, d=16):
    world = World(seed, d)
    train, heldout = world.split(n_train, n_heldout)
    return copy_rate(train, heldout, world.generate(m, kind, train, copies))


def test_bounds_by_hand():
    """30 wins, no loss: only 4 in a row come up by chance in more than 5% of cases."""
    found = matches([9.0] * 30 + [0.0] * 70, [1] * 30 + [-1] * 70, 10**6, 10**6)
    value, low, high = copy_rate_from_matches(found, margin=1.0)
    assert value == 0.3
    assert low == (30 - 4) / 100
    assert high == pytest.approx(0.3998, abs=1e-4)  # Clopper-Pearson of 30 in 100


@pytest.mark.parametrize("error", [0.05, 0.01])
def test_what_chance_explains_is_that_of_every_count_tried(error):
    """Found by bisection; here all counts are looked at."""
    random = np.random.default_rng(0)
    for _ in range(60):
        train, heldout = (int(x) for x in random.integers(1, 200, 2))
        targets, decoys = int(random.integers(train + 1)), int(random.integers(heldout + 1))
        empty = torch.zeros(0)
        matches = Matches(empty, empty, empty, train, heldout)
        v = np.arange(targets + 1)
        drawn = hypergeom(train - targets + v + heldout, heldout, v + decoys)
        fewest = min(int((drawn.sf(decoys - 1) <= 0.025).sum()), targets)
        expected = (fewest, int((drawn.cdf(decoys) > error).sum()) - 1)
        assert _explained_by_chance(matches, targets, decoys, error) == expected


def test_wins_balanced_by_losses_are_no_copies():
    found = matches([9.0] * 60, [1] * 30 + [-1] * 30, 10**6, 10**6)
    value, low, high = copy_rate_from_matches(found, margin=1.0)
    assert value == low == 0
    assert 0.2 < high < 0.5


def test_a_larger_training_set_wins_more_by_chance():
    """Three times larger: 10 losses explain 30 of 40 wins."""
    found = matches([9.0] * 50 + [0.0] * 50, [1] * 40 + [-1] * 60, 3 * 10**6, 10**6)
    assert copy_rate_from_matches(found, margin=1.0).value == pytest.approx(0.1)


def test_no_win_leaves_what_luck_may_hide():
    found = matches([0.0] * 10_000, [1] * 5000 + [-1] * 5000, 10**6, 10**6)
    value, low, high = copy_rate_from_matches(found, margin=1.0)
    assert (value, low) == (0, 0)
    assert high == pytest.approx(0.00037, abs=1e-5)


def test_many_samples_of_one_item_are_weak_evidence_of_a_rate():
    one = Matches(
        torch.zeros(50, dtype=torch.int64), torch.ones(50, dtype=torch.int8),
        torch.full((50,), 9.0), 100, 100,
    )  # fmt: skip
    value, low, _ = copy_rate_from_matches(one, margin=1.0)
    assert (value, low) == (1, 0)  # one item of two sides: a fair coin


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copies", [0, 50])
def test_the_rate_is_right(kind, copies):
    """Within .005 of the truth at m = 5000, the bounds on either side."""
    for seed in range(2):
        value, low, high = rate(seed, kind, 1000, 1000, 5000, copies)
        truth = copies / 5000
        assert abs(value - truth) <= 0.005
        assert low <= truth <= high
        assert low >= 0.5 * truth and high <= truth + 0.006


@pytest.mark.parametrize("sizes", [(150, 150), (300, 75)])
def test_bounds_hold(sizes):
    """Over 250 seeds at most 7% of each bound on the wrong side, in few dimensions (many draws)."""
    copies, m = 12, 240
    too_high = too_low = some = 0
    for seed in range(250):
        value, low, high = rate(seed, KINDS[seed % 3], *sizes, m, copies, d=4)
        too_high += low > copies / m
        too_low += high < copies / m
        some += low > 0
    assert too_high <= 0.07 * 250
    assert too_low <= 0.07 * 250
    assert some > 0  # the lower bound does say something


def test_one_dimension_too_many_chance_matches_still_bounded():
    """Where every second sample is twice as near to something, chance explains it."""
    value, low, high = rate(0, "fresh", 200, 200, 400, 0, d=1)
    assert low == 0 and value < 0.25 and high > 0.05


def test_heldout_data_inside_training_says_nothing_of_copies():
    """Each item is of training by the toss of a coin: copies of it look like chance."""
    x = World(3).draw(300)
    rates = [copy_rate_from_matches(find_matches(x, x, x, seed=s), 1.0) for s in range(20)]
    assert sum(rate.low > 0 for rate in rates) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(150, 150), (300, 75)])
def test_drawn_to_training_is_a_bound(sizes):
    """Over 250 seeds at most 7% above the truth, whatever the generator."""
    copies, m = 12, 240
    too_high = some = 0
    for seed in range(250):
        world = World(seed, d=4)
        train, heldout = world.split(*sizes)
        fake = world.generate(m, KINDS[seed % 3], train, copies)
        found = drawn_to_training(find_matches(train, heldout, fake))
        too_high += found > copies / m
        some += found > 0
    assert too_high <= 0.07 * 250
    assert some > 0


def test_faint_copies_show_at_a_small_ratio():
    """Samples that are half noise are never twice as near to their source as to others."""
    world = World(0)
    train, heldout = world.split(300, 600)
    fake = world.generate(500, "fresh", train, copies=200, noise=0.8)
    matches = find_matches(train, heldout, fake)
    assert copy_rate_from_matches(matches, math.log(2)).low == 0
    assert drawn_to_training(matches) > 0.1
    assert drawn_to_training(find_matches(train, heldout, world.generate(500, "fresh", train))) == 0
