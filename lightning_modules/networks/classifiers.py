"""Small classifiers: images (b, c, h, w) in [-1, 1] -> logits (b, num_classes)."""

import difflib
from typing import Self, cast

import torch
from torch import Tensor, nn

from novum.core.errors import InputError, check_at_least
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
        sizes = {"image_size": image_size, "channels": channels}
        check_at_least(1, **sizes, num_classes=num_classes, width=width)
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
        check_at_least(1, image_size=image_size, channels=channels, num_classes=num_classes)
        self.image_size, self.channels, self.num_classes = image_size, channels, num_classes
        self.head = nn.Linear(channels * image_size**2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1) * 0.5 + 0.5)  # [0, 1] in the paper


class FineTuned(nn.Module):
    """A trained image network with a new last layer, before which features are normalised.

    The new layer begins at zero, so that its first random answers do not disturb trained weights
    (Kolesnikov et al., 2020, arXiv:1912.11370).

    Args:
        name: Of the backbone: efficientnet_lite0, resnet50, any name that timm knows.
        weights: A path; cache; download; or none.
        freeze: The layer up to which, itself included, weights stay as they were
            trained, such as blocks.3; `all` learns the last layer alone, null everything.
        image_size: Height and width that images are given in; the nearer to what the backbone was
            trained at (224 px for most), the better.
        channels: 1 for gray (repeated three times), 3 for RGB.
        num_classes: Number of logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "efficientnet_lite0",
        weights: str = "download",
        freeze: str | None = None,
        image_size: int = 64,
        channels: int = 3,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        check_at_least(1, image_size=image_size, channels=channels, num_classes=num_classes)
        self.image_size, self.channels, self.num_classes = image_size, channels, num_classes
        backbone = Backbone(name, weights)
        self.register_buffer("mean", backbone.mean, persistent=False)
        self.register_buffer("std", backbone.std, persistent=False)
        self.network = backbone.network.requires_grad_(True)
        last = [k for k, m in self.network.named_modules() if isinstance(m, nn.Linear)][-1]
        width = cast(nn.Linear, self.network.get_submodule(last)).in_features
        head = nn.Linear(width, num_classes)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        # normalised, so that one learning rate suits features of any scale
        normalised = nn.Sequential(nn.BatchNorm1d(width, affine=False), head)
        self.network.set_submodule(last, normalised)
        self.trained = weights != "none"
        self.lr = 0.003 if self.trained else 0.1  # more of it destroys trained weights
        self.frozen = self._layers_to_freeze(freeze, last)
        for layer in self.frozen:
            self.network.get_submodule(layer).requires_grad_(False)
        self.to(memory_format=torch.channels_last)
        self.train()  # a backbone is in evaluation mode as built

    def _layers_to_freeze(self, freeze: str | None, last: str) -> list[str]:
        """Modules with weights or statistics up to one, in the order of the network."""
        leaves = [
            name
            for name, module in self.network.named_modules()
            if name and [*module.parameters(False), *module.buffers(False)]
        ]
        if freeze is None:
            return []
        if freeze == "all":
            return [leaf for leaf in leaves if not leaf.startswith(f"{last}.")]
        own = [i for i, leaf in enumerate(leaves) if f"{leaf}.".startswith(f"{freeze}.")]
        if not own or leaves[own[-1]].startswith(f"{last}."):
            known = list(dict.fromkeys(".".join(leaf.split(".")[:2]) for leaf in leaves))
            near = difflib.get_close_matches(freeze, known, 3, 0.4) or known[:8]
            raise InputError(
                f"freeze is {freeze}: give all, or a layer before the last, such as"
                f" {', '.join(near)}"
            )
        return leaves[: own[-1] + 1]

    def train(self, mode: bool = True) -> Self:
        """Trained batch norms keep their statistics: a few small batches have worse ones."""
        super().train(mode)
        for name, module in self.network.named_modules():
            trained = self.trained and isinstance(module, nn.BatchNorm2d)
            if trained or name in self.frozen:
                module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images * 0.5 + 0.5 - self.mean) / self.std)
