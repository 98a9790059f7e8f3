"""Diversity of samples."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.metrics.checks import check_features
from novum.metrics.record import FeatureSets, Measure, Metric, Values


class InceptionScore(NamedTuple):
    mean: float
    std: float  # over the splits, not a standard error


def inception_score(logits: Tensor, splits: int = 10, *, seed: int | None = 2020) -> InceptionScore:
    """exp E KL(p(y|x) || p(y)) over `splits` parts (Salimans et al., 2016, 1606.03498).

    Rows are shuffled as torch-fidelity does it; `seed=None` keeps their order.
    """
    check_features(logits, "logits", at_least=splits)
    if seed is not None:
        order = np.random.RandomState(seed).permutation(len(logits))
        logits = logits[torch.from_numpy(order).to(logits.device)]
    log_p = logits.double().log_softmax(1)
    edges = [i * len(logits) // splits for i in range(splits + 1)]
    scores = [_score(log_p[start:stop]) for start, stop in zip(edges, edges[1:], strict=False)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def vendi_score(fake: Tensor, q: float = 1.0) -> float:
    """Effective number of distinct samples: exp of the Rényi entropy of order q of the spectrum of
    the cosine kernel / n (Friedman & Dieng, 2022, 2210.02410; Pasarkar & Dieng, 2023, 2310.12952).

    Uses the smaller of the n x n kernel and its dual d x d Gram matrix: the spectra are the same.
    """
    check_features(fake, "fake")
    n, d = fake.shape
    norms = torch.cat([block.double().norm(dim=1, keepdim=True) for block in fake.split(8192)])
    gram = torch.zeros(min(n, d), min(n, d), dtype=torch.float64, device=fake.device)
    if n <= d:
        unit = fake.double() / norms.clamp(min=torch.finfo(torch.float64).tiny)
        gram += unit @ unit.T
    else:
        for block, norm in zip(fake.split(8192), norms.split(8192), strict=True):
            unit = block.double() / norm.clamp(min=torch.finfo(torch.float64).tiny)
            gram += unit.T @ unit
    zeros = (norms == 0).sum().double()  # zero vectors: alike, and unlike all others
    spectrum = torch.cat([torch.linalg.eigvalsh(gram), zeros[None]]).clamp(min=0) / n
    return float(_renyi_entropy(spectrum, q).exp())


def _score(log_p: Tensor) -> float:
    log_marginal = log_p.logsumexp(0) - np.log(len(log_p))
    return float((log_p.exp() * (log_p - log_marginal)).sum(1).mean().exp())


def _renyi_entropy(p: Tensor, q: float) -> Tensor:
    p = p[p > 0]
    if q == 1:
        return -(p * p.log()).sum()
    if q == float("inf"):
        return -p.max().log()
    return p.pow(q).sum().log() / (1 - q)


def _inception_score(sets: FeatureSets) -> Values:
    assert sets.logits is not None
    return (inception_score(sets.logits).mean,)


MEASURES = (
    Measure(
        (
            Metric(
                "vendi_score",
                "Vendi score",
                "How many entirely different images the samples are worth.",
                better="higher",
                direction="higher",
            ),
        ),
        lambda sets: (vendi_score(sets.fake),),
        position=80,
    ),
    Measure(
        (
            Metric(
                "inception_score",
                "Inception score",
                "Samples of one clear class each, of all classes together.",
                better="higher",
                direction="higher",
            ),
        ),
        _inception_score,
        at_least=10,
        needs="logits",
        position=90,
    ),
)
