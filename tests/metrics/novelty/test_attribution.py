"""Attribution: one training item copied many times is named, and only then."""

import pytest
import torch

from novum.metrics.functional import attribution
from novum.metrics.novelty import Matches, attribution_from_matches
from tests.metrics.novelty.worlds import SPREADS, World

KINDS = tuple(SPREADS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("duplicates", [1, 3])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_an_item_planted_50_times_ranks_first(kind, duplicates, noise):
    world = World(0)
    train, heldout = world.split(600, 600)
    train[100 : 100 + duplicates] = train[7].clone()
    planted = train[7] + noise * world.draw(50)
    table = attribution(train, heldout, torch.cat([planted, world.generate(750, kind, train)]))
    assert table.train_rows[0] == 7
    assert table.counts[0] >= 50 and table.matches[0] >= table.counts[0]
    assert table.duplicates[0] == 1 + duplicates
    assert table.p_values[0] < 1e-6 and table.q_values[0] < 1e-4
    assert (table.q_values[1:] > 0.05).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [2, 16])
def test_no_item_is_named_without_copies(kind, d):
    """None at q <= .05 over 40 seeds, in few dimensions (where items come near by chance) too."""
    for seed in range(40):
        world = World(seed, d)
        train, heldout = world.split(300, 150)
        table = attribution(train, heldout, world.generate(300, kind, train))
        assert not (table.q_values <= 0.05).any()


def test_by_hand():
    """Held-out items: 1 of 3 matches is plain, so chance is (1 + 1) / (2 + 3) = .4."""
    found = Matches(
        torch.tensor([0, 0, 0, 1, 2, 9, 9, 8]),
        torch.tensor([1, 1, 1, 1, 1, -1, -1, -1], dtype=torch.int8),
        torch.tensor([2.0, 2, 2, 2, 0, 2, 0, 0]),
        5,
        5,
    )
    table = attribution_from_matches(found, margin=1.0)
    assert table.train_rows.tolist() == [0, 1]
    assert table.counts.tolist() == [3, 1] and table.matches.tolist() == [3, 1]
    assert table.p_values.tolist() == pytest.approx([0.4**3, 0.4])
    assert table.q_values.tolist() == pytest.approx([0.4**3 * 3, 0.4 * 3 / 2])
    assert table.duplicates is None


def test_samples_near_nothing_of_training_give_an_empty_table():
    found = Matches(torch.tensor([5]), torch.tensor([-1], dtype=torch.int8), torch.ones(1), 5, 5)
    assert all(len(column) == 0 for column in attribution_from_matches(found, 0.5)[:5])
