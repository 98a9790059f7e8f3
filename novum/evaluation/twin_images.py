"""Twins that make images: their samples, and their losses, against both halves of the images."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novum.core import distributed
from novum.core.devices import default_device
from novum.core.errors import NotComputable
from novum.datamodules.halves import HALVES, Deal
from novum.datamodules.images import ImageDataModule
from novum.datamodules.sources.image_sources import ImageArray, ImageSource
from novum.evaluation.audit import row_digests
from novum.evaluation.evidence import ALIGNMENT
from novum.evaluation.gate import NEAR_ERROR, SpaceMatches, pool_of_digests
from novum.evaluation.generators import evaluating
from novum.evaluation.image_sets import draw_samples
from novum.evaluation.images import CONTROL_ROWS, MOST_PIXELS
from novum.evaluation.inside import item_losses
from novum.evaluation.space import match_space
from novum.evaluation.twins import (
    Models,
    Tested,
    collect,
    describe_deal,
    evidence_of,
    facts_p,
    halves_of,
    scored_by,
)
from novum.metrics.features.extraction import extract_features_together
from novum.metrics.features.feature_cache import reference_features
from novum.metrics.features.loading import load_extractor
from novum.metrics.functional.intervals import normal_interval
from novum.metrics.novelty.altered_copies import AlteredCopyDetector
from novum.metrics.novelty.combined import Combined, combine_matches
from novum.metrics.novelty.copying import copy_test_from_matches
from novum.metrics.novelty.facts import find_identical, near_identical
from novum.metrics.novelty.nearest_matches import TRAIN, Matches
from novum.metrics.novelty.negative_control import PoolMatches
from novum.metrics.novelty.permutation import MOST_SURPRISE
from novum.metrics.novelty.pool import Pool
from novum.metrics.record import FeatureSets
from novum.metrics.subsets import choose_rows
from novum.report.model import Estimate
from novum.report.pictures import to_rgb
from novum.report.twin_page import (
    LIKELIHOOD,
    REPRODUCTION,
    Cell,
    Pictures,
    Shown,
    Twin,
    TwinReport,
)

FEWEST_SAMPLES, MOST_SAMPLES = 1_000, 10_000  # of each twin: as many as images in between
MOST_SCORED = 5_000  # images whose losses are compared


class Sides(NamedTuple):
    """Images of both halves as one, those of half a first."""

    a: ImageSource
    b: ImageSource
    deal: Deal
    labels: Tensor | None

    @classmethod
    def of(cls, data: ImageDataModule) -> "Sides":
        """The halves of the data of either twin."""
        a, b = halves_of(data).values()
        known = None if a.labels is None or b.labels is None else torch.cat([a.labels, b.labels])
        return cls(a, b, data.dealt(), known)

    def __len__(self) -> int:
        return len(self.a) + len(self.b)

    def images(self, rows: NDArray[np.int64]) -> Tensor:
        """uint8 (k, c, h, w) of some rows."""
        mine = torch.from_numpy(rows < len(self.a))
        own, other = (torch.from_numpy(rows[x.numpy()]) for x in (mine, ~mine))
        found = torch.empty((len(rows), *self.a.shape), dtype=torch.uint8)
        found[mine], found[~mine] = self.a[own], self.b[other - len(self.a)]
        return found

    def name(self, row: int) -> str:
        side, at = (self.a, row) if row < len(self.a) else (self.b, row - len(self.a))
        return str(side.ids[at])


class Matched(NamedTuple):
    """The samples of a twin, each with the image of both halves that it is most plainly like."""

    samples: Tensor
    keys: NDArray[np.int64]  # (m,) equal for equal samples
    combined: Combined
    strongest: NDArray[np.float64]  # (n,) of each image: surprise of its plainest sample
    sample: NDArray[np.int64]  # (n,) and the number of that sample, -1 for none


def compare_images(
    models: Models, data: ImageDataModule, twins: list[Twin], seed: int
) -> tuple[TwinReport, Pictures]:
    """Compare two image generators; all ranks call it at once."""
    sides = Sides.of(data)
    n = int(np.clip(len(sides), FEWEST_SAMPLES, MOST_SAMPLES))
    drawn = {}
    for half in HALVES:
        with evaluating(models[half].to(default_device())):
            drawn[half] = draw_samples(models[half], n, seed)
    digests = {half: row_digests(side)[0] for half, side in (("a", sides.a), ("b", sides.b))}
    group = torch.from_numpy(sides.deal.unit)
    pool = pool_of_digests(digests["a"], digests["b"], seed, group)
    missing: list[str] = []
    matched, usual = match_samples(drawn, sides, pool, seed, missing)
    cells = [
        _cell(matched[twin], twin, half, usual, digests, sides)
        for twin in HALVES
        for half in HALVES
    ]
    dealt = describe_deal(sides.deal) | {
        "equal_across_halves": int(np.isin(digests["b"], digests["a"]).sum())
    }
    report = TwinReport("image", twins, dealt, n, cells, facts_p(cells), seed, missing=missing)
    tests = [
        (REPRODUCTION, lambda: _reproduction(matched, sides, seed)),
        (LIKELIHOOD, lambda: _likelihood(models, sides, seed)),
    ]
    shown = collect(report, tests)
    pictures: Pictures = {
        kind: [_pictures(row, matched, sides) for row in rows] for kind, rows in shown.items()
    }
    return report, pictures


def match_samples(
    drawn: Mapping[str, Tensor], sides: Sides, pool: Pool, seed: int, missing: list[str]
) -> tuple[dict[str, Matched], list[PoolMatches]]:
    """Match samples with the images of both halves, in pixels and by alignment."""
    device, progress = default_device(), distributed.is_rank_zero()
    found: dict[str, list[Matches]] = {half: [] for half in HALVES}
    usual: list[PoolMatches] = []
    name = "pixels" if np.prod(sides.a.shape) <= MOST_PIXELS else "pixels@32"
    extractor = load_extractor(name)
    a, b = (reference_features(side, extractor) for side in (sides.a, sides.b))
    known: SpaceMatches | None = None
    for half in HALVES:
        fake = extract_features_together(extractor, drawn[half])
        known = match_space(FeatureSets(a, b, fake, seed=seed).to(device), pool, known)
        found[half].append(known.samples)
    assert known is not None
    usual.append(known.pool)
    try:
        detector = AlteredCopyDetector(
            sides.a, sides.b, pool=pool, device=device, progress=progress, together=True
        )
        usual.append(detector.match_within(CONTROL_ROWS))
        for half in HALVES:
            found[half].append(detector.match(drawn[half]))
    except NotComputable as error:
        missing.append(f"{ALIGNMENT}: not computed: {error}")
    return {half: _matched(drawn[half], found[half], usual, len(sides)) for half in HALVES}, usual


def _matched(
    samples: Tensor, found: list[Matches], usual: list[PoolMatches], images: int
) -> Matched:
    combined = combine_matches(found, usual)
    item, margin = combined.matches.item.numpy(), combined.matches.margin.numpy()
    order = np.argsort(margin, kind="stable")  # the plainest comes last, and stays
    strongest, sample = np.zeros(images), np.full(images, -1)
    strongest[item[order]] = margin[order].clip(0, MOST_SURPRISE)
    sample[item[order]] = order
    keys = row_digests(ImageArray(samples))[0]
    return Matched(samples, keys, combined, strongest, sample)


def _against(matches: Matches, half: str) -> Matches:
    """Matches with this half in the place of training data."""
    if half == "a":
        return matches
    counts = {"train_items": matches.heldout_items, "heldout_items": matches.train_items}
    return matches._replace(side=-matches.side, **counts)


def _cell(
    found: Matched,
    twin: str,
    half: str,
    usual: list[PoolMatches],
    digests: Mapping[str, NDArray],
    sides: Sides,
) -> Cell:
    """Compare the samples of a twin with a half."""
    matches = _against(found.combined.matches, half)
    own, other = HALVES if half == "a" else HALVES[::-1]
    same = find_identical(found.keys, digests[own], digests[other])
    combined = found.combined._replace(matches=matches)
    near = near_identical(combined, usual, NEAR_ERROR, same.samples)
    offset = 0 if half == "a" else len(sides.a)
    rows = np.concatenate([same.train.numpy() + offset, near.train.numpy()])
    flagged = int(copy_test_from_matches(matches).flagged.sum())
    share = _share(matches, sides.deal)
    return Cell(twin, half, share, flagged, len(rows), len(np.unique(sides.deal.unit[rows])))


def _share(matches: Matches, deal: Deal) -> Estimate:
    """Share of samples that match this half; the interval is that of dealing units again."""
    n, unit = len(matches.item), deal.unit[matches.item.numpy()]
    counts = np.bincount(unit).astype(np.float64)
    error = float(np.sqrt(np.square(counts).sum())) / (2 * n)
    value, low, high = normal_interval(float((matches.side == TRAIN).double().mean()), error)
    return Estimate(value, max(low, 0.0), min(high, 1.0))


def _reproduction(matched: Mapping[str, Matched], sides: Sides, seed: int) -> Tested:
    """Test how plainly a sample of either twin is like each image."""
    figures = {half: found.strongest for half, found in matched.items()}
    rows = np.arange(len(sides))
    measure = "surprise of the nearest sample"
    tested = evidence_of(measure, figures, rows, sides.deal, higher=True, seed=seed)
    return Tested(*tested, figures, rows, sides.name)


def _likelihood(models: Models, sides: Sides, seed: int) -> Tested:
    """Test the losses of images."""
    measure = scored_by(models)
    rows = choose_rows(torch.arange(len(sides)), MOST_SCORED).numpy()
    images = sides.images(rows)
    classes = getattr(models["a"], "num_classes", 0)
    labels = sides.labels[torch.from_numpy(rows)] if classes and sides.labels is not None else None
    figures = {half: item_losses(models[half], images, labels) for half in HALVES}
    tested = evidence_of(measure, figures, rows, sides.deal, higher=False, seed=seed)
    return Tested(*tested, figures, rows, sides.name)


def _pictures(row: int, matched: Mapping[str, Matched], sides: Sides) -> Shown:
    """An image, and the sample of its own twin and of the other that are nearest to it."""
    image = sides.images(np.array([row]))
    order = HALVES if row < len(sides.a) else HALVES[::-1]
    nearest = [_nearest(image, row, matched[half]) for half in order]
    return Shown(*(to_rgb(x)[0] for x in (image, *nearest)))


def _nearest(image: Tensor, row: int, found: Matched) -> Tensor:
    """The sample that matches an image, else that of the nearest pixels."""
    if (at := int(found.sample[row])) < 0:
        parts = found.samples.split(256)
        apart = torch.cat([(x.float() - image.float()).square().mean((1, 2, 3)) for x in parts])
        at = int(apart.argmin())
    return found.samples[at : at + 1]
