"""Losses of style transfer: small modules that hold their targets, and their sum.

All take a batch (b, ...) of independent images and return (b,).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novum.lightning_modules.style_transfer.wasserstein import Gaussian, Wasserstein


class Statistics(NamedTuple):
    """Mean (b, c) and covariance (b, c, c) of a layer's features over the places of an image."""

    mean: Tensor
    covariance: Tensor


class Region(nn.Module):
    """The part of an image that a style goes to: `mask` (b, 1, h, w) in [0, 1]."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self._shares: dict[tuple[int, int], Tensor] = {}

    def shares(self, features: Tensor) -> Tensor:
        """Share of each place of features (b, c, h, w) in the region: (b, h w), of sum 1."""
        size = (features.shape[-2], features.shape[-1])
        if size not in self._shares:
            x = F.adaptive_avg_pool2d(self.mask, size).flatten(1).clamp_min(1e-6)
            self._shares[size] = x / x.sum(1, keepdim=True)
        return self._shares[size]


def places(features: Tensor) -> Tensor:
    """(b, c, h, w) -> (b, h w, c): no copy where the memory is channels-last."""
    return features.flatten(2).mT


def statistics(features: Tensor, shares: Tensor) -> Statistics:
    """Statistics of features (b, c, h, w) with the share of each place (b, h w)."""
    x = places(features)
    mean = (shares[:, None] @ x).squeeze(1)
    root = (x - mean[:, None]) * shares.sqrt()[:, :, None]
    return Statistics(mean, root.mT @ root)


def blend(parts: Sequence[Statistics], weights: Sequence[float]) -> Statistics:
    """The weighted mean of several styles' statistics."""
    means, covariances = zip(*parts, strict=True)
    return Statistics(_weighted(weights, means), _weighted(weights, covariances))


def _weighted(weights: Sequence[float], parts: Sequence[Tensor]) -> Tensor:
    total = torch.zeros_like(parts[0])
    for weight, part in zip(weights, parts, strict=True):
        total = total + weight * part
    return total


class WassersteinStyle(nn.Module):
    """Squared Wasserstein-2 distance of the features' Gaussians, per channel.

    |m - m'|^2 + tr (S + T - 2 (T^1/2 S T^1/2)^1/2), over the number of channels; with `relative`,
    over the target's mean square instead, which makes layers of any network comparable.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor
    scale: Tensor

    def __init__(self, target: Statistics, region: Region, relative: bool = True) -> None:
        super().__init__()
        gaussian = Gaussian.of(*target)
        self.region = region
        self.spread = gaussian.spread
        for name in ("mean", "values", "vectors"):
            self.register_buffer(name, getattr(gaussian, name))
        total = gaussian.mean.square().sum(1) + gaussian.values.sum(1)
        scale = total if relative else torch.full_like(total, gaussian.mean.shape[1])
        self.register_buffer("scale", scale.to(gaussian.mean))

    def forward(self, features: Tensor) -> Tensor:
        shares = self.region.shares(features)
        target = (self.mean, self.values, self.vectors, self.spread)
        return Wasserstein.apply(places(features), shares, *target) / self.scale


class GramStyle(nn.Module):
    """Squared difference of Gram matrices, features^T features over places (Gatys et al., 2016).

    The mean over a matrix's entries, 4 times the paper's E_l (equation 4); with `relative`, over
    the target's sum of squares instead.
    """

    gram: Tensor
    scale: Tensor

    def __init__(self, target: Statistics, region: Region, relative: bool = True) -> None:
        super().__init__()
        mean, covariance = target
        gram = covariance + mean[:, :, None] * mean[:, None]
        self.region = region
        self.register_buffer("gram", gram)
        entries = torch.full_like(mean[:, 0], gram[0].numel())
        self.register_buffer("scale", gram.square().sum((1, 2)) if relative else entries)

    def forward(self, features: Tensor) -> Tensor:
        x = places(features) * self.region.shares(features).sqrt()[:, :, None]
        return (x.mT @ x - self.gram).square().sum((1, 2)) / self.scale


class Content(nn.Module):
    """Mean squared difference of features; with `relative`, over the target's mean square.

    The first is 2 / (channels * places) times equation 1 of Gatys et al. (2016), half a sum.
    """

    target: Tensor
    scale: Tensor

    def __init__(self, target: Tensor, relative: bool = True) -> None:
        super().__init__()
        self.register_buffer("target", target)
        scale = target.square().mean((1, 2, 3))
        self.register_buffer("scale", scale if relative else torch.ones_like(scale))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.target).square().mean((1, 2, 3)) / self.scale


class TotalVariation(nn.Module):
    """Squared differences of neighbouring pixels, diagonal ones too, each by its distance.

    A quadratic form of nine points, of images (b, 3, h, w) in [0, 1].
    """

    def forward(self, images: Tensor) -> Tensor:
        x = F.pad(images, (1, 1, 1, 1), mode="replicate")
        centre = x[..., 1:-1, 1:-1]
        right = (x[..., 1:-1, 2:] - centre).square()
        below = (x[..., 2:, 1:-1] - centre).square()
        falling = (x[..., 1:, 1:] - x[..., :-1, :-1]).square()
        rising = (x[..., 1:, :-1] - x[..., :-1, 1:]).square()
        dims = (1, 2, 3)
        straight = right.mean(dims) + below.mean(dims)
        return 2 / 3 * straight + (falling.mean(dims) + rising.mean(dims)) / 6


class Term(nn.Module):
    """A loss of one layer, with its weight."""

    def __init__(self, loss: nn.Module, layer: str, weight: float) -> None:
        super().__init__()
        self.loss, self.layer, self.weight = loss, layer, weight

    def forward(self, activations: Mapping[str, Tensor]) -> Tensor:
        return self.weight * self.loss(activations[self.layer])


class Objective(nn.ModuleDict):
    """Named terms; each is (b,), and their sum is what is minimised."""

    def forward(self, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: term(activations) for name, term in self.items()}
