"""Pixels as features."""

import torch
from torch import Tensor

from novum.metrics.features.extraction import check_images, resize
from novum.metrics.features.extractor import FeatureExtractor


class Pixels(FeatureExtractor):
    """Pixel values in [0, 1], flattened; `size` resizes images first."""

    LAYER = "pixels"

    def __init__(
        self,
        name: str = "pixels",
        features_list: list[str] | None = None,
        size: int = 0,
        **_: object,
    ) -> None:
        super().__init__(name, features_list)
        self.size = size
        self.spec = f"pixels/{f'bilinear-antialias-{size}' if size else 'native'}/float32"

    def forward(self, images: Tensor) -> tuple[Tensor]:
        check_images(images)  # gray stays one channel
        pixels = images.to(torch.float32)
        if self.size:
            pixels = resize(pixels, self.size)
        return (pixels.flatten(1) / 255,)
