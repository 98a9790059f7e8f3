"""Matches: exact, blind to labels, one item for equal rows, ties by chance."""

import math

import pytest
import torch

from novum.metrics.neighbours import knn
from novum.metrics.novelty.nearest import search_parts
from novum.metrics.novelty.nearest_matches import (
    HELDOUT,
    TRAIN,
    Matches,
    find_clusters,
    find_matches,
    margin_of,
    match_parts,
    match_pool,
)
from novum.metrics.novelty.pool import draw_pool
from tests.metrics.novelty.worlds import World


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def test_matches_by_hand():
    train, heldout = column(0, 10), column(4, 20)
    found = find_matches(train, heldout, column(1, 5, 10), k=3)
    assert found.item.tolist() == [0, 2, 1]
    assert found.side.tolist() == [TRAIN, HELDOUT, TRAIN]
    expected = [math.log(9 / 1), math.log(5 / 1), math.inf]  # third nearest over nearest
    assert found.margin.tolist() == pytest.approx(expected)
    assert (found.train_items, found.heldout_items) == (2, 2)


def test_equal_rows_are_one_item():
    found = find_matches(column(0, 5, 5, 9), column(2, 2), column(5, 5.1), k=2)
    assert (found.train_items, found.heldout_items) == (3, 1)
    assert found.item.tolist() == [1, 1]
    assert found.margin[0] == math.inf  # its twin does not hide the copy


@pytest.mark.parametrize("times", [1, 3])
def test_an_item_in_both_sets_is_on_a_side_by_chance(times):
    """Three times in training and once in held-out data: of training in three draws of four."""
    train, heldout = column(0, *[5] * times), column(5, 9)
    wins = 0
    for seed in range(400):
        found = find_matches(train, heldout, column(5, 0, 9), seed=seed)
        assert found.side[1:].tolist() == [TRAIN, HELDOUT]
        assert (found.train_items + found.heldout_items) == 3
        assert found.train_items == 1 + int(found.side[0] == TRAIN)
        wins += int(found.side[0] == TRAIN)
    share = times / (times + 1)
    assert abs(wins / 400 - share) < 4 * math.sqrt(share * (1 - share) / 400)


@pytest.mark.parametrize("n_train", [1, 3])
def test_ties_are_settled_by_chance(n_train):
    """A sample as far from every item: on training's side as often as training has items."""
    eye = torch.eye(n_train + 1)
    train, heldout, fake = eye[:-1], eye[-1:], torch.zeros(1, n_train + 1)
    wins = sum(int(find_matches(train, heldout, fake, seed=s).side == TRAIN) for s in range(400))
    share = n_train / (n_train + 1)
    assert abs(wins / 400 - share) < 4 * math.sqrt(share * (1 - share) / 400)


def test_margins_do_not_know_the_labels():
    world = World(0)
    train, heldout = world.split(80, 50)
    fake = world.generate(60, "fresh", train, copies=5)
    one, other = find_matches(train, heldout, fake), find_matches(heldout, train, fake)
    assert torch.equal(one.margin, other.margin)
    assert torch.equal(one.side, -other.side)
    assert torch.equal(one.item, (other.item + 80) % 130)


def test_a_pool_of_one_item_has_no_margin():
    assert find_matches(column(3, 3), column(3), column(3, 4)).margin.tolist() == [0, 0]


def test_clusters_are_the_samples_of_an_item():
    found = Matches(
        torch.tensor([4, 2, 4, 7, 2]),
        torch.tensor([1, -1, 1, 1, -1], dtype=torch.int8),
        torch.tensor([0.5, 3.0, 2.0, 1.0, 0.1]),
        10,
        10,
    )
    clusters = find_clusters(found)
    assert clusters.item.tolist() == [2, 4, 7]
    assert clusters.trained.tolist() == [False, True, True]
    assert clusters.margin.tolist() == [3, 2, 1]
    assert clusters.size.tolist() == [2, 2, 1]
    assert find_clusters(found, 1.0).size.tolist() == [1, 1, 1]


def test_mistakes_end_in_one_line():
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="heldout has 0 samples"):
        find_matches(x, x[:0], x)
    with pytest.raises(ValueError, match="features differ in width"):
        find_matches(x, torch.zeros(3, 4), x)
    with pytest.raises(ValueError, match="ratio = 0.5 is not nearer"):
        margin_of(0.5)


def lattice(n: int, d: int, seed: int) -> torch.Tensor:
    """Few values, so that rows are equal and distances tie."""
    return torch.randint(3, (n, d), generator=torch.Generator().manual_seed(seed)).float()


def scaled(n: int, d: int, seed: int) -> torch.Tensor:
    return lattice(n, d, seed) * 0.3 + 0.1


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("draw", [lattice, scaled, normal])
@pytest.mark.parametrize(
    ("n_train", "n_heldout"), [(300, 60), (60, 300), (50, 50), (31, 7), (4, 2), (1, 1), (90, 0)]
)
def test_parts_match_as_the_whole_pool_does(draw, n_train, n_heldout):
    train, fake = draw(n_train, 6, 0), torch.cat([draw(40, 6, 2), draw(n_train, 6, 0)[:5]])
    heldout = draw(n_heldout, 6, 1) if n_heldout else None
    pool = draw_pool(train, heldout, 3)
    items = pool.table(train, heldout)
    found = match_parts(fake, search_parts(fake, train, heldout, 5), pool, items)
    for ours, expected in zip(found, match_pool(fake, pool, items), strict=True):
        assert torch.equal(torch.as_tensor(ours), torch.as_tensor(expected))


def test_only_what_parts_leave_open_is_searched_for():
    """What was found is believed as far as `known` says."""
    train, heldout, fake = normal(400, 8, 0), normal(100, 8, 1), normal(50, 8, 2)
    searched = []

    def search(queries, reference, k):
        searched.append(len(queries))
        return knn(queries, reference, k)

    pool = draw_pool(train, heldout, 0)
    items = pool.table(train, heldout)
    parts = search_parts(fake, train, heldout, 5)
    parts = parts._replace(known=parts.known.clone().index_fill_(0, torch.tensor([7]), 0.0))
    found = match_parts(fake, parts, pool, items, search=search)
    assert searched == [1]
    assert found.margin.equal(match_pool(fake, pool, items).margin)
