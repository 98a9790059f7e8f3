"""The base of feature extractors, which torch-fidelity can use as well."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from novum.metrics.features.extraction import rgb


class FeatureExtractor(FeatureExtractorBase):
    """uint8 (b, c, h, w) in, one tuple of float32 (b, d) out.

    `spec` names everything that a feature depends on: extractor, layer, resize, dtype and weights.
    It is part of cache keys and reports. torch-fidelity can use a subclass by its registered name.
    """

    LAYER = "features"
    spec: str

    def __init__(self, name: str, features_list: Sequence[str] | None = None) -> None:
        super().__init__(name, list(features_list or [self.LAYER]))
        self.eval()

    def features(self, images: Tensor) -> Tensor:
        """float32 (b, 3, h, w) in [0, 255] -> (b, d)."""
        raise NotImplementedError

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, images: Tensor
    ) -> tuple[Tensor, ...]:
        with torch.autocast(images.device.type, enabled=False):
            return (self.features(rgb(images).float()).float(),)

    @classmethod
    def get_provided_features_list(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
    ) -> tuple[str, ...]:
        return (cls.LAYER,)

    @classmethod
    def get_default_feature_layer_for_metric(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, metric: str
    ) -> str:
        return cls.LAYER

    @staticmethod
    def can_be_compiled() -> bool:
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
