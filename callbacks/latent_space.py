"""Figures of a style space: path lengths, separability, and how well images are found in it."""

from typing import Literal

from pytorch_lightning import LightningModule, Trainer

from novum.callbacks.evaluation import EvaluationCallback, reference
from novum.callbacks.logging import log_metrics
from novum.core.errors import check_at_least
from novum.core.lightning_compat import fast_dev_run
from novum.core.protocols import require_styles
from novum.evaluation.latent_figures import space_figures
from novum.lightning_modules.stylegan.style_space import recover
from novum.metrics.functional import Interval


class LatentSpace(EvaluationCallback):
    """quality/path_length_* of z and w, and with a classifier quality/separability_*.

    Args:
        features: Extractor whose features measure how much an image changes.
        num_paths: Paths of each kind.
        classifier: A classifier's checkpoint (null: no separability).
        num_samples: Images that it labels.
    """

    def __init__(
        self,
        features: str = "efficientnet_lite0",
        num_paths: int = 500,
        classifier: str | None = None,
        num_samples: int = 10_000,
    ) -> None:
        check_at_least(1, num_paths=num_paths, num_samples=num_samples)
        self.features, self.num_paths = features, num_paths
        self.classifier, self.num_samples = classifier, num_samples

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = require_styles(pl_module, "LatentSpace")
        paths = 8 if fast_dev_run(trainer) else self.num_paths
        found = space_figures(module, [self.features], self.classifier, paths, self.num_samples)
        values = {
            f"quality/{metric}/{space}": figure.value if isinstance(figure, Interval) else figure
            for space, figures in found.items()
            for metric, figure in figures.items()
        }
        log_metrics(trainer, pl_module, values)


class LatentRecovery(EvaluationCallback):
    """novelty/recovery_*: are training images found in the style space better than held-out ones?

    Args:
        num_images: Of each side.
        space: w, or one style per layer, w+.
        steps: Updates of each search.
    """

    def __init__(
        self, num_images: int = 32, space: Literal["w", "w+"] = "w+", steps: int = 100
    ) -> None:
        self.num_images, self.steps = num_images, steps
        self.space: Literal["w", "w+"] = space

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = require_styles(pl_module, "LatentRecovery")
        sources = {split: reference(trainer, split) for split in ("train", "heldout")}
        steps = 2 if fast_dev_run(trainer) else self.steps
        figures = recover(module, sources, self.num_images, self.space, steps)[1]
        log_metrics(
            trainer, pl_module, {f"novelty/{k}/pixels": value for k, value in figures.items()}
        )
