"""torch-fidelity's InceptionV3: the features of the FID that everyone quotes."""

import io
from pathlib import Path

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from novum.metrics.features.extractor import FeatureExtractor, rgb, weights_hash
from novum.metrics.features.folding import fold_batch_norms
from novum.metrics.features.weights import find_weights, load_weights


class Inception(FeatureExtractor):
    """The 2048 pooled features of the TensorFlow network, with its TF1 bilinear resize to 299."""

    LAYER = "2048"

    def __init__(
        self,
        name: str = "inception",
        features_list: list[str] | None = None,
        size: int = 0,
        feature_extractor_weights_path: str | Path | None = None,
        **_: object,
    ) -> None:
        super().__init__(name, features_list)
        if size not in (0, 299):
            raise ValueError(f"inception takes 299 px images, not {size}: leave out @{size}")
        filename = Path(URL_INCEPTION_V3).name
        path = find_weights(name, URL_INCEPTION_V3, filename, feature_extractor_weights_path)
        weights = io.BytesIO()
        torch.save(load_weights(path), weights)  # plain tensors only, for torch-fidelity unpickles
        weights.seek(0)
        network = FeatureExtractorInceptionV3("inception-v3-compat", self.features_list, weights)
        self.spec = f"inception/2048/tf1-bilinear-299/float32/weights-{weights_hash(network)}"
        self.network = fold_batch_norms(network).to(memory_format=torch.channels_last)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(images.device.type, enabled=False):
            return self.network(rgb(images))

    def logits(self, features: Tensor) -> Tensor:
        """Unbiased logits (n, 1008) for the Inception score, from the (n, 2048) features."""
        return features.to(self.network.fc.weight) @ self.network.fc.weight.T

    @classmethod
    def get_provided_features_list(cls) -> tuple[str, ...]:
        return FeatureExtractorInceptionV3.get_provided_features_list()

    @classmethod
    def get_default_feature_layer_for_metric(cls, metric: str) -> str:
        return FeatureExtractorInceptionV3.get_default_feature_layer_for_metric(metric)
