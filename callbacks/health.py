"""Health of training: figures that losses do not show, and a verdict in words."""

import math
import time
from typing import Any, NamedTuple, cast

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from novum.callbacks.evaluation import Evaluation, EvaluationCallback, reference
from novum.callbacks.logging import log_metrics, log_text
from novum.callbacks.text_health import text_figures
from novum.core.errors import check_at_least
from novum.core.protocols import (
    BLOCK,
    AttackedClassifier,
    Discriminator,
    ImageGenerator,
    TextGenerator,
    seen,
    unit,
)
from novum.metrics.neighbours import knn, knn_together
from novum.report.events import literal


class Limit(NamedTuple):
    """Limits beyond which a health figure means trouble."""

    below: float
    above: float
    says: str


LIMITS = {
    "diversity": Limit(0.5, math.inf, "mode collapse: samples vary {value:.0%} as much as data"),
    "duplicate_rate": Limit(
        -math.inf, 0.2, "mode collapse: {value:.0%} of samples have a near-twin (real images: 1%)"
    ),
    "class_coverage": Limit(0.6, math.inf, "classes are missing: {value:.0%} are effectively made"),
    "heldout_gap": Limit(
        -math.inf,
        0.4,
        "overfitting: held-out text costs {value:.2f} nats a character more than training text",
    ),
    "gain_over_triples": Limit(
        0.0,
        math.inf,
        "undertrained, or diverged: held-out text costs {gap:.2f} nats a character more than a"
        " table of three characters in a row does",
    ),
    "gain_over_chance": Limit(
        0.1,
        math.inf,
        "undertrained, or diverged: of the way from always the commonest class to no error it has"
        " come {value:.0%}",
    ),
    "accuracy_gap": Limit(
        -math.inf,
        0.2,
        "overfitting: {value:.0%} more of the training images than of the held-out ones are right",
    ),
    "classes_answered": Limit(
        0.5, math.inf, "classes are missing: {value:.0%} of them are ever the answer"
    ),
    "repetition": Limit(
        -math.inf, 0.3, "samples go round in circles: {value:.0%} of their words repeat at once"
    ),
    "discriminator_gap": Limit(
        -math.inf,
        0.5,
        "the discriminator memorises: held-out images score {value:.0%} of the way from training"
        " to generated ones",
    ),
}
WORSE = 1.5  # times the best Fréchet distance


