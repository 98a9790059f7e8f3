"""Metrics of samples in one feature space."""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novum.core import distributed
from novum.core.bars import progress as show_progress
from novum.core.cache import remembered
from novum.core.errors import NotComputable
from novum.datamodules.sources.image_sources import ImageSource
from novum.evaluation.gate import SpaceMatches
from novum.metrics.candidate_filter import Rows
from novum.metrics.checks import check_features
from novum.metrics.features.extraction import fingerprint
from novum.metrics.features.extractor import FeatureExtractor
from novum.metrics.functional.intervals import Interval
from novum.metrics.functional.manifold import realism
from novum.metrics.neighbours import knn_together
from novum.metrics.novelty import (
    CopyTest,
    Matches,
    Neighbours,
    attribution_from_matches,
    copy_rate_from_matches,
    copy_test_from_matches,
    drawn_to_training,
    permutation_test_from_matches,
    share_interval,
)
from novum.metrics.novelty.nearest import Parts, search_parts
from novum.metrics.novelty.nearest_matches import NEAREST, match_parts, match_pool
from novum.metrics.novelty.negative_control import (
    ROWS,
    PoolMatches,
    match_within_pool,
    negative_control,
)
from novum.metrics.novelty.pool import Pool, draw_pool
from novum.metrics.record import FeatureSets, Measure, Values
from novum.metrics.registry import computable, measures_of
from novum.metrics.subsets import choose_rows
from novum.report.model import Estimate

PLOTTED = 1000  # samples whose realism is computed
BALLS = 5000  # training images that it is computed from
LEAST_BALLS = 8
ITEM_Q = 0.01  # false discovery rate of the training items said to be copied
FLOORS = (  # and what is computed with them
    "frechet_distance", "memorization_informed_frechet_distance", "precision", "coverage",
)  # fmt: skip
FLOOR_SCHEMA = 3  # raise it whenever the same key would mean another floor
WITHIN_SCHEMA = 1  # likewise, of matches within the pool
RATIO = 2.0  # times nearer to one item than to others: what copy_rate counts


class Copying(NamedTuple):
    """Tests on the matches of samples with training and held-out items."""

    matches: Matches
    rate: Interval
    at_least: float  # copies among the samples, at any ratio
    test: CopyTest
    p: float
    items: int  # training items that draw more samples than chance gives, q <= ITEM_Q


class Realism(NamedTuple):
    """Realism of some samples, the suspicious ones among them."""

    rows: Tensor  # (k,) int64
    values: Tensor  # (k,)


class Judgement(NamedTuple):
    """Figures of one space, and reasons for those that are not defined."""

    quality: dict[str, Estimate]
    novelty: dict[str, Estimate]
    missing: list[str]
    neighbours: Neighbours
    found: SpaceMatches
    copying: Copying | None = None
    realism: Realism | None = None


