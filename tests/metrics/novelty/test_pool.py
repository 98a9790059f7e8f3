"""The pool of training and held-out rows: what stands for equal rows, and on which side."""

import torch

from novum.metrics.novelty.pool import draw_pool, pool_of_items


def test_items_stand_once_with_the_first_row_of_their_side():
    train, heldout = torch.tensor([[0.0], [5], [5], [9]]), torch.tensor([[2.0], [9]])
    pool = draw_pool(train, heldout)
    assert sorted(pool.rows.tolist()) in ([0, 1, 3, 4], [0, 1, 4, 5])
    assert torch.equal(pool.trained, pool.rows < 4)
    taken = pool.table(train, heldout)
    rows = torch.cat([train, heldout])
    assert torch.equal(taken[pool.of_row], rows)
    assert pool.train_items + pool.heldout_items == len(taken) == 4


def test_labels_are_those_of_a_random_row():
    """Three rows of training, one held out: the item is of training in three draws of four."""
    item = torch.tensor([0, 0, 0, 1, 0, 2])
    sides = [pool_of_items(item, 4, seed) for seed in range(600)]
    share = sum(bool(p.trained[p.of_row[0]]) for p in sides) / 600
    assert abs(share - 0.75) < 4 * (0.75 * 0.25 / 600) ** 0.5
    assert all(p.trained[p.of_row[3]] and not p.trained[p.of_row[5]] for p in sides)


def test_training_alone_is_a_pool_too():
    pool = pool_of_items(torch.arange(5), 5)
    assert pool.heldout_items == 0 and pool.trained.all()
    assert torch.equal(pool.table(torch.arange(5.0)[:, None], None)[:][:, 0], pool.rows.float())
