import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_kid import kid_features_to_metric

from novum.metrics.functional import kernel_distance, kernel_distance_interval
from novum.metrics.functional.kernel import _kernel_sums


def u_statistic(real: Tensor, fake: Tensor) -> float:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a.double() @ b.double().T / a.shape[1] + 1) ** 3

    n, m = len(real), len(fake)
    real_real, fake_fake = kernel(real, real), kernel(fake, fake)
    within_real = (real_real.sum() - real_real.trace()) / (n * (n - 1))
    within_fake = (fake_fake.sum() - fake_fake.trace()) / (m * (m - 1))
    return float(within_real + within_fake - 2 * kernel(real, fake).mean())


def test_equals_the_definition(normal):
    real, fake = normal(50, 6).double(), normal(70, 6, seed=1).double() + 0.3
    assert kernel_distance(real, fake) == pytest.approx(u_statistic(real, fake), rel=1e-12)


@pytest.mark.parametrize("scale", [1, 100])
def test_float32_is_far_finer_than_the_statistics_error(normal, scale):
    real, fake = (scale * (normal(1500, 64, seed) + 1) for seed in (0, 1))
    interval = kernel_distance_interval(real, fake)
    exact = kernel_distance(real.double(), fake.double())
    assert abs(interval.value - exact) < 1e-4 * (interval.high - interval.low)


def test_does_not_depend_on_the_blocks(normal):
    real, fake = normal(50, 6).double(), normal(70, 6, seed=1).double() + 0.3
    for rows in (1, 7, 64, 1000):
        sums = _kernel_sums(real, fake, rows)
        assert sums.distance() == pytest.approx(kernel_distance(real, fake), rel=1e-12)


def test_subsets_are_torch_fidelitys(normal):
    real, fake = normal(300, 16).double(), normal(200, 16, seed=1).double() + 0.3
    theirs = kid_features_to_metric(
        fake, real, kid_subsets=5, kid_subset_size=100, rng_seed=7, verbose=False
    )["kernel_inception_distance_mean"]
    ours = kernel_distance(real, fake, subsets=5, subset_size=100, seed=7)
    assert ours == pytest.approx(theirs, rel=1e-10)


def test_subsets_are_seeded(normal):
    real, fake = normal(60, 4), normal(60, 4, seed=1)
    values = [kernel_distance(real, fake, subsets=3, subset_size=20, seed=s) for s in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_jackknife_leaves_one_out(normal):
    real, fake = normal(9, 3).double(), normal(7, 3, seed=1).double() + 0.5
    keep = [[j for j in range(9) if j != i] for i in range(9)]
    without_real = np.array([u_statistic(real[rows], fake) for rows in keep])
    without_fake = np.array([u_statistic(real, fake[rows[:6]]) for rows in _others(7)])
    variance = 8 * without_real.var() + 6 * without_fake.var()
    interval = kernel_distance_interval(real, fake)
    assert interval.value == pytest.approx(kernel_distance(real, fake))
    assert interval.high - interval.value == pytest.approx(1.959964 * variance**0.5, rel=1e-6)
    assert interval.value - interval.low == pytest.approx(interval.high - interval.value)


def _others(n: int) -> list[list[int]]:
    return [[j for j in range(n) if j != i] for i in range(n)]


def test_interval_covers(normal):
    """0 is in the 95% interval of a distance of 0 about as often as that says."""
    hits = 0
    for seed in range(100):
        interval = kernel_distance_interval(normal(60, 4, 2 * seed), normal(60, 4, 2 * seed + 1))
        hits += interval.low <= 0 <= interval.high
    assert hits >= 90


def test_subsets_need_enough_samples(normal):
    with pytest.raises(ValueError, match="fake has 50 samples, this metric needs at least 100"):
        kernel_distance(normal(200, 2), normal(50, 2), subsets=2, subset_size=100)


def test_goldens(goldens, generator_name):
    expected = goldens.values[generator_name]["kernel_distance_unbiased_full"]
    value = kernel_distance(goldens.train, goldens.fake(generator_name))
    assert value == pytest.approx(expected, rel=1e-6)


def test_golden_of_the_customary_subsets(goldens):
    expected = goldens.values["copying"]["kernel_distance_subsets_100x1000_seed2020"]
    value = kernel_distance(goldens.train, goldens.fake("copying"), subsets=100, seed=2020)
    assert value == pytest.approx(expected, rel=1e-4)  # theirs is summed in float32


@pytest.mark.parametrize("offset", [10, 1000])
def test_features_far_from_the_origin(normal, offset):
    real, fake = normal(700, 32) + offset, normal(600, 32, seed=1) * 1.1 + offset + 0.01
    interval = kernel_distance_interval(real, fake)
    exact = kernel_distance_interval(real.double(), fake.double())
    assert interval.value == pytest.approx(exact.value, rel=1e-4)
    assert interval.high == pytest.approx(exact.high, rel=1e-4)


def test_float64_equals_integers(normal):
    """Every kernel of integers is an integer over d^3, which Python sums without rounding."""
    x, y = ((100 * normal(9, 4, seed)).long() + 10_000 for seed in (0, 1))

    def total(a, b, skip):
        return sum(
            (sum(p * q for p, q in zip(r, s, strict=True)) + 4) ** 3
            for i, r in enumerate(a.tolist())
            for j, s in enumerate(b.tolist())
            if i != j or not skip
        )

    # times 9 * 8 * 9, each pair's weight; 4 ** 3 is d ** 3
    exact = 9 * (total(x, x, True) + total(y, y, True)) - 16 * total(x, y, False)
    found = kernel_distance(x.double(), y.double())
    assert found == pytest.approx(exact / (9 * 8 * 9 * 4**3), rel=1e-9)


def test_autocast_changes_nothing(normal):
    real, fake = normal(300, 64), normal(300, 64, seed=1) + 0.2
    expected = kernel_distance(real, fake)
    with torch.autocast("cpu", torch.bfloat16):
        assert kernel_distance(real, fake) == expected
