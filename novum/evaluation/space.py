"""All that is measured of samples in one feature space."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from novum.core import distributed
from novum.core.errors import NotComputable
from novum.metrics.checks import check_features
from novum.metrics.functional import (
    Interval,
    Moments,
    authenticity,
    data_copying_test,
    density_coverage,
    expected_coverage,
    feature_likelihood_gap,
    frechet_distance_infinity,
    frechet_distance_interval,
    inception_score,
    kernel_distance_interval,
    memorization_informed_frechet_distance,
    precision_recall,
    realism,
    sliced_wasserstein_distance,
    vendi_score,
)
from novum.metrics.neighbours import knn_together
from novum.metrics.novelty import (
    CopyTest,
    Matches,
    Neighbours,
    attribution_from_matches,
    copies_at_least,
    copy_rate_from_matches,
    copy_test_from_matches,
    find_matches,
    find_neighbours,
    permutation_test_from_matches,
    share_interval,
)
from novum.metrics.subsets import choose_rows, equal_sizes

WIDEST = 8192  # dimensions; a wider covariance takes over half a gigabyte
MOST_ROWS = 50_000  # of each set, for what is fitted by iteration (k-means, mixtures)
PLOTTED = 1000  # samples whose realism is computed
ITEM_Q = 0.01  # false discovery rate of the training items said to be copied
RATIO = 2.0  # times nearer to one item than to others: what copy_rate counts

Values = tuple[float | Interval | None, ...]


class Features(NamedTuple):
    """Features (n, d) of three sets in one space."""

    train: Tensor
    heldout: Tensor | None
    fake: Tensor
    moments: Moments | None = None  # of train; None where they are wider than WIDEST
    near: Tensor | None = None  # `neighbour_distances` of the training rows of `equal_sizes`
    logits: Tensor | None = None  # (n, classes) of fake, for the Inception score
    seed: int = 0  # of the random choices that metrics make


class Copying(NamedTuple):
    """What matches with training and held-out items say."""

    matches: Matches
    rate: Interval
    at_least: float  # copies among the samples, at any ratio
    test: CopyTest
    p: float
    items: int  # training items that draw more samples than chance gives, q <= ITEM_Q


class Realism(NamedTuple):
    """Of some samples, the suspicious ones among them."""

    rows: Tensor  # (k,) int64
    values: Tensor  # (k,)


class Judgement(NamedTuple):
    """What was measured in one space; None for what could not be, and why."""

    quality: dict[str, dict[str, float | None]]  # metric -> value, and low and high if known
    novelty: dict[str, Any]
    missing: list[str]
    neighbours: Neighbours
    copying: Copying | None = None
    realism: Realism | None = None


class Measure(NamedTuple):
    """Metrics computed together from at least so many samples and training images."""

    names: tuple[str, ...]
    at_least: int
    compute: Callable[[Features], Values]


def judge(sets: Features, *, progress: bool = True) -> Judgement:
    """Quality and novelty of `fake`; without held-out features novelty is uncalibrated.

    Several ranks judge the same sets at once: each searches in a part of the references, and
    computes a part of the metrics.
    """
    for name in ("train", "heldout", "fake"):
        features = getattr(sets, name)
        if features is not None:
            check_features(features, f"{name} features", at_least=1)
    quality_measures = QUALITY if sets.logits is None else QUALITY + CLASSES
    novelty_measures = UNCALIBRATED if sets.heldout is None else UNCALIBRATED + CALIBRATED
    measures = quality_measures + novelty_measures
    own = measures[distributed.rank() :: distributed.world_size()]
    computed: dict[tuple[str, ...], tuple[Values, str]] = {}
    progress = progress and distributed.is_rank_zero()
    with tqdm(total=2 + len(own), desc="metrics", delay=5, disable=not progress) as bar:
        neighbours = find_neighbours(sets.fake, sets.train, sets.heldout, search=knn_together)
        bar.update()
        copying = None
        if sets.heldout is not None:
            matches = find_matches(sets.train, sets.heldout, sets.fake, search=knn_together)
            copying = judge_copying(matches, math.log(RATIO), sets.seed)
        bar.update()
        for measure in own:
            computed[measure.names] = _try(measure, sets)
            bar.update()
    for other in distributed.all_gather_objects(computed, "metrics"):
        computed |= other
    found: dict[str, float | Interval | None] = {}
    missing: list[str] = []
    for names in (measure.names for measure in measures):
        values, reason = computed[names]
        found.update(zip(names, values, strict=True))
        missing += [f"{' and '.join(names)}: {reason}"] if reason else []
    quality = {name: as_estimate(found[name]) for m in quality_measures for name in m.names}
    novelty = {
        name: as_estimate(found[name])["value"] for m in novelty_measures for name in m.names
    }
    if copying is not None:
        share = {"closer_to_train": as_estimate(share_interval(neighbours))}
        novelty = copying_figures(copying) | share | novelty
    shown = _realism(sets, neighbours, copying)
    return Judgement(quality, novelty, missing, neighbours, copying, shown)


def judge_copying(matches: Matches, margin: float, seed: int = 0) -> Copying:
    """Copy rate at this margin, copy test and permutation test of one set of matches."""
    return Copying(
        matches,
        copy_rate_from_matches(matches, margin),
        copies_at_least(matches),
        copy_test_from_matches(matches),
        permutation_test_from_matches(matches, seed=seed),
        int((attribution_from_matches(matches, margin).q_values <= ITEM_Q).sum()),
    )


def copying_figures(copying: Copying) -> dict[str, Any]:
    """As they stand in report.json."""
    return {
        "copy_rate": as_estimate(copying.rate),
        "copies_at_least": copying.at_least,
        "copies_flagged": int(copying.test.flagged.sum()),
        "items_copied": copying.items,
        "permutation_p": copying.p,
    }


def _try(measure: Measure, sets: Features) -> tuple[Values, str]:
    """The values, or Nones and the reason."""
    nothing = (None,) * len(measure.names)
    if min(len(sets.fake), len(sets.train)) < measure.at_least:
        there = f"{len(sets.fake)} samples and {len(sets.train)} training images"
        return nothing, f"needs at least {measure.at_least} of each, there are {there}"
    try:
        return measure.compute(sets), ""
    except NotComputable as error:
        return nothing, str(error)


def as_estimate(value: float | Interval | None) -> dict[str, float | None]:
    """For JSON, which knows no infinity and no NaN."""
    values = value._asdict() if isinstance(value, Interval) else {"value": value}
    return {k: float(v) if v is not None and math.isfinite(v) else None for k, v in values.items()}


def _realism(sets: Features, neighbours: Neighbours, copying: Copying | None) -> Realism | None:
    """Of the samples nearest to training, and of others by chance."""
    if len(sets.train) < 8:
        return None
    suspicion = neighbours.train_distance if copying is None else copying.test.q_values
    first = suspicion.argsort(stable=True)[: PLOTTED // 4]
    others = choose_rows(torch.arange(len(sets.fake)), PLOTTED - len(first))
    rows = torch.cat([first, others]).unique()
    real = choose_rows(sets.train, 5 * PLOTTED)
    return Realism(rows, realism(real, sets.fake[rows]))


def _moments(sets: Features) -> Moments:
    if sets.moments is None:
        raise NotComputable(
            f"{sets.train.shape[1]:,} dimensions are too many for a covariance (at most"
            f" {WIDEST:,}): use NAME@SIZE, such as pixels@32"
        )
    return sets.moments


def _frechet(sets: Features) -> Values:
    distance = frechet_distance_interval(_moments(sets), sets.fake)
    informed = memorization_informed_frechet_distance(
        sets.train, sets.fake, distance=distance.value
    )
    return distance, informed


def _density_coverage(sets: Features) -> Values:
    real, fake = equal_sizes(sets.train, sets.fake)
    near = sets.near
    return *density_coverage(real, fake, k=5, near=near), expected_coverage(
        len(real), len(fake), k=5
    )


def _fitted(sets: Features) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(choose_rows(x, MOST_ROWS) for x in (sets.train, sets.heldout, sets.fake))


QUALITY = (
    Measure(("frechet_distance", "memorization_informed_frechet_distance"), 2, _frechet),
    Measure(
        ("frechet_distance_infinity",),
        2,
        lambda sets: (frechet_distance_infinity(_moments(sets), sets.fake, seed=sets.seed),),
    ),
    Measure(
        ("kernel_distance",),
        3,
        lambda sets: (kernel_distance_interval(*equal_sizes(sets.train, sets.fake)),),
    ),
    Measure(
        ("precision", "recall"),
        4,
        lambda sets: precision_recall(*equal_sizes(sets.train, sets.fake), k=3, near=sets.near),
    ),
    Measure(("density", "coverage", "expected_coverage"), 6, _density_coverage),
    Measure(
        ("sliced_wasserstein_distance",),
        2,
        lambda sets: (
            sliced_wasserstein_distance(*equal_sizes(sets.train, sets.fake), seed=sets.seed),
        ),
    ),
    Measure(("vendi_score",), 1, lambda sets: (vendi_score(sets.fake),)),
)
CLASSES = (Measure(("inception_score",), 10, lambda sets: (inception_score(sets.logits).mean,)),)
UNCALIBRATED = (Measure(("authenticity",), 2, lambda sets: (authenticity(sets.train, sets.fake),)),)
CALIBRATED = (
    Measure(
        ("data_copying_ct",), 1, lambda sets: (data_copying_test(*_fitted(sets), seed=sets.seed),)
    ),
    Measure(
        ("fld_gap",),
        4,
        lambda sets: (feature_likelihood_gap(sets.train, sets.heldout, sets.fake, seed=sets.seed),),
    ),
)
