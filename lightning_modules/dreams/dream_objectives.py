"""Objectives of a dream: activations of layers, of channels, of one unit, or of a guide."""

from typing import Literal

import torch
from torch import Tensor

from novum.core.errors import InputError
from novum.lightning_modules.networks.backbones import Backbone


class Objective:
    """A number for an image, and by its gradient a direction.

    Args are DeepDream's. After `look_at` the objective is the guided one of Google's notebook:
    each place of a layer is drawn to the place of the guide that it matches best already.
    """

    def __init__(
        self,
        backbone: Backbone,
        layers: list[str],
        kind: Literal["mean", "l2"] = "mean",
        channels: list[int] | None = None,
        unit: tuple[int, int] | None = None,
    ) -> None:
        if not layers:
            raise InputError("layers is empty: name at least one layer to dream of")
        self.layers, self.kind, self.channels, self.unit = list(layers), kind, channels, unit
        self.guide: dict[str, Tensor] | None = None
        side = backbone.input_size
        probe = torch.zeros(1, 3, side, side, device=backbone.mean.device)
        with torch.inference_mode():
            for layer, x in backbone.activations(probe, self.layers).items():
                self._check(layer, x)

    def _check(self, layer: str, x: Tensor) -> None:
        if x.ndim != 4:
            raise InputError(
                f"layer '{layer}' has no spatial positions, only {x.shape[-1]} numbers: dream of"
                " an earlier one"
            )
        beyond = [c for c in self.channels or [] if not 0 <= c < x.shape[1]]
        if beyond:
            raise InputError(f"layer '{layer}' has channels 0 to {x.shape[1] - 1}, not {beyond[0]}")

    def look_at(self, backbone: Backbone, image: Tensor) -> None:
        """Take what the layers see in an image (1, 3, h, w) for a guide."""
        with torch.no_grad():
            found = backbone.activations(image, self.layers)
        self.guide = {layer: self._chosen(x).flatten(2) for layer, x in found.items()}

    def __call__(self, backbone: Backbone, image: Tensor) -> Tensor:
        """Image (1, 3, h, w) in [0, 1] -> the sum over the layers, a scalar."""
        found = backbone.activations(image, self.layers)
        return torch.stack([self._value(k, self._chosen(x)) for k, x in found.items()]).sum()

    def _value(self, layer: str, x: Tensor) -> Tensor:
        if self.guide is not None:
            match = self.guide[layer].mT @ x.flatten(2)  # (1, places of the guide, places)
            return match.amax(1).mean() / x.shape[1]
        return x.square().mean() if self.kind == "l2" else x.mean()

    def _chosen(self, x: Tensor) -> Tensor:
        if self.channels is not None:
            x = x[:, self.channels]
        if self.unit is None:
            return x
        row, column = self.unit
        if row >= x.shape[2] or column >= x.shape[3]:
            raise InputError(
                f"unit is {row}, {column}, but the layer has {x.shape[2]} x {x.shape[3]} places"
                " for this image"
            )
        return x[:, :, row : row + 1, column : column + 1]
