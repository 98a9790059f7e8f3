"""Matches of several spaces as one, by how surprising they are."""

import math

import pytest
import torch

from novum.metrics.novelty.combined import combine_matches, surprise
from novum.metrics.novelty.facts import near_identical
from novum.metrics.novelty.nearest_matches import HELDOUT, TRAIN, Matches
from novum.metrics.novelty.negative_control import PoolMatches
from novum.metrics.novelty.permutation import surprise_test
from novum.metrics.novelty.pool import pool_of_items


def exponential(n: int, seed: int = 0) -> torch.Tensor:
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return -uniform.log() / 8  # as log ratios of distances in eight dimensions


def matches(margin: torch.Tensor, side: int = TRAIN) -> Matches:
    sides = torch.full((len(margin),), side, dtype=torch.int8)
    return Matches(torch.arange(len(margin)), sides, margin, 500, 500)


def pool(margin: torch.Tensor) -> PoolMatches:
    rows = torch.arange(len(margin))
    return PoolMatches(rows, rows, margin, pool_of_items(rows, len(rows)))


def test_surprise_is_minus_the_log_of_a_share():
    usual = exponential(20_000)
    margin = torch.tensor([0.02, 0.2, 0.5, 1.5], dtype=torch.float64)
    found = surprise(margin, usual)
    assert found[:2].tolist() == pytest.approx([0.16, 1.6], abs=0.05)
    assert 0.85 * 4 < found[2] < 4 and 0.85 * 12 < found[3] < 12  # cautious in the tail
    assert (found.diff() > 0).all()
    assert surprise(torch.tensor([math.inf]), usual) == math.inf


def test_fresh_matches_hardly_ever_pass_for_nearly_identical():
    """At an error of 5%: 200 reports of 300 samples, at most the 99.9% point."""
    passed = 0
    for seed in range(200):
        usual = pool(exponential(1000, 2 * seed))
        combined = combine_matches([matches(exponential(300, 2 * seed + 1))], [usual])
        passed += bool(len(near_identical(combined, [usual], 0.05).samples))
    assert passed <= 21


def test_copies_pass_and_held_out_matches_are_counted():
    usual = pool(exponential(1000))
    margin = torch.cat([exponential(300, 1), torch.tensor([4.0, 5.0])])
    found = near_identical(combine_matches([matches(margin)], [usual]), [usual], 0.01)
    assert found.samples.tolist() == [300, 301]
    assert (found.heldout, found.pool, found.p) == (0, 0, 0)  # one alone would do
    few = torch.cat([exponential(300, 1), torch.tensor([2.0])])
    assert 0.1 < near_identical(combine_matches([matches(few)], [usual]), [usual], 0.01).p < 0.3
    other = near_identical(combine_matches([matches(margin, HELDOUT)], [usual]), [usual], 0.01)
    assert len(other.samples) == 0 and other.heldout == 2


def test_where_the_pool_holds_near_duplicates_more_than_chance_is_needed():
    """4 of 10,000 of the pool's items are near-duplicates; of the samples 1, or 40."""
    duplicates = torch.full((4,), 9.0, dtype=torch.float64)
    usual = pool(torch.cat([exponential(9996), duplicates]))
    few = torch.cat([exponential(300, 1), duplicates[:1]])
    many = torch.cat([exponential(300, 1), torch.full((40,), 9.0, dtype=torch.float64)])
    found = near_identical(combine_matches([matches(few)], [usual]), [usual], 0.01)
    assert len(found.samples) == 1 and found.pool == 4 and found.p > 0.1
    found = near_identical(combine_matches([matches(many)], [usual]), [usual], 0.01)
    assert len(found.samples) == 40 and found.p < 1e-6


def test_samples_that_are_identical_do_not_make_a_near_one_convict():
    """Data may repeat itself: what is identical is judged by itself."""
    usual = pool(exponential(1000))
    margin = torch.cat([exponential(300, 1), torch.tensor([2.0, math.inf])])
    combined = combine_matches([matches(margin)], [usual])
    assert near_identical(combined, [usual], 0.01).p == 0
    found = near_identical(combined, [usual], 0.01, known=torch.tensor([301]))
    assert found.samples.tolist() == [300] and found.p > 0.1


def test_the_space_that_surprises_most_is_taken():
    wide, narrow = exponential(1000), exponential(1000, 1) / 10
    first = matches(torch.tensor([1.0, 0.1], dtype=torch.float64))
    second = matches(torch.tensor([0.05, 0.09], dtype=torch.float64), HELDOUT)
    found = combine_matches([first, second], [pool(wide), pool(narrow)])
    assert found.space.tolist() == [0, 1] and found.spaces == 2
    assert found.matches.side.tolist() == [TRAIN, HELDOUT]


def test_surprise_test_is_exact_and_finds_few_copies():
    """Labels by chance: p is uniform. Nine surprising training matches among 300: p < .01."""
    generator = torch.Generator().manual_seed(0)
    values = []
    for seed in range(200):
        sides = torch.randint(2, (60,), generator=generator, dtype=torch.int8) * 2 - 1
        by_chance = matches(8 * exponential(60, seed))._replace(side=sides)
        values.append(surprise_test(by_chance, 199, seed))
    assert sum(p <= 0.05 for p in values) <= 21 and 0.4 < sum(values) / 200 < 0.6
    sides = torch.randint(2, (300,), generator=generator, dtype=torch.int8) * 2 - 1
    sides[:9] = TRAIN
    margin = 8 * exponential(300)
    margin[:9] = 20
    assert surprise_test(matches(margin)._replace(side=sides)) < 0.01
