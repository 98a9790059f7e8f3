"""Time and class as one vector, for networks that see images through noise."""

import math
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from novum.core.precision import widened

LOWEST, HIGHEST = 0.5, 32.0  # frequencies of the time, radians: smooth, so that solvers go far


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zero_initialised(layer: Layer) -> Layer:
    """The layer with weights and bias of 0, so that it adds nothing at the start."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Conditioning(nn.Module):
    """Times (b,) of the order of 1 and labels (b,) -> vectors (b, width), after their nonlinearity.

    Args:
        width: Of the vectors.
        num_classes: 0 for none; the label `num_classes` is no class, as no labels are.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.width, self.num_classes = width, num_classes
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.embedding = nn.Embedding(num_classes + 1, width) if num_classes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=0.02)
        self.out = nn.SiLU()

    def forward(self, t: Tensor, labels: Tensor | None) -> Tensor:
        weight = cast(nn.Linear, self.layers[0]).weight
        h = self.layers(self._waves(widened(t)).to(weight.dtype))
        if self.embedding is not None:
            if labels is None:
                labels = torch.full(t.shape, self.num_classes, device=t.device)
            h = h + self.embedding(labels)
        return self.out(h)

    def _waves(self, t: Tensor) -> Tensor:
        """Cosines and sines (b, width) of the times, at frequencies of equal ratios."""
        half = torch.arange(self.width // 2, device=t.device, dtype=t.dtype)
        step = math.log(HIGHEST / LOWEST) / max(1, self.width // 2 - 1)
        angles = t[:, None] * LOWEST * torch.exp(half * step)
        return torch.cat([angles.cos(), angles.sin()], dim=1)
