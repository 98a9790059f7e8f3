"""A module of ours as a feature extractor: `checkpoint:PATH`."""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from novum.metrics.features.extractor import FeatureExtractor, check_images, weights_hash


class Checkpoint(FeatureExtractor):
    """`features(uint8 images) -> (b, d)` of the LightningModule in a checkpoint of ours."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(f"checkpoint:{path}")
        self.module = load_module(Path(path)).requires_grad_(False).eval()
        weights = weights_hash(self.module)
        self.spec = f"checkpoint/{type(self.module).__name__}/features/weights-{weights}"

    def forward(self, images: Tensor) -> tuple[Tensor]:
        check_images(images)
        with torch.autocast(images.device.type, enabled=False):
            return (self.module.features(images).float(),)


def load_module(path: Path) -> nn.Module:
    """The module with a `features` method that a checkpoint holds, built by its saved arguments."""
    cls = _module_class(_read(path).get("hyper_parameters", {}).get("_class_path", ""), path)
    return cls.load_from_checkpoint(path, map_location="cpu", weights_only=True)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        cause = str(error).strip().split("\n")[0]
        raise ValueError(f"{path} is no checkpoint, or a damaged one: {cause}") from error
    return checkpoint if isinstance(checkpoint, dict) else {}


def _module_class(class_path: str, path: Path) -> type:
    module, _, name = class_path.rpartition(".")
    cls = None
    if module.split(".")[0] == "novum":  # never import what a file names, but from our own house
        cls = getattr(importlib.import_module(module), name, None)
    if not callable(getattr(cls, "features", None)):
        found = class_path or "no module's class"
        raise ValueError(
            f"{path} is not a feature extractor checkpoint: it holds {found}, and a module of novum"
            " with a method features(images) is needed"
        )
    return cls
