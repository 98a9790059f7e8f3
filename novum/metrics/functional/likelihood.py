"""Feature likelihood divergence: how likely held-out data is under the samples (2302.04440)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from novum.metrics.checks import check_features, check_same_width
from novum.metrics.record import FeatureSets, Measure, Metric, Values

STEPS, LEARNING_RATE = 50, 0.5  # of Adam, at most; as published, like the next four
SETTLED = 5e-4  # nats per dimension: fewer steps once the last five losses are this close
NEARNESS = 1e-3  # added to the squared distance that a centre's variance starts from
BACKGROUND = 0.9  # share of its distance to the mean at which the background sees a row
LARGEST_LOG_VARIANCE = 40.0
JUDGED = 5_000  # rows of each set in an evaluation: a quarter of the work for 10,000
BLOCK = 1024  # rows at a time in products
CACHED = 2**19  # terms at a time that stay in the CPU's cache


class FeatureLikelihood(NamedTuple):
    """In 1/100 nat per dimension, and the scores in nats per dimension."""

    value: (
        float  # held-out data's negative log-likelihood, less that under training rows as centres
    )
    gap: float  # training data's less held-out data's: far below 0 if the samples copy
    scores: Tensor  # (m,) of each sample as centre: the largest log-density of a training row


def feature_likelihood_divergence(
    train: Tensor, heldout: Tensor, fake: Tensor, *, max_rows: int = 10_000, seed: int = 0
) -> FeatureLikelihood:
    """Fit a Gaussian around each sample to training data; compare it there and on held-out data.

    Jiralerspong et al., 2023. A copy's Gaussian shrinks onto its source, which raises the
    likelihood of training data alone. The baseline's centres are as many training rows as there are
    samples, half of training at most, fitted to the others. Of larger sets, a seeded choice of
    `max_rows` is used; the other samples' scores are NaN.
    """
    (t, h, g), rows = _standardised(train, heldout, fake, max_rows, seed)
    of_fake, centres = _fit_and_judge(g, t, h), min(len(g), len(t) // 2)
    baseline = _fit_and_judge(t[:centres], t[centres:], h)
    scores = torch.full((len(fake),), torch.nan, dtype=torch.float64, device=fake.device)
    scores[rows] = of_fake.best
    return FeatureLikelihood(100 * (baseline.heldout - of_fake.heldout), _gap(of_fake), scores)


def feature_likelihood_gap(
    train: Tensor, heldout: Tensor, fake: Tensor, *, max_rows: int = 10_000, seed: int = 0
) -> float:
    """The `gap` of `feature_likelihood_divergence` alone, at two thirds of its time."""
    (t, h, g), _ = _standardised(train, heldout, fake, max_rows, seed)
    return _gap(_fit_and_judge(g, t, h))


def _standardised(
    train: Tensor, heldout: Tensor, fake: Tensor, max_rows: int, seed: int
) -> tuple[list[Tensor], Tensor]:
    """Chosen rows of the three, scaled by held-out mean and deviation; which of fake's they are."""
    for name, x in {"train": train, "heldout": heldout, "fake": fake}.items():
        check_features(x, name, at_least=1 if name == "fake" else 2)
    check_same_width(train=train, heldout=heldout, fake=fake)
    generator = torch.Generator().manual_seed(seed)
    chosen = [_choose(len(x), max_rows, generator).to(x.device) for x in (train, heldout, fake)]
    sets = [x[rows].double() for x, rows in zip((train, heldout, fake), chosen, strict=True)]
    mean, std = sets[1].mean(0), sets[1].std(0)
    std = std.where(std > 0, 1)
    return [(x - mean) / std for x in sets], chosen[2]


class _Judged(NamedTuple):
    """Mean log-densities of a mixture per dimension, and each centre's largest at a fitted row"""

    train: float
    heldout: float
    best: Tensor


def _fit_and_judge(centres: Tensor, train: Tensor, heldout: Tensor) -> _Judged:
    d = train.shape[1]
    squared = _squared_distances(train, centres)
    log_variances = _fit(squared, (train - train.mean(0)).square().sum(1), d)
    of_train, best = _log_densities(squared, log_variances, d)
    del squared  # the largest thing here
    of_heldout, _ = _log_densities(_squared_distances(heldout, centres), log_variances, d)
    return _Judged(of_train / d, of_heldout / d, best / d)


