"""Clipped Density and Coverage against the paper's equations, and what it claims of them."""

import numpy as np
import pytest
import torch
from scipy.special import betaln, gammaln
from scipy.stats import betabinom

from novum.core.errors import NotComputable
from novum.metrics.functional import clipped_density_coverage, density_coverage
from novum.metrics.functional.clipped import expected_filling
from novum.metrics.neighbours import neighbour_distances


def gaussian(n: int, seed: int, d: int = 6) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def by_the_equations(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float]:
    """Every pair of rows, float64; coverage in whole samples, as in the authors' code."""
    apart = np.linalg.norm(real[:, None] - real[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    radii = np.sort(apart, 1)[:, k - 1]
    clipped = np.minimum(radii, np.median(radii))
    to_fake = np.linalg.norm(real[:, None] - fake[None], axis=2)
    held = np.minimum((to_fake <= clipped[:, None]).sum(0) / k, 1).mean()
    ideal = np.minimum((apart <= clipped[:, None]).sum(0) / k, 1).mean()
    filled = (np.minimum((to_fake < radii[:, None]).sum(1), k) / k).mean()
    n, m = len(real), len(fake)
    expected = np.zeros(m + 1)
    for i in range(m + 1):
        j = np.arange(i + 1)
        log_p = gammaln(i + 1) - gammaln(j + 1) - gammaln(i - j + 1)
        log_p += betaln(k + j, n - k + i - j) - betaln(k, n - k)
        expected[i] = (np.minimum(j, k) * np.exp(log_p)).sum() / k
    return min(held / ideal, 1), np.searchsorted(expected, filled) / m


@pytest.mark.parametrize(
    ("n", "m", "k", "shift"),
    [(80, 60, 5, 0.0), (60, 90, 3, 0.7), (40, 40, 5, 9.0)],
)
def test_equations_of_the_paper(n, m, k, shift):
    real, fake = gaussian(n, 0), gaussian(m, 1) + shift
    density, coverage = by_the_equations(real.double().numpy(), fake.double().numpy(), k)
    found = clipped_density_coverage(real, fake, k)
    assert found.density == pytest.approx(density, abs=1e-9)
    assert coverage - 1 / m - 1e-9 <= found.coverage <= coverage + 1e-9


def test_expected_filling_is_that_of_a_beta_binomial():
    n, m, k = 50, 200, 5
    j = np.arange(m + 1)
    for samples in (0, 1, 4, 5, 77, m):
        chances = betabinom.pmf(j[: samples + 1], samples, k, n - k)
        reference = (np.minimum(j[: samples + 1], k) * chances).sum() / k
        assert float(expected_filling(n, m, k)[samples]) == pytest.approx(reference, abs=1e-12)


@pytest.mark.parametrize("good", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_both_are_linear_in_the_share_of_good_samples(good):
    n = 2000
    fake = gaussian(n, 1)
    fake[int(good * n) :] += 100
    density, coverage = clipped_density_coverage(gaussian(n, 0), fake)
    assert density == pytest.approx(good, abs=0.03)
    assert coverage == pytest.approx(good, abs=0.03)


def test_an_outlier_among_training_rows_does_not_make_bad_samples_good():
    """Its ball would hold all of them: Density rises to half, Clipped Density does not."""
    real, fake = gaussian(500, 0), gaussian(500, 1)
    real[:5] = real[:5] * 0.1 + 40
    real[0] += 40
    fake[250:] = 60
    assert clipped_density_coverage(real, fake).density == pytest.approx(0.5, abs=0.06)
    assert density_coverage(real, fake).density > 0.4


def test_known_neighbours_change_nothing():
    real, fake = gaussian(100, 0), gaussian(100, 1)
    near = neighbour_distances(real, 9)
    assert clipped_density_coverage(real, fake, near=near) == clipped_density_coverage(real, fake)


def test_a_set_against_itself_is_perfect_with_duplicates_too():
    real = gaussian(60, 0).repeat(2, 1)
    assert clipped_density_coverage(real, real) == (1.0, 1.0)


def test_too_few_rows():
    with pytest.raises(NotComputable, match="needs at least 5"):
        clipped_density_coverage(gaussian(30, 0), gaussian(4, 1))
