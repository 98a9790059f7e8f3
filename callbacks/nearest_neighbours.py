"""Nearest training and held-out images of each sample, and tests for copying."""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from novum.callbacks.evaluation import Evaluation, EvaluationCallback, names_of
from novum.callbacks.logging import log_metrics, log_picture, logged_figures, novelty_folder
from novum.core.errors import check_at_least
from novum.core.lightning_compat import callbacks_of
from novum.core.protocols import ImageGenerator, seen, unit
from novum.datamodules.sources.image_sources import ImageArray, ImageSource
from novum.datamodules.sources.reference_bundle import BundledImages
from novum.evaluation.audit import row_digests
from novum.evaluation.evidence import Images, name_copies, panel
from novum.evaluation.gate import SpaceMatches, conclude
from novum.evaluation.image_verdict import image_verdict
from novum.evaluation.novelty_rows import evaluation_of, write_images
from novum.evaluation.space import (
    BALLS,
    LEAST_BALLS,
    RATIO,
    Judgement,
    as_estimate,
    copying_figures,
    judge_copying,
    match_space,
)
from novum.metrics.features.extraction import as_uint8
from novum.metrics.functional.manifold import realism
from novum.metrics.neighbours import knn_together, neighbour_distances
from novum.metrics.novelty import Neighbours, share_interval
from novum.metrics.novelty.facts import find_identical
from novum.metrics.novelty.nearest import search_parts
from novum.metrics.novelty.nearest_matches import NEAREST
from novum.metrics.novelty.pool import Pool, draw_pool
from novum.metrics.record import FeatureSets
from novum.metrics.subsets import choose_rows
from novum.report.exhibits import NoveltyPanel
from novum.report.model import Report, SetSummary, Space
from novum.report.neighbour_grid import neighbour_columns
from novum.report.pictures import captioned_table, encode
from novum.report.table import scalars


class Unwritten(NamedTuple):
    """An evaluation, with the features of its samples and of training in the space of realism."""

    judged: dict[str, Judgement]
    fake: Tensor
    train: Tensor


