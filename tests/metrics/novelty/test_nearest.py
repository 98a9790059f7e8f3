"""The coin of nearest neighbours: exact, fair for fresh samples, pushed by copies."""

import math

import pytest
import torch

from novum.metrics.novelty import Neighbours, find_neighbours, share_interval


def test_exact_rows_and_distances():
    train, heldout = torch.randn(50, 6), torch.randn(20, 6)
    fake = torch.cat([train[:3], heldout[:2], torch.randn(5, 6)])
    found = find_neighbours(fake, train, heldout)
    brute = torch.cdist(fake.double(), train.double())
    assert torch.equal(found.train_row, brute.argmin(1))
    torch.testing.assert_close(found.train_distance, brute.amin(1), atol=1e-5, rtol=1e-5)
    assert found.train_distance[:3].tolist() == [0, 0, 0]
    assert found.heldout_row[3:5].tolist() == [0, 1]
    assert found.closer_to_train[3:5].tolist() == [0, 0]


def test_without_heldout_rows_nothing_is_compared():
    train = torch.randn(50, 6)
    found = find_neighbours(train[3:5], train)
    assert found.train_row.tolist() == [3, 4]
    assert found.heldout_distance is found.heldout_row is found.closer_to_train is None


@pytest.mark.parametrize(("n_train", "n_heldout"), [(400, 100), (100, 100), (100, 300)])
def test_a_fresh_generator_is_a_fair_coin(n_train, n_heldout):
    """However the sizes differ; 40 seeds, the mean share within 4 standard errors of .5."""
    shares = []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        train, heldout, fake = (
            torch.randn(n, 4, generator=generator) for n in (n_train, n_heldout, 200)
        )
        shares.append(float(find_neighbours(fake, train, heldout).closer_to_train.mean()))
    shares = torch.tensor(shares)
    assert abs(shares.mean() - 0.5) < 4 * shares.std() / math.sqrt(40)


def test_interval_covers_the_coin():
    """95% of intervals should hold .5 for fresh samples; 60 seeds, at least 85% must."""
    covered = 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(1000 + seed)
        sets = (torch.randn(n, 4, generator=generator) for n in (300, 100, 200))
        train, heldout, fake = sets
        _, low, high = share_interval(find_neighbours(fake, train, heldout))
        covered += low <= 0.5 <= high
    assert covered >= 51


def test_samples_at_one_image_say_little():
    """A collapsed generator may lie near one training image by chance: no alarm."""
    n = 500
    found = Neighbours(
        torch.ones(n), torch.zeros(n, dtype=torch.long), torch.ones(n),
        torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.float64) * 0.8,
    )  # fmt: skip
    share, low, high = share_interval(found)
    assert share == pytest.approx(0.8)
    assert low < 0.5 < high


def test_copies_push_the_interval_above_the_coin():
    generator = torch.Generator().manual_seed(0)
    train, heldout = (torch.randn(300, 8, generator=generator) for _ in range(2))
    fresh = torch.randn(150, 8, generator=generator)
    fake = torch.cat([fresh, train[:150] + 0.01])
    _, low, _ = share_interval(find_neighbours(fake, train, heldout))
    assert low > 0.6