def _gap(judged: _Judged) -> float:
    return 100 * (judged.heldout - judged.train)


def _fit(squared: Tensor, to_mean: Tensor, d: int) -> Tensor:
    """Log-variances (m,) of the centres that make the rows likely.

    They start at each centre's nearest row. While they are fitted, a background as heavy as all
    centres together is around the rows' mean, so that no row is out of reach.

    Args:
        squared: (n, m) squared distances of rows to centres.
        to_mean: (n,) of rows to their mean.
    """
    n, m = squared.shape
    start = ((squared.amin(0).double() + NEARNESS) / d).log()
    log_variances = torch.cat([start, start.new_zeros(1)])  # the last is the background's
    weights = torch.cat([torch.full_like(start, -math.log(m)), start.new_zeros(1)])
    far = (BACKGROUND**2 * to_mean).float()[:, None]
    adam = torch.optim.Adam([log_variances], lr=LEARNING_RATE)
    losses: list[float] = []
    for _ in range(STEPS):
        weight = weighted = density = 0.0
        rows = max(1, CACHED // m)
        for block, background in zip(squared.split(rows), far.split(rows), strict=True):
            block = torch.cat([block, background], 1)
            terms = _log_terms(block, log_variances, d, weights)
            share = terms.softmax(1)
            of_rows = terms.amax(1) - share.amax(1).log()  # logsumexp, without its exponentials
            density = density + of_rows.sum(dtype=torch.float64)
            weight = weight + share.sum(0)
            weighted = weighted + share.mul_(block).sum(0)
        gradient = d * weight - (-log_variances).exp() * weighted
        log_variances.grad = gradient / (2 * n * d)
        adam.step()
        log_variances.clamp_(-LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)
        losses.append(-float(density) / (n * d))
        if len(losses) > 6 and max(abs(losses[-1] - x) for x in losses[-5:]) < SETTLED:
            break
    return log_variances[:-1]


def _log_densities(squared: Tensor, log_variances: Tensor, d: int) -> tuple[float, Tensor]:
    """Mean log-density of the rows, and the largest that each centre's Gaussian has at a row."""
    total, best = 0.0, torch.full_like(log_variances, -torch.inf)
    for block in squared.split(max(1, CACHED // squared.shape[1])):
        terms = _log_terms(block, log_variances, d)
        total += float(terms.logsumexp(1).double().sum())
        best = torch.maximum(best, terms.amax(0))
    return total / len(squared) - math.log(squared.shape[1]), best


def _log_terms(
    squared: Tensor, log_variances: Tensor, d: int, weights: Tensor | float = 0.0
) -> Tensor:
    """log of weight times N(row; centre, variance) of each pair, float32 (rows, centres)."""
    constant = weights - d / 2 * (log_variances + math.log(2 * math.pi))
    half_precision = (-log_variances).exp() / 2
    return torch.addcmul(constant.float(), squared, half_precision.float(), value=-1)


def _squared_distances(x: Tensor, centres: Tensor) -> Tensor:
    """(n, m) float32; from float64 products, so that near copies keep their digits."""
    squared = torch.empty(len(x), len(centres), device=x.device)
    norms = centres.square().sum(1)
    for rows, block in zip(x.split(BLOCK), squared.split(BLOCK), strict=True):
        scale = norms + rows.square().sum(1, keepdim=True)
        block.copy_(torch.addmm(scale, rows, centres.T, alpha=-2).clamp_(min=0))
    return squared


def _choose(n: int, at_most: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator)[:at_most]


def _gap_of_sets(sets: FeatureSets) -> Values:
    assert sets.heldout is not None
    gap = feature_likelihood_gap(
        sets.train, sets.heldout, sets.fake, max_rows=JUDGED, seed=sets.seed
    )
    return (gap,)


MEASURES = (
    Measure(
        (
            Metric(
                "fld_gap",
                "FLD gap",
                "Likelihood of training less that of held-out images under the samples;"
                " overfitting pushes it below 0.",
                "novelty",
                "not far below 0",
            ),
        ),
        _gap_of_sets,
        at_least=4,
        needs="heldout",
        position=230,
    ),
)
