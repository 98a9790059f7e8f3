"""Nearest training and held-out images of each sample, and tests for copying."""

import math
from typing import cast

from pytorch_lightning import LightningModule, Trainer

from novum.callbacks.evaluation import Evaluation, EvaluationCallback
from novum.callbacks.logging import log_metrics, log_picture
from novum.core.protocols import ImageGenerator
from novum.evaluation.space import RATIO, as_estimate, copying_figures, judge_copying
from novum.metrics.neighbours import knn_together
from novum.metrics.novelty import Neighbours, find_matches, find_neighbours, share_interval
from novum.report.model import Space
from novum.report.neighbour_grid import neighbour_columns
from novum.report.pictures import captioned_table, encode
from novum.report.table import scalars


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
    """

    def __init__(
        self,
        features: tuple[str, ...] = ("pixels", "efficientnet_lite0"),
        num_samples: int = 1000,
        rows: int = 8,
    ) -> None:
        self.features, self.num_samples, self.rows = tuple(features), num_samples, rows

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        evaluation = Evaluation.of(trainer, cast(ImageGenerator, pl_module))
        found, spaces = {}, {}
        for name in self.features:
            fake = evaluation.features(name, self.num_samples)
            train, heldout = (evaluation.reference(name, s) for s in ("train", "heldout"))
            found[name] = find_neighbours(fake, train, heldout, search=knn_together)
            matches = find_matches(train, heldout, fake, search=knn_together)
            copying = judge_copying(matches, math.log(RATIO))
            share = {"closer_to_train": as_estimate(share_interval(found[name]))}
            spaces[name] = Space(novelty=copying_figures(copying) | share)
        log_metrics(trainer, pl_module, scalars(spaces))
        if trainer.is_global_zero:
            self._show(trainer, evaluation, found)

    def _show(self, trainer: Trainer, evaluation: Evaluation, found: dict[str, Neighbours]) -> None:
        columns = neighbour_columns(
            evaluation.samples(self.num_samples),
            {split: evaluation.source(split) for split in ("train", "heldout")},
            found,
            self.rows,
        )
        log_picture(
            trainer,
            "novelty/nearest_neighbours",
            lambda: encode(captioned_table(*columns)),
            evaluation.images_seen,
        )
