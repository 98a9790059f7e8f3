"""Feature extractors by name."""

import difflib
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

from novum.core.errors import InputError
from novum.metrics.features.checkpoint import Checkpoint
from novum.metrics.features.efficientnet import EfficientNetLite0
from novum.metrics.features.extraction import rgb, weights_hash
from novum.metrics.features.extractor import FeatureExtractor
from novum.metrics.features.inception import Inception, InceptionBFloat16
from novum.metrics.features.pixel_features import Pixels
from novum.metrics.features.sscd import Sscd
from novum.metrics.features.transformers import Clip, DinoV2

EXTRACTORS: dict[str, type[FeatureExtractor]] = {
    "inception": Inception,
    "inception_bf16": InceptionBFloat16,
    "dinov2": DinoV2,
    "clip": Clip,
    "efficientnet_lite0": EfficientNetLite0,
    "pixels": Pixels,
}

for _name, _class in EXTRACTORS.items():  # for torch_fidelity.calculate_metrics(feature_extractor=)
    if f"novum-{_name}" not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(f"novum-{_name}", _class)


@cache
@torch.inference_mode(False)  # its weights outlive the evaluation that asks for it first
def load_extractor(name: str, weights: str | Path | None = None) -> FeatureExtractor:
    """The extractor of that name, built once per process.

    NAME, NAME@SIZE (resize to SIZE px), checkpoint:PATH, sscd:PATH, sscd:PATH@SIZE, or a name
    registered with torch-fidelity.
    """
    if name.startswith("checkpoint:"):
        return Checkpoint(name.removeprefix("checkpoint:"))
    if name.startswith("sscd:"):
        path, _, size = name.removeprefix("sscd:").rpartition("@")
        sized = bool(path) and size.isdecimal() and int(size) > 0
        return Sscd(path, int(size)) if sized else Sscd(name.removeprefix("sscd:"))
    base, at, size = name.partition("@")
    if base in EXTRACTORS and (not at or size.isdecimal() and int(size) > 0):
        build: Any = EXTRACTORS[base]  # all take a size and weights
        return build(name, size=int(size or 0), feature_extractor_weights_path=weights)
    if name in FEATURE_EXTRACTORS_REGISTRY:
        return Registered(name, weights)
    raise InputError(_unknown(name))


class Registered(FeatureExtractor):
    """An extractor registered with torch-fidelity: its layer for the Fréchet distance."""

    def __init__(self, name: str, weights: str | Path | None = None) -> None:
        cls = FEATURE_EXTRACTORS_REGISTRY[name]
        if weights is not None and cls.__module__.startswith("torch_fidelity."):
            raise InputError(
                f"weights of '{name}': torch-fidelity would unpickle them; take"
                f" {', '.join(EXTRACTORS)}"
            )
        super().__init__(name)
        layer = cls.get_default_feature_layer_for_metric("fid")
        self.extractor = cls(name, [layer], feature_extractor_weights_path=weights)
        self.extractor.requires_grad_(False).eval()
        self.spec = f"{name}/{layer}/float32/weights-{weights_hash(self.extractor)}"

    def forward(self, images: Tensor) -> tuple[Tensor]:
        with torch.autocast(images.device.type, enabled=False):
            return (self.extractor(rgb(images))[0].float(),)


def _unknown(name: str) -> str:
    known = [*EXTRACTORS, *FEATURE_EXTRACTORS_REGISTRY]
    close = difflib.get_close_matches(name.split("@")[0], known, 1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return (
        f"no feature extractor '{name}': {hint}there are {', '.join(EXTRACTORS)}, each also as"
        " NAME@SIZE (resized to SIZE px), checkpoint:PATH, sscd:PATH, and those registered with"
        " torch-fidelity"
    )
