import multiprocessing
import sys
import warnings

import pytest
import scipy.linalg
import torch
import torch.distributed as dist
from torch import Tensor

from novum.metrics.functional import (
    Moments,
    covariance_factor,
    frechet_distance,
    frechet_distance_from_features,
    frechet_distance_infinity,
    frechet_distance_interval,
)


def by_matrix_root(real: Tensor, fake: Tensor) -> float:
    """The formula as published, with scipy."""
    a, b = real.double(), fake.double()
    cov_a, cov_b = a.T.cov(), b.T.cov()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = scipy.linalg.sqrtm((cov_a @ cov_b).numpy()).real.trace()
    return float((a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * root)


def test_gaussians_on_a_line():
    one = torch.ones(1, 1)
    value = frechet_distance(torch.tensor([1.0]), 4 * one, torch.tensor([3.0]), 25 * one)
    assert value == pytest.approx((1 - 3) ** 2 + (2 - 5) ** 2, rel=1e-12)


def test_commuting_covariances():
    a, b = torch.tensor([1.0, 4, 9]), torch.tensor([16.0, 25, 0])
    zero = torch.zeros(3)
    value = frechet_distance(zero, a.diag(), zero, b.diag())
    assert value == pytest.approx(float((a.sqrt() - b.sqrt()).square().sum()), rel=1e-12)


def test_equals_scipys_matrix_root(normal):
    real, fake = normal(400, 20), 1.5 * normal(300, 20, seed=1) @ normal(20, 20, seed=2) + 1
    expected = by_matrix_root(real, fake)
    assert frechet_distance_from_features(real, fake) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("n", "m"), [(40, 30), (40, 500), (500, 40), (40, 40)])
def test_fewer_samples_than_dimensions(normal, n, m):
    """In the eigenbasis of a low-rank problem: pad 8 dimensions that vary with 56 that do not."""
    real, fake = normal(n, 8), normal(m, 8, seed=1) * 2 + 0.5
    rotation = torch.linalg.qr(normal(64, 64, seed=2).double()).Q[:8]
    expected = by_matrix_root(real, fake)
    value = frechet_distance_from_features(real.double() @ rotation, fake.double() @ rotation)
    assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [30, 64, 65, 300])
def test_distance_to_itself_is_zero(normal, n):
    x = normal(n, 64)
    x[:, 40:] = 0  # dead features, as black borders make them
    assert frechet_distance_from_features(x, x) < 1e-6
    assert frechet_distance_from_features(x, x.flip(0)) < 1e-6


def test_constant_sets():
    black, white = torch.zeros(10, 4), torch.ones(10, 4)
    assert frechet_distance_from_features(black, black) == 0
    assert frechet_distance_from_features(black, white) == pytest.approx(4)
    moments = [Moments().update(x.repeat(10, 1)) for x in (black, white)]
    assert moments[0].frechet_distance(moments[1]) == pytest.approx(4)


@pytest.mark.parametrize(("n", "m"), [(40, 500), (500, 40), (30, 40), (500, 400)])
def test_moments_alone_know_the_distance(normal, n, m):
    real, fake = normal(n, 64), normal(m, 64, seed=1) + 0.5
    value = Moments().update(real).frechet_distance(Moments().update(fake))
    assert value == pytest.approx(frechet_distance_from_features(real, fake), rel=1e-7)


def test_is_symmetric(normal):
    a, b = normal(100, 16), normal(90, 16, seed=1) + 1
    there, back = frechet_distance_from_features(a, b), frechet_distance_from_features(b, a)
    assert there == pytest.approx(back, rel=1e-12)


def test_a_kept_factor_changes_nothing(normal):
    a, b = Moments().update(normal(100, 16)), Moments().update(normal(90, 16, seed=1) + 1)
    fresh = frechet_distance(a.mean, a.cov, b.mean, b.cov)
    kept = frechet_distance(a.mean, a.cov, b.mean, b.cov, factor1=a.factor)
    assert fresh == kept == a.frechet_distance(b)


@pytest.mark.parametrize("n", [200, 20])
def test_factor_of_regular_and_of_singular_covariances(normal, n):
    cov = normal(n, 32).double().T.cov()
    factor = covariance_factor(cov)
    assert factor.shape[1] == min(32, n - 1)
    assert torch.allclose(factor @ factor.T, cov, atol=1e-12)


