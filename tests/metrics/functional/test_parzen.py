import math

import numpy as np
import pytest
import torch

from novum.metrics.functional import parzen_log_likelihood, parzen_sigma


def published(samples: np.ndarray, test: np.ndarray, sigma: float) -> tuple[float, float]:
    """The formulas of Goodfellow's parzen_ll.py, one test image at a time, in float64."""
    values = []
    for x in test:
        a = -0.5 * (((x - samples) / sigma) ** 2).sum(1)
        log_mean_exp = a.max() + np.log(np.mean(np.exp(a - a.max())))
        values.append(log_mean_exp - samples.shape[1] * np.log(sigma * np.sqrt(np.pi * 2)))
    return float(np.mean(values)), float(np.std(values) / np.sqrt(len(values)))


@pytest.mark.parametrize("sigma", [0.05, 0.2, 1.0])
def test_equals_the_published_script(sigma):
    rng = np.random.RandomState(0)
    samples, test = rng.rand(200, 36), rng.rand(50, 36)
    value = parzen_log_likelihood(torch.from_numpy(samples), torch.from_numpy(test), sigma)
    assert value == pytest.approx(published(samples, test, sigma), rel=1e-10)


def test_a_test_image_among_the_samples():
    x = torch.zeros(1, 5)
    expected = -5 * math.log(0.1 * math.sqrt(2 * math.pi))
    value = parzen_log_likelihood(x, x, 0.1)
    assert value == pytest.approx((expected, 0), rel=1e-12)


def test_blocks_do_not_matter(normal):
    from novum.metrics.functional.parzen import _log_likelihoods

    samples, test = normal(50, 4), normal(40, 4, 1)
    whole = _log_likelihoods(samples, test, [0.3])
    assert torch.allclose(_log_likelihoods(samples, test, [0.3], rows=7), whole, rtol=1e-12)


def test_sigma_is_the_best_of_the_grid(normal):
    samples, validation = normal(500, 4), normal(200, 4, 1)
    sigmas = torch.logspace(-1, 0, 10).tolist()
    values = [parzen_log_likelihood(samples, validation, s).value for s in sigmas]
    best = max(zip(values, sigmas, strict=True))[1]
    assert parzen_sigma(samples, validation) == pytest.approx(best, rel=1e-6)
    assert 0.1 < best < 1


def test_sigma_must_be_positive(normal):
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        parzen_log_likelihood(normal(3, 2), normal(3, 2), 0)
