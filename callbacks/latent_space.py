"""Figures of a style space: path lengths, separability, and how well images are found in it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from scipy.stats import mannwhitneyu
from torch import Tensor

from novum.callbacks.evaluation import EvaluationCallback
from novum.callbacks.logging import log_metrics
from novum.callbacks.style_sheets import require_styles
from novum.core.checkpoints import load_module
from novum.core.errors import NotComputable
from novum.core.protocols import ImageGenerator, StyleGenerator
from novum.datamodules.sources.image_sources import ImageSource
from novum.lightning_modules.sampling import to_float
from novum.lightning_modules.stylegan.style_space import Projection, project
from novum.metrics.features import load_extractor
from novum.metrics.features.extractor import FeatureExtractor
from novum.metrics.functional import Interval, linear_separability, perceptual_path_length
from novum.metrics.functional.path_length import Distance

BATCH = 64


def sees_small_steps(extractor: FeatureExtractor) -> bool:
    """Does it take floats, and not 8-bit images alone?"""
    return type(extractor).features is not FeatureExtractor.features


def feature_distance(extractor: FeatureExtractor) -> Distance:
    """Squared distance of unit-length features of float images in [-1, 1]: (n,).

    Raises:
        InputError: If the extractor takes 8-bit images alone, which hide small steps.
    """
    if not sees_small_steps(extractor):
        raise NotComputable(
            f"path length cannot be measured in {extractor.name}, which takes 8-bit images alone;"
            " efficientnet_lite0, inception, dinov2 and clip take finer steps"
        )

    def directions(images: Tensor) -> Tensor:
        levels = (images.float() + 1) * 127.5  # as the extractor expects, but not rounded
        features = extractor.features(
            levels.expand(-1, 3, -1, -1) if levels.shape[1] == 1 else levels
        )
        return torch.nn.functional.normalize(features.double(), dim=1)

    return lambda a, b: (directions(a) - directions(b)).square().sum(1)


def path_lengths(
    module: StyleGenerator, distance: Distance, n: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """path_length_z and path_length_w, anywhere on paths and at their ends, of n paths each."""
    z = module.sample_latents(2 * n, seed=seed)
    ws = module.map_latents(z)

    def from_z(z: Tensor) -> Tensor:  # both images of a pair take one class
        labels = torch.arange(len(z) // 2).repeat(2) % max(1, getattr(module, "num_classes", 1))
        return module.render(module.map_latents(z, labels=labels))

    found = {}
    for space, decode, ends in (("z", from_z, z), ("w", module.render, ws)):
        for sampling in ("full", "end"):
            found[f"path_length_{space}_{sampling}"] = perceptual_path_length(
                decode, distance, *ends.chunk(2), space=space, sampling=sampling, seed=seed
            )
    return found


def separability(
    module: StyleGenerator, labeller: LightningModule, n: int = 10_000, seed: int = 0
) -> dict[str, float]:
    """separability_z and separability_w by a labeller with `classify`, such as our Classifier."""
    z = module.sample_latents(n, seed=seed)
    ws = module.map_latents(z)
    images = torch.cat([module.synthesize(w, psi=1.0) for w in ws.split(BATCH)])
    probabilities = torch.cat([labeller.classify(x).cpu() for x in images.split(BATCH)])
    return {
        "separability_z": linear_separability(z, probabilities),
        "separability_w": linear_separability(ws[:, 0].cpu(), probabilities),
    }


def space_figures(
    module: StyleGenerator,
    features: Sequence[str],
    classifier: str | None,
    num_paths: int,
    num_samples: int,
    seed: int = 0,
) -> dict[str, dict[str, Interval | float]]:
    """Path lengths in each feature space; separability in one called `classifier`, if given."""
    found: dict[str, dict[str, Interval | float]] = {}
    if classifier is not None:
        labeller = load_labeller(classifier).to(module.device)
        found["classifier"] = separability(module, labeller, num_samples, seed)
    for name in features:
        distance = feature_distance(load_extractor(name).to(module.device))
        found[name] = path_lengths(module, distance, num_paths, seed)
    return found


def load_labeller(path: str) -> LightningModule:
    """The classifier in a checkpoint of ours."""
    return load_module(Path(path), "classify", "classifier").eval()


def recover(
    module: ImageGenerator,
    sources: dict[str, ImageSource],
    n: int = 64,
    space: str = "w+",
    steps: int = 200,
    seed: int = 0,
) -> tuple[dict[str, Projection], dict[str, float]]:
    """n images of `train` and of `heldout`, found in the style space, and how near.

    Returns:
        Both projections; recovery_train and recovery_heldout, the median distances; recovery_gap,
        their ratio less 1 (above 0: training images are found better, as if remembered); and
        recovery_p, the one-sided Mann-Whitney probability of such distances if nothing is
        remembered.
    """
    found = {}
    with torch.inference_mode(False), torch.enable_grad():
        for split, source in sources.items():
            random = torch.Generator().manual_seed(seed)
            rows = torch.randperm(len(source), generator=random)[:n]
            images = to_float(source[rows].clone())
            found[split] = project(module.ema, images, space=space, steps=steps, seed=seed)
    train, heldout = (found[split].distance.cpu() for split in ("train", "heldout"))
    test = mannwhitneyu(train.numpy(), heldout.numpy(), alternative="less")
    return found, {
        "recovery_train": float(train.median()),
        "recovery_heldout": float(heldout.median()),
        "recovery_gap": float(heldout.median() / train.median()) - 1,
        "recovery_p": float(test.pvalue),
    }


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
        self.features, self.num_paths = features, num_paths
        self.classifier, self.num_samples = classifier, num_samples

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = require_styles(pl_module, "LatentSpace")
        paths = 8 if trainer.fast_dev_run else self.num_paths
        found = space_figures(module, [self.features], self.classifier, paths, self.num_samples)
        values = {
            f"quality/{metric}/{space}": getattr(figure, "value", figure)
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

    def __init__(self, num_images: int = 32, space: str = "w+", steps: int = 100) -> None:
        self.num_images, self.space, self.steps = num_images, space, steps

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        require_styles(pl_module, "LatentRecovery")
        data = trainer.datamodule
        sources = {"train": data.train_reference(), "heldout": data.heldout_reference()}
        steps = 2 if trainer.fast_dev_run else self.steps
        figures = recover(pl_module, sources, self.num_images, self.space, steps)[1]
        log_metrics(
            trainer, pl_module, {f"novelty/{k}/pixels": value for k, value in figures.items()}
        )
