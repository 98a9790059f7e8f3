"""Extraction of training images by drawing many samples (Carlini et al., 2023, arXiv:2301.13188).

An image that a generator returns again and again is one that it knows by heart, or one of the few
that it can make. Nearness to training images, held against that of held-out ones, tells which.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.core.bars import progress
from novum.core.devices import default_device
from novum.core.errors import InputError
from novum.core.resampling import parts_to_resize
from novum.datamodules.sources.image_sources import ImageArray, ImageSource
from novum.evaluation.audit import row_digests
from novum.evaluation.gate import NEAR_ERROR
from novum.metrics.features.extraction import resize
from novum.metrics.functional.intervals import Interval, clopper_pearson_interval
from novum.metrics.neighbours import knn, sphere_sides, squared_distances
from novum.metrics.novelty.altered_copies import AlteredCopyDetector
from novum.metrics.novelty.combined import surprise
from novum.metrics.novelty.retrieval import PER_FAMILY
from novum.metrics.subsets import choose_rows

TIMES = 3  # returns from which an image counts as returned again and again
NEAR = 0.25  # of the distance to the nearest held-out image, within which samples are one return
NAMED = 0.1  # false discovery rate of the images said to be extracted
MOST_ITEMS = 1000  # judged, those returned most often
MOST_HELDOUT = 10_000  # images that nearness is measured by
MOST_FRESH = 2000  # of these that are judged as if they were returned
SIDE, MOST_VALUES = 32, 4096  # larger images are compared at that side
AT_ONCE = 2048  # samples searched for between two steps of the bar
FEWEST_BALLS, MOST_BALLS = 16, 512  # searched at once


class Returned(NamedTuple):
    """Images that came back, the most often returned first."""

    leaders: Tensor  # (k,) int64, row of the sample that stands for each
    times: Tensor  # (k,) int64
    leader_of: Tensor  # (n,) int64, place in `leaders` that each sample is a return of, -1: of none


class Item(NamedTuple):
    """An image that came back, and the training image that is most like it."""

    sample: int
    times: int
    share: Interval  # of all samples
    label: int | None
    train: int | str
    heldout: int | str
    train_distance: float  # root mean square, in grey levels of 255
    heldout_distance: float
    transform: str  # how the training image was altered
    p: float  # of a fresh image that is as plainly like one training image (split conformal)
    q: float  # adjusted for all items (Benjamini & Hochberg)
    fact: str | None  # identical, or near_identical: fresh images are not expected to be so near

    @property
    def extracted(self) -> bool:
        return self.fact is not None or self.q <= NAMED


def thumbnails(images: Iterable[Tensor]) -> Tensor:
    """Blocks of uint8 images as rows (n, d) to compare: as they are, or at 32 px if larger."""
    rows = []
    for block in images:
        if block[0].numel() > MOST_VALUES:
            parts = (resize(part.float(), SIDE).round() for part in parts_to_resize(block))
            block = torch.cat([part.to(torch.uint8) for part in parts])
        rows.append(block.flatten(1))
    return torch.cat(rows)


def blocks_of(images: ImageSource, rows: Tensor) -> Iterable[Tensor]:
    """Some images, as `thumbnails` takes them."""
    return (images[part] for part in rows.split(256))


def find_returned(samples: Tensor, heldout: Tensor, times: int = TIMES) -> Returned:
    """Images that came back `times` or more among samples, rows (n, d) as `heldout` (h, d) are.

    Two samples are returns of one image if they are four times as near to it as the nearest
    held-out image is. So any two returns of an image are at most half as far apart as that: a ball
    is a clique of Carlini's graph. The tightest ones are taken first; a sample is a return of one.
    """
    radius = NEAR * _nearest(samples, heldout, 1, "held-out images")
    reach = _nearest(samples, samples, min(times, len(samples)), "returns")
    dense = (reach <= radius).nonzero()[:, 0]
    if len(samples) < times:
        dense = dense[:0]
    tightness = reach[dense] / radius[dense].clamp_min(1e-12)
    leaders, leader_of = _tightest_first(
        samples, dense[tightness.argsort(stable=True)], radius, times
    )
    return _ordered(torch.tensor(leaders, dtype=torch.int64), leader_of)


def _tightest_first(
    samples: Tensor, candidates: Tensor, radius: Tensor, times: int
) -> tuple[list[int], Tensor]:
    """Leaders, taken in the candidates' order, and the place among them of each sample's, or -1.

    The balls of a few candidates are searched at once, of twice as many the next time: where few
    images came back, the first ones leave hardly any candidate.
    """
    leader_of = torch.full((len(samples),), -1)
    leaders: list[int] = []
    at_once = FEWEST_BALLS
    while len(candidates):
        part, candidates = candidates[:at_once], candidates[at_once:]
        rest = (leader_of < 0).nonzero()[:, 0]
        for row, ball in zip(part.tolist(), _balls(samples, rest, part, radius), strict=True):
            rows = rest[ball]
            rows = rows[leader_of[rows] < 0]
            if leader_of[row] < 0 and len(rows) >= times:
                leader_of[rows] = len(leaders)
                leaders.append(row)
        candidates = candidates[leader_of[candidates] < 0]
        at_once = min(2 * at_once, MOST_BALLS)
    return leaders, leader_of


def _balls(samples: Tensor, rows: Tensor, centres: Tensor, radius: Tensor) -> Tensor:
    """True where a row is within the radius of a centre, exactly: (c, r)."""
    within = torch.empty(len(centres), len(rows), dtype=torch.bool)
    sides = sphere_sides(samples[rows], samples[centres], radius[centres])
    for row, column, side in sides:
        within[column, row] = (side <= 0).T
    return within


def _ordered(leaders: Tensor, leader_of: Tensor) -> Returned:
    """Number images by how often they came back."""
    times = leader_of[leader_of >= 0].bincount(minlength=len(leaders))
    order = times.argsort(descending=True, stable=True)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    numbered = torch.where(leader_of < 0, -1, torch.cat([place, place.new_zeros(1)])[leader_of])
    return Returned(leaders[order], times[order], numbered)


def _nearest(queries: Tensor, reference: Tensor, k: int, doing: str) -> Tensor:
    """Distance (m,) float64 of each query to the k-th nearest reference row."""
    found = []
    with progress(total=len(queries), doing=doing, unit="img", delay=2, leave=False) as bar:
        for part in queries.split(AT_ONCE):
            found.append(knn(part, reference, k).distances[:, -1].cpu())
            bar.update(len(part))
    return torch.cat(found)


class Judged(NamedTuple):
    """Training images that images are most like, and how sure that is."""

    train_rows: Tensor  # (k,) int64
    transforms: list[str]
    p: Tensor  # (k,)
    q: Tensor
    facts: list[str | None]


class Control:
    """Training images, and what held-out ones show of nearness to them by chance.

    The detector of altered copies says by how much the nearest training image explains an image
    better than the sixth does. p is the share of held-out images for which that is as much, the
    image itself counted: exact for an image like those (split conformal prediction, Vovk et al.,
    2005). Of the images with q <= `NAMED` at most that share is named in error on average (Bates
    et al., 2023). A fact is so near that no chance explains it, by the rule of the verdict.
    """

    def __init__(self, train: ImageSource, heldout: ImageSource) -> None:
        self.train = train
        self.detector = AlteredCopyDetector(train, device=default_device(), progress=False)
        chosen = choose_rows(torch.arange(len(heldout)), MOST_FRESH)
        self.fresh = self.detector.match(heldout[chosen]).margin.sort().values
        own, theirs = (row_digests(side)[0] for side in (train, heldout))
        self.has_twins = bool(np.isin(theirs, own).any())  # by nature, not by copying

    def judge(self, images: Tensor) -> Judged:
        """Hold images uint8 (k, c, h, w) against training images as held-out ones are."""
        from scipy.stats import false_discovery_control

        found = self.detector.search(images)
        margin, n = found.matches.margin, len(self.fresh)
        above = n - torch.searchsorted(self.fresh, margin)
        p = (1 + above.double()) / (1 + n)
        rows = found.items[:, 0]
        return Judged(
            rows,
            [found.transform(i) for i in range(len(images))],
            p,
            torch.from_numpy(false_discovery_control(p.numpy())),
            self._facts(images, rows, margin),
        )

    def _facts(self, images: Tensor, rows: Tensor, margin: Tensor) -> list[str | None]:
        """The kind of each fact: nearer than any held-out image, and than chance explains."""
        least = math.log(len(images) / NEAR_ERROR)
        near = (surprise(margin, self.fresh) >= least) & (margin > self.fresh[-1])
        if self.has_twins:
            near[:] = False
        own, theirs = (row_digests(ImageArray(x))[0] for x in (images, self.train[rows]))
        kinds = np.where(own == theirs, "identical", "near_identical").tolist()
        return [kind if fact else None for kind, fact in zip(kinds, near.tolist(), strict=True)]


class ClassRow(NamedTuple):
    """Images that a class, or the whole generator, gives away."""

    label: int | None
    samples: int
    returned: int  # images that came back
    extracted: int  # of these, training images
    sources: int  # different training images among them
    rate: Interval  # samples that are returns of an extracted image


def rows_by_class(items: list[Item], returned: Returned, labels: Tensor | None) -> list[ClassRow]:
    """A row for all samples, and one for each class of `labels` (n,)."""
    extracted = torch.zeros(len(returned.leaders) + 1, dtype=torch.bool)  # the last: of none
    extracted[: len(items)] = torch.tensor([item.extracted for item in items], dtype=torch.bool)
    known = extracted[returned.leader_of]  # (n,)
    every = torch.ones_like(known)
    classes = [] if labels is None else labels.unique().tolist()
    rows = []
    for label in [None, *classes]:
        mine = every if label is None else labels == label
        own = [item for item in items if label is None or item.label == label]
        rate = clopper_pearson_interval(int((known & mine).sum()), int(mine.sum()))
        named = [item.train for item in own if item.extracted]
        counts = len(own), len(named), len(set(named))
        rows.append(ClassRow(label, int(mine.sum()), *counts, rate))
    return rows


def root_mean_square(a: Tensor, b: Tensor) -> Tensor:
    """Distance (k,) of rows (k, d), in grey levels."""
    return (squared_distances(a, b) / a.shape[1]).sqrt()


def require_training(train: ImageSource) -> None:
    """Raise InputError for too few training images to tell a copy from what is alike."""
    distinct = len(np.unique(row_digests(train)[0]))
    if distinct <= PER_FAMILY:
        raise InputError(
            f"{distinct} distinct training images are too few: extraction needs"
            f" {PER_FAMILY + 1} or more to tell a copy from what is alike"
        )


def require_control(heldout: ImageSource | None) -> ImageSource:
    """The held-out images; InputError if there are none, or too few to name anything by."""
    least = math.ceil(1 / NAMED) - 1
    if heldout is None or len(heldout) < least:
        n = 0 if heldout is None else len(heldout)
        raise InputError(
            f"{n} held-out images are too few: extraction needs {least} or more as its control;"
            " give them by --heldout"
        )
    return heldout