def test_moments_equal_the_whole(normal):
    x = normal(1000, 12).double() + 100
    moments = Moments().update(x)
    assert moments.n == 1000
    assert torch.allclose(moments.mean, x.mean(0), rtol=1e-13)
    assert torch.allclose(moments.cov, x.T.cov(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sizes", [[1] * 10 + [990], [500, 500], [0, 7, 993, 0]])
def test_moments_do_not_depend_on_the_batches(normal, sizes):
    x = normal(1000, 12) + 10
    whole = Moments().update(x)
    streamed, merged = Moments(), Moments()
    for part in x.split(sizes):
        streamed.update(part)
        merged.merge(Moments().update(part))
    for parts in (streamed, merged):
        assert parts.n == 1000
        assert torch.allclose(parts.mean, whole.mean, rtol=1e-13)
        assert torch.allclose(parts.cov, whole.cov, rtol=1e-10, atol=1e-12)


def test_moments_know_their_state(normal):
    moments = Moments().update(normal(50, 6))
    again = Moments.from_state(moments.state())
    assert again.n == 50
    assert torch.equal(again.cov, moments.cov) and torch.equal(again.factor, moments.factor)
    again.update(normal(50, 6, seed=1))
    assert not torch.equal(again.factor, moments.factor)


def test_merging_leaves_the_other_alone(normal):
    a = Moments().update(normal(20, 3))
    mean = a.mean.clone()
    Moments().merge(a).update(normal(20, 3, seed=1))
    assert torch.equal(a.mean, mean)


def _reduce(rank: int, ranks: int, folder: str) -> None:
    meeting = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    x = torch.randn(100, 5, generator=torch.Generator().manual_seed(0)) + 3
    share = x[:0] if rank == 2 else x[rank::2]  # the third rank has nothing
    torch.save(Moments().update(share).all_reduce().state(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_agree_to_the_bit_and_with_the_whole(run_python, normal, tmp_path):
    run_python(__file__, tmp_path).check_returncode()
    states = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    whole = Moments().update(normal(100, 5) + 3)
    for state in states:
        assert int(state["n"]) == 100
        assert all(torch.equal(state[name], states[0][name]) for name in state)
    assert torch.allclose(states[0]["mean"], whole.mean, rtol=1e-13)
    assert torch.allclose(states[0]["scatter"], whole.scatter, rtol=1e-12)


def test_without_ranks_all_reduce_does_nothing(normal):
    moments = Moments().update(normal(10, 2))
    assert moments.all_reduce() is moments and moments.n == 10


def test_one_sample_has_no_covariance(normal):
    with pytest.raises(ValueError, match="fake has 1 samples, this metric needs at least 2"):
        frechet_distance_from_features(normal(5, 2), normal(1, 2))
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        _ = Moments().update(normal(1, 2)).cov


def test_moments_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"moments must be \(d,\), \(d, d\)"):
        frechet_distance(torch.zeros(2), torch.eye(2), torch.zeros(3), torch.eye(3))


def test_nan_moments_are_refused():
    zero, one = torch.zeros(1), torch.eye(1)
    with pytest.raises(ValueError, match="cov2 has NaN"):
        frechet_distance(zero, one, zero, one * torch.nan)


def test_interval_on_a_line(normal):
    """sd of 2 (m2 - m1) (x - m2) + (1 - s1 / s2) (x - m2)^2, over root n."""
    real, fake = normal(500, 1).double(), 3 * normal(400, 1, seed=1).double() + 1
    x, slope = fake - fake.mean(), 2 * (fake.mean() - real.mean())
    pulls = slope * x + (1 - real.std() / fake.std()) * x.square()
    interval = frechet_distance_interval(real, fake)
    assert interval.value == pytest.approx(frechet_distance_from_features(real, fake), rel=1e-9)
    half = 1.959964 * float(pulls.std()) / 20
    assert interval.high - interval.value == pytest.approx(half, rel=1e-6)
    assert interval.value - interval.low == pytest.approx(half, rel=1e-6)


@pytest.mark.parametrize(("n", "d", "near"), [(600, 4, 0.01), (30, 60, 0.25)])
def test_interval_is_the_delete_one_jackknifes(normal, n, d, near):
    real, fake = normal(300, d), 1.4 * normal(n, d, seed=1) + 0.3
    without = torch.tensor(
        [
            frechet_distance_from_features(real, torch.cat([fake[:i], fake[i + 1 :]]))
            for i in range(n)
        ]
    )
    jackknife = float((n - 1) / n**0.5 * without.std(correction=0))
    interval = frechet_distance_interval(real, fake)
    assert (interval.high - interval.value) / 1.959964 == pytest.approx(jackknife, rel=near)


@pytest.mark.parametrize(("n", "m"), [(40, 30), (500, 40), (40, 500), (500, 400)])
def test_interval_is_around_the_distance(normal, n, m):
    real, fake = normal(n, 64), normal(m, 64, seed=1) + 0.5
    expected = frechet_distance_from_features(real, fake)
    assert frechet_distance_interval(real, fake).value == pytest.approx(expected, rel=1e-7)
    moments = Moments().update(real)
    assert frechet_distance_interval(moments, fake) == frechet_distance_interval(real, fake)


@pytest.mark.parametrize("scale", [1.0, 1.3])
@pytest.mark.parametrize("n", [12, 60, 300])
def test_interval_covers_the_mean_over_sets_of_its_size(normal, n, scale):
    real = Moments().update(normal(1000, 16))
    found = [frechet_distance_interval(real, scale * normal(n, 16, seed)) for seed in range(1, 201)]
    mean = sum(interval.value for interval in found) / 200
    assert sum(interval.low <= mean <= interval.high for interval in found) >= 180


def test_interval_of_sets_without_variance():
    black, white = torch.zeros(10, 4), torch.ones(10, 4)
    assert frechet_distance_interval(black, white) == pytest.approx((4, 4, 4))
    assert frechet_distance_interval(black.repeat(3, 1), white) == pytest.approx((4, 4, 4))


def known_gaussian(mean: Tensor, cov: Tensor) -> Moments:
    return Moments.from_state(
        {"n": torch.tensor(10**6), "mean": mean, "scatter": cov * (10**6 - 1), "factor": None}
    )


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.3, 0.3)])
def test_infinity_covers_the_distance_of_the_distributions(normal, scale, shift):
    """Where 130 samples of 16 dimensions are far off and their interval holds it never."""
    zero, one = torch.zeros(16).double(), torch.eye(16).double()
    real, truth = known_gaussian(zero, one), 16 * ((scale - 1) ** 2 + shift**2)
    hits = misses = error = 0.0
    for seed in range(100):
        fake = scale * normal(130, 16, seed) + shift
        interval = frechet_distance_infinity(real, fake, seed=seed)
        hits += interval.low <= truth <= interval.high
        misses += frechet_distance_interval(real, fake).low > truth
        error += (interval.value - truth) / 100
    assert hits >= 85
    assert misses >= 60
    assert abs(error) < 0.1 * (frechet_distance_interval(real, fake).value - truth)


