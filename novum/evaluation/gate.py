"""Conclusion about copying from the matches in all feature spaces: one test for a report.

Its chance to convict samples that copy nothing is GATE_ERROR + NEAR_ERROR + IDENTICAL_ERROR, a half
per cent of reports.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.datamodules.sources.image_sources import ImageSource
from novum.metrics.functional.intervals import normal_interval
from novum.metrics.novelty.combined import Combined, combine_matches
from novum.metrics.novelty.copying import CopyTest, copy_rate_from_matches, copy_test_from_matches
from novum.metrics.novelty.facts import Identical, NearIdentical, near_identical
from novum.metrics.novelty.nearest_matches import Matches
from novum.metrics.novelty.negative_control import (
    RATIOS,
    NegativeControl,
    PoolMatches,
    excess_over_control,
)
from novum.metrics.novelty.permutation import surprise_test
from novum.metrics.novelty.pool import Pool, pool_of_items
from novum.report import model
from novum.report.model import Estimate, Fact, Report

GATE_ERROR = 0.003
NEAR_ERROR = 0.001
IDENTICAL_ERROR = 0.001
EXCESS_ERROR = 0.02  # that the samples' excess is not above that of training images
SHIFT = 0.01  # p-value below which held-out images differ from training images in kind
USUAL = 0.01  # share of the pool's own items that match another one as plainly as a copy does
PERMUTATIONS = 9999
LOCAL = "local"  # the space of the detector of parts
OF_PARTS = (LOCAL,)


class SpaceMatches(NamedTuple):
    """Matches in one feature space: of the samples, and of the pool's own items."""

    samples: Matches
    pool: PoolMatches
    control: NegativeControl | None  # None without held-out images


class Conclusion(NamedTuple):
    """The test over all spaces."""

    combined: Combined
    test: CopyTest | None  # None without held-out images


def pool_of_digests(
    train: np.ndarray, heldout: np.ndarray | None, seed: int, group: Tensor | None = None
) -> Pool:
    """The pool of training and held-out images; images of equal pixels are one item."""
    every = train if heldout is None else np.concatenate([train, heldout])
    _, item = np.unique(every, return_inverse=True)
    return pool_of_items(torch.from_numpy(item), len(train), seed, group)


def needed_items(train_items: int, heldout_items: int) -> int:
    """Copied items that show at GATE_ERROR if no sample matches a held-out one as plainly."""
    share = train_items / (train_items + heldout_items)
    return math.ceil(math.log(GATE_ERROR) / math.log(share))


def needed_heldout(train: int, copies: float) -> int:
    """Held-out images with which that many copied items show: `needed_items` solved for them."""
    return math.ceil(train * (GATE_ERROR ** (-1 / copies) - 1))


def conclude(
    report: Report,
    same: Identical,
    spaces: dict[str, SpaceMatches],
    images: Mapping[str, ImageSource],
    seed: int,
) -> Conclusion | None:
    """Add facts, controls and the gate to a report; None if no space was judged.

    Args:
        same: Samples that equal training images.
        spaces: All of one pool.
        images: `samples` and `train`, for their names.
    """
    report.identical = _identical(same)
    report.facts = _identical_facts(same, images)
    if not spaces:
        return None
    combined = combine_matches(
        [space.samples for space in spaces.values()], [space.pool for space in spaces.values()]
    )
    if (near := _near_identical(same.samples, spaces)) is not None:
        report.near_identical = model.NearIdentical(
            len(near.samples), near.heldout, near.pool, near.p
        )
        report.facts += _near_facts(near, images)
    matches = combined.matches
    if not matches.heldout_items:
        return Conclusion(combined, None)
    report.negative_controls = {
        name: _control(space) for name, space in spaces.items() if space.control is not None
    }
    test = copy_test_from_matches(matches)
    rate = copy_rate_from_matches(matches, -math.log(USUAL))
    report.gate = model.Gate(
        p=surprise_test(matches, PERMUTATIONS, seed),
        excess_low=max(
            excess_over_control(space.samples, space.control, EXCESS_ERROR / len(spaces))
            for space in spaces.values()
            if space.control is not None
        ),
        copy_rate=Estimate(*rate),
        samples_named=int(test.flagged.sum()),
        items_named=len(test.train_rows[test.flagged].unique()),
        needed=needed_items(matches.train_items, matches.heldout_items),
        spaces=list(spaces),
    )
    return Conclusion(combined, test)


def gate_passed(report: Report) -> bool:
    """True if samples match training beyond chance, and beyond what training images do."""
    gate = report.gate
    return gate is not None and gate.p <= GATE_ERROR and gate.excess_low > 0


def shifted(report: Report) -> list[str]:
    """Spaces in which training images match training themselves beyond chance."""
    controls = report.negative_controls
    return [name for name, control in controls.items() if control.p * len(controls) <= SHIFT]


def convicted_by_facts(report: Report) -> bool:
    """True if facts are more than fresh images would give."""
    same, near = report.identical, report.near_identical
    if same is not None and same.p <= IDENTICAL_ERROR:
        return True
    return near is not None and near.samples > 0 and not near.heldout and near.p <= NEAR_ERROR


def _identical(same: Identical) -> model.Identical:
    heldout = same.heldout
    return model.Identical(
        samples=len(same.samples),
        of_samples=same.overlap.distinct,
        heldout=heldout and heldout.in_train,
        of_heldout=heldout and heldout.distinct,
        repeated=same.repeated.in_train,
        of_train=same.repeated.distinct,
        heldout_rows=same.heldout_rows,
        pool_pairs=same.pool_pairs,
        p=same.p,
        leak_p=same.leak_p,
    )


def _identical_facts(same: Identical, images: Mapping[str, ImageSource]) -> list[Fact]:
    pairs = zip(same.samples.tolist(), same.train.tolist(), strict=True)
    sample_ids, train_ids = images["samples"].ids, images["train"].ids
    return [Fact("identical", sample_ids[s], train_ids[t]) for s, t in pairs]


def _near_identical(known: Tensor, spaces: dict[str, SpaceMatches]) -> NearIdentical | None:
    """Samples nearer to training than chance explains, but for those known to be identical.

    Of spaces that compare whole images: photographs share parts, a logo say, without any copying.
    """
    whole = [space for name, space in spaces.items() if name not in OF_PARTS]
    if not whole:
        return None
    combined = combine_matches([s.samples for s in whole], [s.pool for s in whole])
    return near_identical(combined, [s.pool for s in whole], NEAR_ERROR, known)


def _near_facts(near: NearIdentical, images: Mapping[str, ImageSource]) -> list[Fact]:
    sample_ids, train_ids = images["samples"].ids, images["train"].ids
    found = zip(near.samples.tolist(), near.train.tolist(), near.margin.tolist(), strict=True)
    return [
        Fact("near_identical", sample_ids[s], train_ids[t], min(margin / math.log(10), 300.0))
        for s, t, margin in found
    ]


def _control(space: SpaceMatches) -> model.Control:
    assert space.control is not None
    rows = int(space.pool.drawn.trained[space.pool.own].sum())
    excess = [Estimate(*normal_interval(e.value, e.standard_error)) for e in space.control.excess]
    return model.Control(rows, space.control.p, excess, list(RATIOS))