class TrainingHealth(EvaluationCallback):
    """health/*: discriminator on train, held-out and generated; diversity; duplicates; classes.

    - diversity: standard deviation of sample features over that of training features.
    - duplicate_rate: share of samples nearer to another sample than all but 1% of as many
      training images are to another one.
    - class_coverage: exp(entropy) of the classes of the samples' nearest training images, over
      that of training: 1 is all classes in their proportions.
    - gain_over_chance: accuracy on held-out images of a classifier, of the way from always the
      commonest class (0) to 1; accuracy_gap: accuracy on training images less that; and
      classes_answered: share of the classes of those images that are ever the answer.
    - heldout_gap: nats a character of held-out less those of training text, both from an empty
      state; gain_over_triples: nats that a table of three characters in a row costs more than it;
      repetition: share of a text's words that stood among the ten before them.
    - discriminator_gap: how far held-out images score from training towards generated ones.
    - speed/*: images or characters a second in training; seconds per step, of waiting
      for data, and of the last evaluation.

    Args:
        features: Feature extractor of the first three.
        num_samples: Samples they are computed on.
        train: Training images, uint8 (n, c, h, w); null for the data's own.
        heldout: Held-out images, likewise.
    """

    needs = ("train", "heldout")

    def __init__(
        self,
        features: str = "efficientnet_lite0",
        num_samples: int = 1000,
        train: Tensor | None = None,
        heldout: Tensor | None = None,
    ) -> None:
        self._refer_to(train, heldout)
        check_at_least(2, num_samples=num_samples)
        self.features, self.num_samples = features, num_samples
        self.best: dict[str, tuple[float, int]] = {}  # Fréchet tag -> best value, images_seen
        self.verdict = ""
        self.clock = PhaseClock()

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        figures = {}
        if isinstance(pl_module, ImageGenerator):
            figures |= self._images(Evaluation.of(trainer, pl_module))
        if isinstance(pl_module, Discriminator):
            generator = cast(ImageGenerator, pl_module)
            figures |= self._discriminator(pl_module, Evaluation.of(trainer, generator))
        if isinstance(pl_module, TextGenerator):
            figures |= text_figures(trainer, pl_module)
        if isinstance(pl_module, AttackedClassifier):
            figures |= classifier_figures(trainer, pl_module, self.num_samples)
        log_metrics(trainer, pl_module, {f"health/{k}": v for k, v in figures.items()})
        log_metrics(trainer, pl_module, self.clock.figures(unit(pl_module)))
        self.verdict = self._judge(trainer, pl_module, figures)
        log_text(trainer, "health/verdict", literal(self.verdict), seen(pl_module))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and self.verdict and isinstance(pl_module, AttackedClassifier):
            print(f"Health:      {self.verdict}")  # of others the summary of the run says it

    def _images(self, evaluation: Evaluation) -> dict[str, float]:
        fake = evaluation.features(self.features, self.num_samples)
        train = evaluation.reference(self.features, "train")
        figures = {
            "diversity": diversity(train, fake),
            "duplicate_rate": duplicate_rate(train, fake),
        }
        labels = getattr(evaluation.source("train"), "labels", None)
        if labels is not None:
            figures["class_coverage"] = class_coverage(train, labels, fake)
        return figures

    def _discriminator(self, pl_module: Discriminator, evaluation: Evaluation) -> dict[str, float]:
        fake = evaluation.samples(self.num_samples)
        # without labels each block of samples goes through the classes in turn
        classes = getattr(pl_module, "num_classes", 0)
        labels = torch.arange(len(fake)) % BLOCK % classes if classes else None
        scores = {"generated": float(pl_module.discriminate(fake, labels=labels).mean())}
        for split in ("train", "heldout"):
            source = evaluation.source(split)
            n = min(self.num_samples, len(source))
            rows = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))[:n]
            known = getattr(source, "labels", None)
            labels = known[rows] if known is not None else None
            scores[split] = float(pl_module.discriminate(source[rows], labels=labels).mean())
        spread = scores["train"] - scores["generated"]
        gap = (scores["train"] - scores["heldout"]) / spread if spread > 1e-3 else 0.0
        return {f"discriminator_{k}": v for k, v in scores.items()} | {"discriminator_gap": gap}

    def _judge(
        self, trainer: Trainer, pl_module: LightningModule, figures: dict[str, float]
    ) -> str:
        troubles = [
            limit.says.format(value=figures[name], gap=-figures[name])
            for name, limit in LIMITS.items()
            if name in figures and not limit.below <= figures[name] <= limit.above
        ]
        for tag, value in trainer.callback_metrics.items():
            if tag.startswith("quality/frechet_distance/"):
                best = min(self.best.get(tag, (math.inf, 0)), (float(value), seen(pl_module)))
                self.best[tag] = best
                if value > WORSE * best[0]:
                    troubles.append(
                        f"quality falls: {tag.removeprefix('quality/')} is {float(value):.3g}, and"
                        f" was {best[0]:.3g} at {best[1]:,} images"
                    )
        return "Healthy." if not troubles else "Trouble: " + "; ".join(troubles) + "."

    def state_dict(self) -> dict[str, Any]:
        return {"best": dict(self.best), "verdict": self.verdict}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.verdict = dict(state_dict["best"]), state_dict["verdict"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.clock.start(seen(pl_module))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        self.clock.enter("step", 0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        self.clock.enter("data", seen(pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock.enter("evaluation", 0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self.clock.enter("data", 0)


class PhaseClock:
    """Seconds spent per phase since the last read; on CUDA, the time to queue the work."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._phase, self._since = "", time.perf_counter()
        self._steps = self._images = self._images_read = 0

    def start(self, images_seen: int) -> None:
        self._images = self._images_read = images_seen
        self.enter("data", images_seen)

    def enter(self, phase: str, images_seen: int) -> None:
        now = time.perf_counter()
        if self._phase:
            self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now
        self._steps += phase == "step"
        self._images = max(self._images, images_seen)

    def figures(self, counted: str = "images") -> dict[str, float]:
        """speed/* of training so far and of the last whole evaluation, then resets."""
        step, data = self._seconds.get("step", 0.0), self._seconds.get("data", 0.0)
        figures = {}
        if self._steps:
            figures = {
                "speed/step_seconds": step / self._steps,
                "speed/data_seconds": data / self._steps,
                f"speed/{counted}_per_second": (self._images - self._images_read) / (step + data),
            }
        if "evaluation" in self._seconds:
            figures["speed/evaluation_seconds"] = self._seconds["evaluation"]
        self._seconds.clear()
        self._steps, self._images_read = 0, self._images
        return figures


def classifier_figures(
    trainer: Trainer, pl_module: AttackedClassifier, num_images: int
) -> dict[str, float]:
    """The figures of a classifier that TrainingHealth explains."""
    right, figures = {}, {}
    for split in ("train", "heldout"):
        source = reference(trainer, split)
        if source.labels is None:
            return {}
        random = torch.Generator().manual_seed(0)
        rows = torch.randperm(len(source), generator=random)[:num_images]
        labels = source.labels[rows].cpu()
        parts = [pl_module.classify(source[x]).argmax(1).cpu() for x in rows.split(BLOCK)]
        answers = torch.cat(parts)
        right[split] = float((answers == labels).double().mean())
        commonest = float(labels.bincount().max()) / len(labels)
        figures = {
            "gain_over_chance": (right[split] - commonest) / max(1 - commonest, 1e-9),
            "classes_answered": len(answers.unique()) / len(labels.unique()),
        }
    return figures | {"accuracy_gap": right["train"] - right["heldout"]}


def diversity(train: Tensor, fake: Tensor) -> float:
    """Root of the ratio of total variances; 1 is as varied as training, 0 one image."""
    return math.sqrt(float(fake.double().var(0).sum() / train.double().var(0).sum()))


def duplicate_rate(train: Tensor, fake: Tensor, quantile: float = 0.01) -> float:
    """Share of samples nearer to another sample than real images are, but for 1% of them."""
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: len(fake)]
    fake = fake[: len(rows)]
    real_nearest = knn(train[rows], train[rows], 2)[0][:, 1]
    fake_nearest = knn(fake, fake, 2)[0][:, 1]
    return float((fake_nearest <= real_nearest.quantile(quantile)).double().mean())


def class_coverage(train: Tensor, labels: Tensor, fake: Tensor) -> float:
    """exp(entropy) of samples' classes (by nearest training image) over that of training."""
    classes = labels[knn_together(fake, train, 1)[1][:, 0]]
    return _effective_classes(classes) / _effective_classes(labels)


def _effective_classes(labels: Tensor) -> float:
    shares = labels.bincount().double() / len(labels)
    return math.exp(-float(torch.special.xlogy(shares, shares).sum()))
