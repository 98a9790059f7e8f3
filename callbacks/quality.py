"""Set metrics of samples from one shared feature pass."""

from typing import cast

from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from novum.callbacks.evaluation import Evaluation, EvaluationCallback, names_of
from novum.callbacks.logging import log_metrics
from novum.core.errors import check_at_least
from novum.core.protocols import ImageGenerator
from novum.evaluation.space import FLOORS, as_estimate, compute
from novum.metrics.functional import (
    Moments,
    density_coverage,
    kernel_distance,
    parzen_log_likelihood,
    parzen_sigma,
)
from novum.metrics.functional.frechet import known_moments
from novum.metrics.functional.manifold import precision_with_interval, spheres_of
from novum.metrics.record import FeatureSets
from novum.metrics.registry import describe, measures_of
from novum.metrics.subsets import equal_sizes
from novum.report.model import Estimate, Space
from novum.report.table import scalars


class QualityCallback(EvaluationCallback):
    """Logs quality/<metric>/<features> for each feature extractor named.

    Args:
        features: Names of feature extractors; `inception` gives the customary FID.
        num_samples: Samples to judge; never compare figures of different numbers.
        train: Training images, uint8 (n, c, h, w); null for the data's own.
        heldout: Held-out images, likewise.
    """

    requires, needs = ("sample",), ("train",)
    metrics: tuple[str, ...] = ()  # measured here

    def __init__(
        self,
        features: tuple[str, ...] = ("efficientnet_lite0",),
        num_samples: int = 10_000,
        train: Tensor | None = None,
        heldout: Tensor | None = None,
    ) -> None:
        check_at_least(2, num_samples=num_samples)
        self.features, self.num_samples = names_of(features), num_samples
        self._refer_to(train, heldout)

    def floors(self, evaluation: Evaluation) -> dict[str, dict[str, Estimate]]:
        """Figures of held-out images in place of samples, by feature space and metric.

        Of metrics that the verdict rates; measured at the first evaluation, since neither training
        nor held-out images change.
        """
        rated = [metric for metric in FLOORS if metric in self.metrics]
        if not rated:
            return {}
        return {
            name: evaluation.quality_floor(name, self.num_samples, rated) for name in self.features
        }

    def measure(self, evaluation: Evaluation, name: str) -> dict[str, float]:
        """Metric -> value, in the feature space of that name."""
        raise NotImplementedError

    def sets(self, evaluation: Evaluation, name: str, near: Tensor | None = None) -> FeatureSets:
        """Real and generated features, as many of each (n, d), on the trainer's device."""
        real = evaluation.reference(name, "train")
        real, fake = equal_sizes(real, evaluation.features(name, self.num_samples))
        shared = evaluation.shared(name, self.num_samples) if near is not None else None
        return FeatureSets(real, None, fake, near=near, shared=shared).to(evaluation.device)

    def near(self, evaluation: Evaluation, name: str) -> Tensor | None:
        """Distances of these real features to their nearest others, found once."""
        return evaluation.reference_neighbour_distances(name, "train", self.num_samples)

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        evaluation = Evaluation.of(trainer, cast(ImageGenerator, pl_module))
        for name in self.features:
            values = self.measure(evaluation, name)
            tagged = {
                f"{describe(metric).group}/{metric}/{name}": value
                for metric, value in values.items()
            }
            log_metrics(trainer, pl_module, tagged)


class FrechetDistanceCallback(QualityCallback):
    """quality/frechet_distance/<features>: Fréchet distance to the training set (FID)."""

    metrics = ("frechet_distance",)

    def measure(self, evaluation: Evaluation, name: str) -> dict[str, float]:
        fake, moments = (
            evaluation.features(name, self.num_samples),
            evaluation.reference_moments(name, "train"),
        )
        sets = FeatureSets(fake[:0], None, fake, moments).to(evaluation.device)
        real = known_moments(sets)
        return {"frechet_distance": real.frechet_distance(Moments().update(sets.fake))}


class KernelDistance(QualityCallback):
    """quality/kernel_distance/<features>: the exact unbiased MMD^2 of KID."""

    metrics = ("kernel_distance",)

    def measure(self, evaluation: Evaluation, name: str) -> dict[str, float]:
        sets = self.sets(evaluation, name)
        return {"kernel_distance": kernel_distance(sets.train, sets.fake)}


