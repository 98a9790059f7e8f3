"""Figures of a generator's latent spaces: path lengths and separability."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor

from novum.core.checkpoints import load_module
from novum.core.devices import place
from novum.core.errors import NotComputable
from novum.core.protocols import Labeller, StyleGenerator
from novum.metrics.features import load_extractor
from novum.metrics.features.extractor import FeatureExtractor
from novum.metrics.functional import Interval, linear_separability, perceptual_path_length
from novum.metrics.functional.path_length import Distance

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

BATCH = 64


def sees_small_steps(extractor: FeatureExtractor) -> bool:
    """Return True if the extractor supports float input."""
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
) -> dict[str, Interval | float]:
    """path_length_z and path_length_w, anywhere on paths and at their ends, of n paths each."""
    z = module.sample_latents(2 * n, seed=seed)
    ws = module.map_latents(z)

    def from_z(z: Tensor) -> Tensor:  # both images of a pair take one class
        labels = torch.arange(len(z) // 2).repeat(2) % max(1, getattr(module, "num_classes", 1))
        return module.render(module.map_latents(z, labels=labels))

    found: dict[str, Interval | float] = {}
    spaces: tuple[tuple[Literal["z", "w"], Callable[[Tensor], Tensor], Tensor], ...]
    spaces = (("z", from_z, z), ("w", module.render, ws))
    samplings: tuple[Literal["full", "end"], ...] = ("full", "end")
    for space, decode, ends in spaces:
        for sampling in samplings:
            found[f"path_length_{space}_{sampling}"] = perceptual_path_length(
                decode, distance, *_halves(ends), space=space, sampling=sampling, seed=seed
            )
    return found


def _halves(ends: Tensor) -> tuple[Tensor, Tensor]:
    first, second = ends.chunk(2)
    return first, second


def separability(
    module: StyleGenerator, labeller: Labeller, n: int = 10_000, seed: int = 0
) -> dict[str, Interval | float]:
    """separability_z and separability_w by a labeller, such as our Classifier."""
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
    device = cast("LightningModule", module).device
    found: dict[str, dict[str, Interval | float]] = {}
    if classifier is not None:
        labeller = place(load_labeller(classifier), device)
        found["classifier"] = separability(module, cast(Labeller, labeller), num_samples, seed)
    for name in features:
        distance = feature_distance(place(load_extractor(name), device))
        found[name] = path_lengths(module, distance, num_paths, seed)
    return found


def load_labeller(path: str) -> "LightningModule":
    """Load the classifier of a checkpoint."""
    return load_module(Path(path), "classify", "classifier").eval()
