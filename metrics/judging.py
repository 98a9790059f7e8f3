"""All that is measured of samples in one feature space."""

from collections.abc import Callable
from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from novum.errors import raised_by_us
from novum.metrics.checks import check_features
from novum.metrics.functional import (
    Interval,
    Moments,
    authenticity,
    data_copying_test,
    density_coverage,
    kernel_distance_interval,
    memorization_informed_frechet_distance,
    precision_recall,
    vendi_score,
)
from novum.metrics.novelty import Neighbours, find_neighbours, share_interval

WIDEST = 8192  # dimensions; a wider covariance takes over half a gigabyte


class Features(NamedTuple):
    """Features (n, d) of three sets in one space."""

    train: Tensor
    heldout: Tensor | None
    fake: Tensor
    moments: Moments | None = None  # of train; None where they are wider than WIDEST
    seed: int = 0  # of the cells of C_T


class Judgement(NamedTuple):
    """What was measured in one space; None for what could not be, and why."""

    quality: dict[str, dict[str, float | None]]  # metric -> value, and low and high if known
    novelty: dict[str, Any]
    missing: list[str]
    neighbours: Neighbours


class Measure(NamedTuple):
    """Metrics computed together from at least so many samples and training images."""

    names: tuple[str, ...]
    at_least: int
    compute: Callable[[Features], tuple[float | Interval, ...]]


def judge(sets: Features, *, progress: bool = True) -> Judgement:
    """Quality and novelty of `fake`; without held-out features novelty is uncalibrated."""
    for name in ("train", "heldout", "fake"):
        features = getattr(sets, name)
        if features is not None:
            check_features(features, f"{name} features", at_least=1)
    novelty_measures = UNCALIBRATED if sets.heldout is None else UNCALIBRATED + CALIBRATED
    measures = QUALITY + novelty_measures
    found: dict[str, float | Interval | None] = {}
    missing: list[str] = []
    with tqdm(total=1 + len(measures), desc="metrics", delay=5, disable=not progress) as bar:
        neighbours = find_neighbours(sets.fake, sets.train, sets.heldout)
        for measure in measures:
            bar.update()
            values, reason = _try(measure, sets)
            found.update(zip(measure.names, values, strict=True))
            missing += [f"{' and '.join(measure.names)}: {reason}"] if reason else []
    quality = {name: _plain(found[name]) for m in QUALITY for name in m.names}
    novelty = {name: _plain(found[name])["value"] for m in novelty_measures for name in m.names}
    if sets.heldout is not None:
        novelty = {"closer_to_train": _plain(share_interval(neighbours)), **novelty}
    return Judgement(quality, novelty, missing, neighbours)


def equal_sizes(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """As many real as generated rows, a fixed random choice: these metrics vary with the sizes."""
    size = min(len(real), len(fake))
    return _choose(real, size), _choose(fake, size)


def _choose(rows: Tensor, size: int) -> Tensor:
    if len(rows) == size:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:size]]


def _try(measure: Measure, sets: Features) -> tuple[tuple[float | Interval | None, ...], str]:
    """The values, or Nones and the reason."""
    nothing = (None,) * len(measure.names)
    if min(len(sets.fake), len(sets.train)) < measure.at_least:
        there = f"{len(sets.fake)} samples and {len(sets.train)} training images"
        return nothing, f"needs at least {measure.at_least} of each, there are {there}"
    try:
        return measure.compute(sets), ""
    except ValueError as error:
        if not raised_by_us(error):
            raise
        return nothing, str(error)


def _plain(value: float | Interval | None) -> dict[str, float | None]:
    """For JSON, which knows no infinity and no NaN."""
    values = value._asdict() if isinstance(value, Interval) else {"value": value}
    return {k: float(v) if v is not None and isfinite(v) else None for k, v in values.items()}


def _frechet(sets: Features) -> tuple[float, float]:
    if sets.moments is None:
        raise ValueError(
            f"{sets.train.shape[1]:,} dimensions are too many for a covariance (at most"
            f" {WIDEST:,}): use NAME@SIZE, such as pixels@32"
        )
    distance = sets.moments.frechet_distance(Moments().update(sets.fake))
    informed = memorization_informed_frechet_distance(sets.train, sets.fake, distance=distance)
    return distance, informed


QUALITY = (
    Measure(("frechet_distance", "memorization_informed_frechet_distance"), 2, _frechet),
    Measure(
        ("kernel_distance",),
        3,
        lambda sets: (kernel_distance_interval(*equal_sizes(sets.train, sets.fake)),),
    ),
    Measure(
        ("precision", "recall"),
        4,
        lambda sets: precision_recall(*equal_sizes(sets.train, sets.fake), k=3),
    ),
    Measure(
        ("density", "coverage"),
        6,
        lambda sets: density_coverage(*equal_sizes(sets.train, sets.fake), k=5),
    ),
    Measure(("vendi_score",), 1, lambda sets: (vendi_score(sets.fake),)),
)
UNCALIBRATED = (Measure(("authenticity",), 2, lambda sets: (authenticity(sets.train, sets.fake),)),)
CALIBRATED = (
    Measure(
        ("data_copying_ct",),
        1,
        lambda sets: (data_copying_test(sets.train, sets.heldout, sets.fake, seed=sets.seed),),
    ),
)
