"""Parzen-window log-likelihood, by the protocol of Goodfellow et al., 2014 (parzen_ll.py)."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from novum.core.errors import InputError
from novum.metrics.checks import check_features, check_same_width

SIGMAS = tuple(torch.logspace(-1, 0, 10, dtype=torch.float64).tolist())


class LogLikelihood(NamedTuple):
    value: float  # nats per image
    standard_error: float


def parzen_log_likelihood(samples: Tensor, test: Tensor, sigma: float) -> LogLikelihood:
    """Mean over test of log mean_i N(x; s_i, sigma^2 I), pixels in [0, 1]; their std / sqrt(n)."""
    values = _log_likelihoods(samples, test, [sigma])[0]
    return LogLikelihood(float(values.mean()), float(values.std(correction=0)) / len(test) ** 0.5)


def parzen_sigma(samples: Tensor, validation: Tensor, sigmas: Iterable[float] = SIGMAS) -> float:
    """The sigma with the highest log-likelihood of the validation set."""
    sigmas = list(sigmas)
    means = _log_likelihoods(samples, validation, sigmas).mean(1)
    return sigmas[int(means.argmax())]


def _log_likelihoods(
    samples: Tensor, test: Tensor, sigmas: list[float], rows: int = 1024
) -> Tensor:
    """Log density of each test row for each sigma, (sigmas, n) float64; distances computed once."""
    check_features(samples, "samples")
    check_features(test, "test")
    check_same_width(samples=samples, test=test)
    if not min(sigmas) > 0:
        raise InputError(f"sigma must be positive, got {min(sigmas)}")
    samples = samples.double()
    norms, d = samples.square().sum(1), samples.shape[1]
    parts = []
    for x in test.split(rows):
        x = x.double()
        squared = torch.addmm(norms, x, samples.T, alpha=-2) + x.square().sum(1, keepdim=True)
        squared.clamp_(min=0)
        parts.append(torch.stack([(squared / (-2 * sigma**2)).logsumexp(1) for sigma in sigmas]))
    constants = [math.log(len(samples)) + d * math.log(s * math.sqrt(2 * math.pi)) for s in sigmas]
    return torch.cat(parts, 1) - samples.new_tensor(constants)[:, None]
