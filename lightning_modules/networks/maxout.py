"""The networks of the first GAN (Goodfellow et al., 2014, arXiv:1406.2661), as its MNIST recipe."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novum.core.errors import check_at_least


def _uniform(linear: nn.Linear, limit: float) -> nn.Linear:
    nn.init.uniform_(linear.weight, -limit, limit)
    nn.init.zeros_(linear.bias)
    return linear


class Maxout(nn.Module):
    """h_i = max_j (x W_ij + b_ij): (b, d_in) -> (b, units) (Goodfellow et al., 2013)."""

    def __init__(self, d_in: int, units: int, pieces: int, init_range: float) -> None:
        super().__init__()
        check_at_least(1, d_in=d_in, units=units, pieces=pieces)
        self.units, self.pieces = units, pieces
        self.linear = _uniform(nn.Linear(d_in, units * pieces), init_range)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).view(-1, self.units, self.pieces).amax(2)


class MaxoutGenerator(nn.Module):
    """z (b, latent_dim) -> ReLU -> ReLU -> sigmoid, images (b, channels, h, w) in [-1, 1].

    Args:
        image_size: Height and width in pixels; 28 in the paper.
        channels: 1 for gray, 3 for RGB.
        latent_dim: Dimensions of z, standard normal as in the published code.
        width: Units of each hidden layer.
        num_classes: More than 0: class-conditional, one-hot labels joined to z (Mirza, 2014).
    """

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        latent_dim: int = 100,
        width: int = 1200,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"image_size": image_size, "channels": channels}
        check_at_least(1, **sizes, latent_dim=latent_dim, width=width)
        check_at_least(0, num_classes=num_classes)
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.shape = (channels, image_size, image_size)
        self.hidden = nn.Sequential(
            _uniform(nn.Linear(latent_dim + num_classes, width), 0.05),
            nn.ReLU(),
            _uniform(nn.Linear(width, width), 0.05),
            nn.ReLU(),
        )
        self.output = _uniform(nn.Linear(width, channels * image_size**2), 0.05)

    def initialise_from_data(self, images: Tensor) -> None:
        """Output bias = logit of the mean pixel of uint8 images (n, c, h, w), as published."""
        mean = images.double().mean(0).flatten().div(255).clamp(1e-3, 1 - 1e-3)
        self.output.bias.data.copy_(torch.logit(mean))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.num_classes:
            assert labels is not None  # of a class-conditional network
            z = torch.cat([z, F.one_hot(labels, self.num_classes).to(z.dtype)], dim=1)
        pixels = torch.sigmoid(self.output(self.hidden(z)))  # [0, 1] in the paper
        return pixels.view(-1, *self.shape) * 2 - 1


class MaxoutDiscriminator(nn.Module):
    """Images (b, channels, h, w) in [-1, 1] -> two maxout layers with dropout -> logits (b,).

    Args:
        image_size: Height and width in pixels; 28 in the paper.
        channels: 1 for gray, 3 for RGB.
        units: Maxout units of each hidden layer.
        pieces: Linear pieces of each unit.
        num_classes: More than 0: class-conditional, one-hot labels joined to the pixels.
    """

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        units: int = 240,
        pieces: int = 5,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"image_size": image_size, "channels": channels}
        check_at_least(1, **sizes, units=units, pieces=pieces)
        check_at_least(0, num_classes=num_classes)
        self.num_classes = num_classes
        d_in = channels * image_size**2 + num_classes
        self.layers = nn.Sequential(
            nn.Dropout(0.2),  # keeps .8 of the input, .5 of the hidden units
            Maxout(d_in, units, pieces, init_range=0.005),
            nn.Dropout(0.5),
            Maxout(units, units, pieces, init_range=0.005),
            nn.Dropout(0.5),
            _uniform(nn.Linear(units, 1), 0.005),
        )

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x = images.flatten(1) * 0.5 + 0.5
        if self.num_classes:
            assert labels is not None  # of a class-conditional network
            x = torch.cat([x, F.one_hot(labels, self.num_classes).to(x.dtype)], dim=1)
        return self.layers(x).flatten()
