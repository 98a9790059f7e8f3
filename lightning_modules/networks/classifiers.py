"""Small classifiers: images (b, c, h, w) in [-1, 1] -> logits (b, num_classes)."""

from typing import cast

import torch
from torch import Tensor, nn

from novum.lightning_modules.networks.backbones import Backbone


class SmallCNN(nn.Module):
    """Five 3x3 convolutions with batch norms, pooled to one vector: 0.1 GFLOP per 28 px image.

    Args:
        image_size: Height and width that it is trained at; any size from 8 px goes through.
        channels: 1 for gray, 3 for RGB.
        num_classes: Number of logits.
        width: Feature maps of the first layer; the last has four times as many.
        dropout: Share of the pooled features that is dropped in training.
    """

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        num_classes: int = 10,
        width: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.image_size, self.channels, self.num_classes = image_size, channels, num_classes
        self.features = nn.Sequential(
            *_convolution(channels, width),
            nn.MaxPool2d(2),
            *_convolution(width, 2 * width),
            *_convolution(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *_convolution(2 * width, 4 * width),
            *_convolution(4 * width, 4 * width),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(4 * width, num_classes)
        self.to(memory_format=torch.channels_last)  # a sixth faster on CPUs

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def _convolution(c_in: int, c_out: int) -> list[nn.Module]:
    convolution = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]


class SoftmaxRegression(nn.Module):
    """One linear layer on the pixels, the model of Goodfellow et al. (2015), section 5.

    Args:
        image_size: Height and width in pixels.
        channels: 1 for gray, 3 for RGB.
        num_classes: Number of logits.
    """

    def __init__(self, image_size: int = 28, channels: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        self.image_size, self.channels, self.num_classes = image_size, channels, num_classes
        self.head = nn.Linear(channels * image_size**2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1) * 0.5 + 0.5)  # [0, 1] in the paper


class FineTuned(nn.Module):
    """A trained image network with a new last layer, all of it trainable.

    Args:
        name: Of the backbone: efficientnet_lite0, resnet50, any name that timm knows.
        weights: A path; cache; download; or none.
        image_size: Height and width that images are given in; more than 32 px suits most backbones.
        channels: 1 for gray (repeated three times), 3 for RGB.
        num_classes: Number of logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "efficientnet_lite0",
        weights: str = "download",
        image_size: int = 64,
        channels: int = 3,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.image_size, self.channels, self.num_classes = image_size, channels, num_classes
        backbone = Backbone(name, weights)
        self.register_buffer("mean", backbone.mean, persistent=False)
        self.register_buffer("std", backbone.std, persistent=False)
        self.network = backbone.network.requires_grad_(True)
        last = [k for k, m in self.network.named_modules() if isinstance(m, nn.Linear)][-1]
        head = nn.Linear(cast(nn.Linear, self.network.get_submodule(last)).in_features, num_classes)
        self.network.set_submodule(last, head)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images * 0.5 + 0.5 - self.mean) / self.std)