class PrecisionRecall(QualityCallback):
    """quality/precision and quality/recall: shares inside the other set's manifold, k = 3.

    quality/precision_low and quality/precision_high are the ends of its 95% interval.
    """

    metrics = ("precision", "recall")

    def measure(self, evaluation: Evaluation, name: str) -> dict[str, float]:
        sets = self.sets(evaluation, name, self.near(evaluation, name))
        precision, recall = precision_with_interval(sets)
        ends = {"precision_low": precision.low, "precision_high": precision.high}
        return {"precision": precision.value, "recall": recall, **ends}


class DensityCoverage(QualityCallback):
    """quality/density and quality/coverage: how densely, how widely the real set is met, k = 5."""

    metrics = ("density", "coverage")

    def measure(self, evaluation: Evaluation, name: str) -> dict[str, float]:
        sets = self.sets(evaluation, name, self.near(evaluation, name))
        spheres = spheres_of(sets)
        return density_coverage(sets.train, sets.fake, near=sets.near, spheres=spheres)._asdict()


class SetMetrics(QualityCallback):
    """quality/<metric>/<features>, or novelty/..., of any metrics that evaluate.py computes.

    The ends of an interval are <metric>_low and <metric>_high.

    Args:
        metrics: Names, such as clipped_density and clipped_coverage.
        features: Names of feature extractors.
        num_samples: Samples to judge; never compare figures of different numbers.
        train: Training images, uint8 (n, c, h, w); null for the data's own.
        heldout: Held-out images, likewise.
    """

    needs = ("train", "heldout")

    def __init__(
        self,
        metrics: tuple[str, ...],
        features: tuple[str, ...] = ("efficientnet_lite0",),
        num_samples: int = 10_000,
        train: Tensor | None = None,
        heldout: Tensor | None = None,
    ) -> None:
        super().__init__(features, num_samples, train, heldout)
        self.metrics = names_of(metrics)
        self._measures = measures_of(self.metrics)  # a wrong name is an error before training

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        evaluation = Evaluation.of(trainer, cast(ImageGenerator, pl_module))
        for name in self.features:
            log_metrics(trainer, pl_module, scalars({name: self._space(evaluation, name)}))

    def _space(self, evaluation: Evaluation, name: str) -> Space:
        sets = FeatureSets(
            evaluation.reference(name, "train"),
            evaluation.reference(name, "heldout"),
            evaluation.features(name, self.num_samples),
            evaluation.reference_moments(name, "train"),
            self.near(evaluation, name),
        ).to(evaluation.device)
        space = Space()
        for measure in self._measures:
            values, _ = compute(measure, sets)
            for metric, value in zip(measure.metrics, values, strict=True):
                if metric.name in self.metrics:
                    space.group(metric.group)[metric.name] = as_estimate(value)
        return space


class ParzenLogLikelihood(EvaluationCallback):
    """quality/parzen_log_likelihood/pixels: nats per held-out image, as in the first GAN paper.

    A Gaussian window on each sample; its width is the best of ten on the first 1,000 held-out
    images (at most half), the figure is that of the rest (Goodfellow et al., 2014, table 1).

    Args:
        num_samples: Samples that carry a window; 10,000 in the paper.
        heldout: Held-out images, uint8 (n, c, h, w); null for the data's own.
    """

    requires, needs = ("sample",), ("heldout",)

    def __init__(self, num_samples: int = 10_000, heldout: Tensor | None = None) -> None:
        check_at_least(2, num_samples=num_samples)
        self.num_samples = num_samples
        self._refer_to(None, heldout)

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        evaluation = Evaluation.of(trainer, cast(ImageGenerator, pl_module))
        heldout = evaluation.reference("pixels", "heldout")
        samples = evaluation.features("pixels", self.num_samples)
        first = min(1000, len(heldout) // 2)
        sigma = parzen_sigma(samples, heldout[:first])
        value, error = parzen_log_likelihood(samples, heldout[first:], sigma)
        tag = "quality/parzen_log_likelihood"
        log_metrics(
            trainer,
            pl_module,
            {
                f"{tag}/pixels": value,
                f"{tag}_low/pixels": value - 1.96 * error,
                f"{tag}_high/pixels": value + 1.96 * error,
                "quality/parzen_sigma/pixels": sigma,
            },
        )