def judge(
    sets: FeatureSets,
    pool: Pool | None = None,
    *,
    progress: bool = True,
    device: torch.device | None = None,
    metrics: Sequence[str] | None = None,
) -> Judgement:
    """Quality and novelty of `fake`; without held-out features novelty is uncalibrated.

    Rows equal in these features are one item of the pool, if none is given. Everything with a size
    of the sets is computed on `device`, if they fit there; what is found is in the CPU's memory.
    Measures are all computed, or those of some `metrics`.

    Several ranks judge the same sets at once: each searches in a part of the references, and
    computes a part of the metrics.
    """
    for name in ("train", "heldout", "fake"):
        features = getattr(sets, name)
        if features is not None:
            check_features(features, f"{name} features", at_least=1)
    sets = sets if device is None else sets.to(device)
    measures = computable(sets)
    if metrics is not None:
        chosen = {measure.names for measure in measures_of(metrics)}
        measures = [measure for measure in measures if measure.names in chosen]
    own = measures[distributed.rank() :: distributed.world_size()]
    computed: dict[tuple[str, ...], tuple[Values, str]] = {}
    progress = progress and distributed.is_rank_zero()
    with show_progress(doing="metrics", total=2 + len(own), delay=5, disable=not progress) as bar:
        parts = search_parts(sets.fake, sets.train, sets.heldout, NEAREST, search=knn_together)
        neighbours = parts.neighbours
        bar.update()
        nearest = neighbours.train_distance, neighbours.train_row
        sets = sets._replace(nearest=nearest, shared={})
        found = match_space(sets, pool, parts=parts)
        copying = None
        if sets.heldout is not None:
            copying = judge_copying(found.samples, math.log(RATIO), sets.seed)
        bar.update()
        for measure in own:
            computed[measure.names] = compute(measure, sets)
            bar.update()
    for other in distributed.all_gather_objects(computed, "metrics"):
        computed |= other
    quality: dict[str, Estimate] = {}
    novelty: dict[str, Estimate] = {}
    if copying is not None:
        novelty = copying_figures(copying) | {
            "closer_to_train": as_estimate(share_interval(neighbours))
        }
    missing: list[str] = []
    for measure in measures:
        values, reason = computed[measure.names]
        for metric, value in zip(measure.metrics, values, strict=True):
            (quality if metric.group == "quality" else novelty)[metric.name] = as_estimate(value)
        missing += [f"{' and '.join(measure.names)}: {reason}"] if reason else []
    shown = _realism(sets, neighbours, copying)
    return Judgement(quality, novelty, missing, neighbours, found, copying, shown)


def quality_floor(
    sets: FeatureSets,
    device: torch.device | None = None,
    metrics: Sequence[str] = FLOORS,
) -> dict[str, Estimate]:
    """Figures of held-out images in place of samples, as many as there are samples at most.

    All ranks call it at once, and each computes some of the metrics.
    """
    if sets.heldout is None:
        return {}
    sets = sets if device is None else sets.to(device)
    assert sets.heldout is not None  # as before
    heldout = choose_rows(sets.heldout, len(sets.fake))
    near = sets.near if len(heldout) == len(sets.fake) else None
    instead = sets._replace(
        fake=heldout, heldout=None, near=near, logits=None, nearest=None, references=(), shared={}
    )
    own = measures_of(metrics)[distributed.rank() :: distributed.world_size()]
    mine = {m.names: compute(m, instead)[0] for m in own}
    floor: dict[str, Estimate] = {}
    for computed in distributed.all_gather_objects(mine, "the floor of quality"):
        for names, values in computed.items():
            floor |= {n: as_estimate(v) for n, v in zip(names, values, strict=True)}
    return {name: value for name, value in floor.items() if value.value is not None}


def reference_floor(
    train: ImageSource,
    heldout: ImageSource,
    extractor: FeatureExtractor,
    sets: FeatureSets,
    device: torch.device | None = None,
    metrics: Sequence[str] = FLOORS,
) -> dict[str, Estimate]:
    """`quality_floor` of features of these images, from the cache or computed once."""
    names = [name for measure in measures_of(metrics) for name in measure.names]

    def compute() -> NDArray[np.float64]:
        floor = quality_floor(sets, device, metrics)
        known = [floor.get(name, Estimate(None)) for name in names]
        ends = [[math.nan if x is None else x for x in (e.value, e.low, e.high)] for e in known]
        return np.array(ends, np.float64)

    key = ["floor", FLOOR_SCHEMA, fingerprint(train), fingerprint(heldout), extractor.spec]
    key += [len(sets.fake), sets.seed, *metrics]
    rows = remembered(key, compute, 3).tolist()
    floor = {name: as_estimate(Interval(*row)) for name, row in zip(names, rows, strict=True)}
    return {name: value for name, value in floor.items() if value.value is not None}