class NearestNeighbours(EvaluationCallback):
    """novelty/nearest_neighbours, and scalars that say whether the samples are copies.

    The picture shows samples, their nearest training and nearest held-out images with the
    distances (Goodfellow et al., 2014, figure 2), the most suspicious first. The scalars, for each
    feature space, with 95% intervals where they have one:

    - copy_rate, copies_flagged, permutation_p: see docs/novelty.md.
    - closer_to_train: share of samples that lie closer to training than to held-out data; a fair
      coin is .5, copying pushes the lower end above it.

    Args:
        features: Spaces to search in; `pixels` and any feature extractor.
        num_samples: Samples to search for.
        rows: Samples shown.
        train: Training images, uint8 (n, c, h, w); null for the data's own.
        heldout: Held-out images, likewise.
    """

    requires, needs = ("sample",), ("train", "heldout")

    def __init__(
        self,
        features: tuple[str, ...] = ("pixels", "efficientnet_lite0"),
        num_samples: int = 1000,
        rows: int = 8,
        train: Tensor | None = None,
        heldout: Tensor | None = None,
    ) -> None:
        self._refer_to(train, heldout)
        check_at_least(2, num_samples=num_samples)
        check_at_least(1, rows=rows)
        self.features, self.num_samples, self.rows = names_of(features), num_samples, rows
        self.found: Report | None = None  # facts, controls and the gate of the last evaluation
        self.panels: list[NoveltyPanel] = []  # its most suspicious pairs, on rank 0
        self.images: Images = {}  # that it was of, on rank 0
        self._pool: Pool | None = None
        self._matched: dict[str, SpaceMatches] = {}  # of the last evaluation, by space
        self._near: Tensor | None = None  # radii of training images in the space of realism
        self._unwritten: Unwritten | None = None  # the last evaluation, until all have measured

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        evaluation = Evaluation.of(trainer, cast(ImageGenerator, pl_module))
        judged: dict[str, Judgement] = {}
        features: list[Tensor] = []  # of samples and of training images
        for name in self.features:
            fake = evaluation.features(name, self.num_samples)
            train, heldout = (evaluation.reference(name, s) for s in ("train", "heldout"))
            if self._pool is None or len(self._pool.of_row) != len(train) + len(heldout):
                group = evaluation.group_numbers()
                self._pool, self._matched = draw_pool(train, heldout, group=group), {}
            if name == space_of_realism(self.features):
                features = [fake, train]
            sets = FeatureSets(train, heldout, fake).to(trainer.strategy.root_device)
            of = sets.fake, sets.train, sets.heldout
            parts = search_parts(*of, NEAREST, search=knn_together)
            near = parts.neighbours
            matched = match_space(sets, self._pool, self._matched.get(name), parts)
            self._matched[name] = matched
            copying = judge_copying(matched.samples, math.log(RATIO))
            share = {"closer_to_train": as_estimate(share_interval(near))}
            novelty = copying_figures(copying) | share
            judged[name] = Judgement({}, novelty, [], near, matched, copying)
        images = {split: evaluation.pictures(split) for split in ("train", "heldout")}
        count = len(near_of(judged).train_distance)
        images["samples"] = ImageArray(evaluation.samples(count))
        keys = _keys(images["samples"], evaluation.source("train"), near_of(judged), self._pool)
        self.found, judged = self._conclude(judged, images, keys)
        log_metrics(trainer, pl_module, scalars(self.found.features))
        if trainer.is_global_zero:
            known = {fact.sample: fact.kind for fact in self.found.facts}
            self.panels = [panel(name, found, images, known) for name, found in judged.items()]
            self.images = images
            self._unwritten = Unwritten(judged, *features)
            self._show(trainer, evaluation, {name: of.neighbours for name, of in judged.items()})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        run, last = novelty_folder(trainer), self._unwritten
        if run is not None and last is not None and self.found is not None:
            figures = logged_figures(trainer)
            line = evaluation_of(self.found, seen(pl_module), unit(pl_module), figures)
            write_images(run, line, self.found, last.judged, {}, self.images, self._realism)
        self._unwritten = None

    def _realism(self, rows: Sequence[int]) -> dict[int, float]:
        """Realism of samples of the last evaluation, in one feature space."""
        assert self._unwritten is not None
        real = choose_rows(self._unwritten.train, BALLS)
        if len(real) < LEAST_BALLS:
            return {}
        if self._near is None or len(self._near) != len(real):
            self._near = neighbour_distances(real, 3)
        values = realism(real, self._unwritten.fake[list(rows)], near=self._near)
        return dict(zip(rows, values.tolist(), strict=True))

    def _conclude(
        self, judged: dict[str, Judgement], images: Images, own: np.ndarray
    ) -> tuple[Report, dict[str, Judgement]]:
        """The verdict on these samples by the rules of evaluate.py, with the copies it names."""
        assert self._pool is not None
        t, keys = self._pool.num_train, self._pool.of_row.numpy()
        of_samples, of_train, of_heldout = (
            SetSummary(n=n) for n in (len(images["samples"]), t, len(keys) - t)
        )
        spaces = {name: Space(novelty=found.novelty) for name, found in judged.items()}
        report = Report(of_samples, of_train, of_heldout, spaces)
        same = find_identical(own, keys[:t], keys[t:])
        conclusion = conclude(report, same, self._matched, images, seed=0)
        judged, _ = name_copies(report, conclusion, judged, {}, images)
        report.verdict = image_verdict(report)
        return report, judged

    def _show(self, trainer: Trainer, evaluation: Evaluation, found: dict[str, Neighbours]) -> None:
        columns = neighbour_columns(
            evaluation.samples(self.num_samples),
            {split: evaluation.pictures(split) for split in ("train", "heldout")},
            found,
            self.rows,
        )
        log_picture(
            trainer,
            "novelty/nearest_neighbours",
            lambda: encode(captioned_table(*columns)),
            evaluation.images_seen,
        )


def space_of_realism(features: Sequence[str]) -> str:
    """The first space that is not of pixels, in which noise would count as real."""
    return next((name for name in features if not name.startswith("pixels")), features[0])


def near_of(judged: dict[str, Judgement]) -> Neighbours:
    """Neighbours in the first space."""
    return next(iter(judged.values())).neighbours


def _keys(
    samples: ImageSource, train: ImageSource, near: Neighbours, pool: Pool | None
) -> np.ndarray:
    """The training item that each sample equals, or a negative number, equal for equal samples."""
    assert pool is not None
    items, digests = pool.of_row.numpy(), row_digests(samples)[0]
    _, own = np.unique(digests, return_inverse=True)
    keys = -1 - own
    for row in (near.train_distance == 0).nonzero()[:, 0].tolist():
        source = int(near.train_row[row])
        if isinstance(train, BundledImages):
            same = digests[row] == int(train.hashes[source])
        else:
            same = torch.equal(samples[row], as_uint8(train[source : source + 1])[0].cpu())
        if same:
            keys[row] = items[source]
    return keys


def last_judge(trainer: Trainer) -> NearestNeighbours | None:
    """The callback that judged the last evaluation of a trainer; None if nobody did."""
    judges = (c for c in callbacks_of(trainer) if isinstance(c, NearestNeighbours))
    return next((judge for judge in judges if judge.found is not None), None)


def last_judgement(trainer: Trainer) -> Report | None:
    """Copying found by the last evaluation of a trainer; None if nobody looked."""
    judge = last_judge(trainer)
    return judge and judge.found