def test_infinity_is_seeded_and_independent_of_order(normal):
    real, fake = normal(200, 8), normal(150, 8, seed=1) + 0.2
    values = [frechet_distance_infinity(real, fake, seed=seed) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    sorted_by_size = fake[fake.norm(dim=1).argsort()]  # halves in order would differ much
    assert frechet_distance_infinity(real, sorted_by_size).value == pytest.approx(
        values[0].value, abs=values[0].high - values[0].value
    )


def test_infinity_needs_samples_for_its_halves(normal):
    real = normal(100, 16)
    with pytest.raises(ValueError, match="fake has 63 samples, this metric needs at least 64"):
        frechet_distance_infinity(real, normal(63, 16, seed=1))
    real[:, 8:] = 0  # dead features count for nothing
    frechet_distance_infinity(real, normal(32, 16, seed=1))


def test_a_reference_of_another_width_is_refused(normal):
    for metric in (frechet_distance_interval, frechet_distance_infinity):
        with pytest.raises(ValueError, match="real has d = 4, fake has d = 3"):
            metric(Moments().update(normal(50, 4)), normal(50, 3))


def test_goldens(goldens, generator_name):
    expected = goldens.values[generator_name]["frechet_distance"]
    value = frechet_distance_from_features(goldens.train, goldens.fake(generator_name))
    assert value == pytest.approx(expected, rel=1e-6)
    interval = frechet_distance_interval(goldens.train, goldens.fake(generator_name))
    assert interval.value == pytest.approx(expected, rel=1e-6)
    assert interval.low < expected < interval.high


if __name__ == "__main__":  # the ranks of the test of ranks, forked so that torch is imported once
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=_reduce, args=(rank, 3, sys.argv[1])) for rank in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    sys.exit(any(rank.exitcode for rank in ranks))
