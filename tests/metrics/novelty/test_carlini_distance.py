import pytest
import torch

from novum.metrics.functional import calibrated_distance


def test_by_hand():
    train = torch.tensor([[0.0], [2], [6], [50]])
    # nearest 1; mean to the 3 nearest (1 + 1 + 5) / 3
    found = calibrated_distance(train, torch.tensor([[1.0], [0.0]]), n=3, alpha=0.5)
    assert found.tolist() == pytest.approx([1 / (0.5 * 7 / 3), 0])


def test_copies_of_a_duplicated_row_are_found(normal):
    train = torch.cat([normal(60, 8), normal(1, 8, 1).repeat(60, 1)])
    fresh = normal(40, 8, 2)
    found = calibrated_distance(train, torch.cat([train[-1:] + 0.01, fresh]))
    assert found[0] < 0.1
    assert (found[1:] > 0.5).all()


def test_fewer_rows_than_neighbours(normal):
    assert calibrated_distance(normal(3, 2), normal(5, 2, 1)).shape == (5,)
    assert calibrated_distance(torch.zeros(1, 2), torch.zeros(1, 2)).tolist() == [0]
