"""A Novum module as a feature extractor: `checkpoint:PATH`."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from novum.core.checkpoints import load_module
from novum.metrics.features.extraction import check_images, weights_hash
from novum.metrics.features.extractor import FeatureExtractor


class Checkpoint(FeatureExtractor):
    """`features(uint8 images) -> (b, d)` of the LightningModule in a checkpoint."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(f"checkpoint:{path}")
        self.module = load_module(Path(path)).requires_grad_(False).eval()
        weights = weights_hash(self.module)
        self.spec = f"checkpoint/{type(self.module).__name__}/features/weights-{weights}"

    def forward(self, images: Tensor) -> tuple[Tensor]:
        check_images(images)
        with torch.autocast(images.device.type, enabled=False):
            return (cast(Any, self.module).features(images).float(),)
