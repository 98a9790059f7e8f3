"""torch-fidelity's InceptionV3: the features of the FID that everyone quotes."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from novum.core.errors import InputError
from novum.core.pretrained import find_weights, fold_batch_norms, load_weights
from novum.metrics.features.extraction import rgb, weights_hash
from novum.metrics.features.extractor import FeatureExtractor

# layer -> the modules from the layer before up to it; a layer's features are its mean over pixels
STAGES = {
    "64": ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1"),
    "192": ("Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    "768": ("Mixed_5b", "Mixed_5c", "Mixed_5d", *(f"Mixed_6{x}" for x in "abcde")),
    "2048": ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
}
CPU_IMAGES = 16  # at a time: activations of more leave the CPU's caches


class Inception(FeatureExtractor):
    """The 2048 pooled features of the TensorFlow network, with its TF1 bilinear resize to 299."""

    LAYER = "2048"
    DTYPE = torch.float32
    network: Any  # FeatureExtractorInceptionV3, which declares no layers

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
            raise InputError(f"{name} takes 299 px images, not {size}: leave out @{size}")
        filename = Path(URL_INCEPTION_V3).name
        path = find_weights(name, URL_INCEPTION_V3, filename, feature_extractor_weights_path)
        weights = io.BytesIO()
        torch.save(load_weights(path), weights)  # plain tensors only, for torch-fidelity unpickles
        weights.seek(0)
        network = FeatureExtractorInceptionV3("inception-v3-compat", self.features_list, weights)
        dtype = str(self.DTYPE).removeprefix("torch.")
        self.spec = f"inception/2048/tf1-bilinear-299/{dtype}/weights-{weights_hash(network)}"
        network = fold_batch_norms(network).to(self.DTYPE).to(memory_format=torch.channels_last)
        network.fc.float()
        self.network = network
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        step = CPU_IMAGES if images.device.type == "cpu" else max(1, len(images))
        with torch.autocast(images.device.type, enabled=False):
            parts = [self._layers(part) for part in rgb(images).split(step)]
        return tuple(torch.cat(layer) for layer in zip(*parts, strict=True))

    def logits(self, features: Tensor) -> Tensor:
        """Unbiased logits (n, 1008) for the Inception score, from the (n, 2048) features."""
        weight = self.network.fc.weight
        return features.to(weight) @ weight.T

    def _layers(self, images: Tensor) -> list[Tensor]:
        """The layers asked for, float32 (b, d) each."""
        found = {}
        x = resize_as_tensorflow((images.float() - 128) / 128, 299).to(self.DTYPE)
        for layer, modules in STAGES.items():
            for module in modules:
                x = getattr(self.network, module)(x)
            if layer in ("2048", *self.features_list):
                found[layer] = F.adaptive_avg_pool2d(x, 1).flatten(1).float()
        found["logits_unbiased"] = self.logits(found["2048"])
        found["logits"] = found["logits_unbiased"] + self.network.fc.bias
        return [found[layer] for layer in self.features_list]

    @classmethod
    def get_provided_features_list(cls) -> tuple[str, ...]:
        return FeatureExtractorInceptionV3.get_provided_features_list()

    @classmethod
    def get_default_feature_layer_for_metric(cls, metric: str) -> str:
        return FeatureExtractorInceptionV3.get_default_feature_layer_for_metric(metric)


class InceptionBFloat16(Inception):
    """The same in bfloat16: twice as fast where the processor knows it, features 0.3% off."""

    DTYPE = torch.bfloat16


def resize_as_tensorflow(images: Tensor, size: int) -> Tensor:
    """Bilinear as in TensorFlow 1: corners aligned at the top left, no antialiasing.

    Columns first, as there: bit for bit the same, but each row is blended only once.
    """
    return _blend(_blend(images, size, 3), size, 2)


def _blend(x: Tensor, size: int, dim: int) -> Tensor:
    """Linear interpolation of one dimension to `size` places."""
    scale = torch.tensor(x.shape[dim] / size, dtype=torch.float32, device=x.device)
    place = torch.arange(size, dtype=torch.float32, device=x.device) * scale
    low = place.long()
    high = (low + 1).clamp(max=x.shape[dim] - 1)
    share = (place - low).unflatten(0, (-1,) + (1,) * (3 - dim))
    below, above = x.index_select(dim, low), x.index_select(dim, high)
    return below + (above - below) * share
