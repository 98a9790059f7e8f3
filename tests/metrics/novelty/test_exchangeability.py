import pytest
import torch
from scipy.stats import kstest

from novum.metrics.novelty.exchangeability import exchangeability_test


def draw(n: int, seed: int, shift: float = 0.0, spread: float = 1.0):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(n, 8, generator=generator) + shift


def test_p_values_of_like_sets_are_uniform():
    # a right test fails this one time in a hundred, over seeds; these are fixed
    found = [
        exchangeability_test(draw(120, 2 * s), draw(90, 2 * s + 1), permutations=99, seed=s).p
        for s in range(200)
    ]
    assert kstest(found, "uniform").pvalue > 0.01


@pytest.mark.parametrize("change", [{"shift": 0.7}, {"spread": 1.6}])
def test_sets_of_another_kind_are_told_apart(change):
    found = exchangeability_test(draw(600, 0), draw(600, 1, **change))
    assert found.p == 1 / 1000
    assert found.share > 0.55


def test_as_many_of_each_are_compared():
    found = exchangeability_test(draw(5000, 0), draw(300, 1))
    assert found.p > 0.01
    assert abs(found.share - 0.5) < 0.07  # four standard errors of 300 pairs of neighbours


def test_the_same_twice_and_copies_do_no_harm():
    train, heldout = draw(300, 0).repeat(3, 1), draw(300, 1)
    first, second = (exchangeability_test(train, heldout, rows=200) for _ in range(2))
    assert first == second


def test_bad_sets_are_named():
    with pytest.raises(ValueError, match="heldout has 1 samples"):
        exchangeability_test(draw(20, 0), draw(1, 1))
    with pytest.raises(ValueError, match="features differ in width"):
        exchangeability_test(draw(20, 0), draw(20, 1)[:, :3])
