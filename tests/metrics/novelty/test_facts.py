"""Facts: what is identical, and when that is more than chance."""

import numpy as np
import pytest

from novum.metrics.novelty.facts import find_identical


def keys(*values: int) -> np.ndarray:
    return np.array(values)


def test_pairs_and_overlaps_by_hand():
    found = find_identical(keys(5, 9, 1, 5), keys(1, 2, 5, 5, 3), keys(7, 5, 8))
    assert found.samples.tolist() == [0, 2, 3] and found.train.tolist() == [2, 0, 2]
    assert found.overlap == (3, 2)  # of 1, 5 and 9 the first two
    assert found.heldout == (3, 1) and found.heldout_rows == 1
    assert found.pool_pairs == 2  # 5 occurs three times


def test_one_identical_sample_convicts_where_nothing_repeats():
    assert find_identical(keys(1, 90), keys(*range(50)), keys(*range(50, 80))).p == 0
    assert find_identical(keys(1, 90), keys(*range(50)), None).p == 0
    assert find_identical(keys(89, 90), keys(*range(50)), keys(*range(50, 80))).p == 1


@pytest.mark.parametrize(("copies", "convicted"), [(0, False), (150, True)])
def test_in_data_that_repeats_itself_more_than_chance_is_needed(copies, convicted):
    """30% of draws from 1,000 items, the others new: fresh samples equal training images too."""
    rng = np.random.default_rng(0)

    def draw(n):
        new = rng.integers(1000, 2**40, n)
        return np.where(rng.random(n) < 0.3, rng.integers(0, 1000, n), new)

    p = []
    for _ in range(40):
        train, heldout, fake = draw(2000), draw(400), draw(400)
        fake[:copies] = train[:copies]
        p.append(find_identical(fake, train, heldout).p)
    assert sum(value <= 0.001 for value in p) == (40 if convicted else 0)


def test_held_out_images_from_training_are_a_leak():
    train = np.arange(400)
    found = find_identical(keys(1000), train, np.arange(300, 500))
    assert found.leak_p < 1e-9 and found.heldout_rows == 100
    assert find_identical(keys(1000), train, np.arange(400, 500)).leak_p == 1
