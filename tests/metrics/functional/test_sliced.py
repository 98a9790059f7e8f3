import pytest
import torch
from scipy.stats import wasserstein_distance

from novum.metrics.functional import sliced_wasserstein_distance


@pytest.mark.parametrize(("n", "m"), [(50, 50), (50, 30), (12, 18), (1, 7)])
def test_one_dimension_is_the_wasserstein_distance(normal, n, m):
    a, b = normal(n, 1), 2 * normal(m, 1, 1) + 1
    value = sliced_wasserstein_distance(a, b, projections=3, p=1)
    assert value == pytest.approx(wasserstein_distance(a[:, 0], b[:, 0]), rel=1e-6)


def test_a_shift_by_its_closed_form(normal):
    """W2 of a shift along a direction is |shift . direction|; its mean square is |shift|^2 / d."""
    x, shift = normal(100, 8), torch.full((8,), 0.7)
    value = sliced_wasserstein_distance(x, x + shift, projections=4000)
    assert value == pytest.approx(float(shift.norm()) / 8**0.5, rel=0.05)


def test_identical_sets_are_at_zero(normal):
    x = normal(60, 5)
    assert sliced_wasserstein_distance(x, x.flip(0)) == 0


def test_is_seeded_and_symmetric(normal):
    a, b = normal(60, 5), normal(45, 5, 1)
    value = sliced_wasserstein_distance(a, b, projections=70)
    assert value == sliced_wasserstein_distance(a, b, projections=70)
    assert value == pytest.approx(sliced_wasserstein_distance(b, a, projections=70), rel=1e-12)
    assert value != sliced_wasserstein_distance(a, b, projections=70, seed=1)