def match_space(
    sets: FeatureSets,
    pool: Pool | None = None,
    known: SpaceMatches | None = None,
    parts: Parts | None = None,
) -> SpaceMatches:
    """Match samples, and items of the pool, with the pool's items.

    `known` matches of other samples in this pool spare the search for its own items, `parts` that
    were searched for the samples a second search.
    """
    pool = draw_pool(sets.train, sets.heldout, sets.seed) if pool is None else pool
    items = pool.table(sets.train, sets.heldout)
    if parts is None:
        samples = match_pool(sets.fake, pool, items, search=knn_together)
    else:
        samples = match_parts(sets.fake, parts, pool, items, search=knn_together)
    if known is not None:
        return known._replace(samples=samples)
    within = _within(sets, pool, items)
    control = None if sets.heldout is None else negative_control(within, seed=sets.seed)
    return SpaceMatches(samples, within, control)


def _within(sets: FeatureSets, pool: Pool, items: Rows) -> PoolMatches:
    """Items of the pool matched with each other, once for the same references."""

    def compute() -> NDArray[np.float64]:
        found = match_within_pool(pool, items, search=knn_together)
        return torch.stack([x.double() for x in found[:3]], 1).numpy()

    if not sets.references:
        return match_within_pool(pool, items, search=knn_together)
    digest = hashlib.sha256(pool.rows.numpy().tobytes() + pool.unit.numpy().tobytes()).hexdigest()
    key = ["within", WITHIN_SCHEMA, *sets.references, ROWS, NEAREST, digest]
    own, nearest, margin = torch.from_numpy(remembered(key, compute, 3).T.copy())
    return PoolMatches(own.long(), nearest.long(), margin, pool)


def judge_copying(matches: Matches, margin: float, seed: int = 0) -> Copying:
    """Copy rate at this margin, copy test and permutation test of one set of matches."""
    return Copying(
        matches,
        copy_rate_from_matches(matches, margin),
        drawn_to_training(matches),
        copy_test_from_matches(matches),
        permutation_test_from_matches(matches, seed=seed),
        int((attribution_from_matches(matches, margin).q_values <= ITEM_Q).sum()),
    )


def copying_figures(copying: Copying) -> dict[str, Estimate]:
    """Figures of a report by metric."""
    return {
        "copy_rate": as_estimate(copying.rate),
        "drawn_to_training": Estimate(copying.at_least),
        "copies_flagged": Estimate(int(copying.test.flagged.sum())),
        "items_copied": Estimate(copying.items),
        "permutation_p": Estimate(copying.p),
    }


def compute(measure: Measure, sets: FeatureSets) -> tuple[Values, str]:
    """Values of a measure, or Nones and the reason why it is not defined for these sets."""
    nothing = (None,) * len(measure.metrics)
    if min(len(sets.fake), len(sets.train)) < measure.at_least:
        there = f"{len(sets.fake)} samples and {len(sets.train)} training images"
        return nothing, f"needs at least {measure.at_least} of each, there are {there}"
    assert measure.compute is not None
    try:
        return measure.compute(sets), ""
    except NotComputable as error:
        return nothing, str(error)


def as_estimate(value: float | Interval | None) -> Estimate:
    """Estimate in which what is not finite is unknown."""
    ends = value if isinstance(value, Interval) else (value, None, None)
    return Estimate(*(float(v) if v is not None and math.isfinite(v) else None for v in ends))


def _realism(sets: FeatureSets, neighbours: Neighbours, copying: Copying | None) -> Realism | None:
    """Realism of the samples nearest to training, and of a random choice of others."""
    if len(sets.train) < LEAST_BALLS:
        return None
    suspicion = neighbours.train_distance if copying is None else copying.test.q_values
    first = suspicion.argsort(stable=True)[: PLOTTED // 4]
    others = choose_rows(torch.arange(len(sets.fake)), PLOTTED - len(first))
    rows = torch.cat([first, others]).unique()
    real = choose_rows(sets.train, BALLS)
    return Realism(rows, realism(real, sets.fake[rows]).cpu())
