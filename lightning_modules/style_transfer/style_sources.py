"""Sources of a style transfer: targets of the style, and a first image."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from novum.lightning_modules.style_transfer.style_losses import (
    Region,
    Statistics,
    blend,
    statistics,
)
from novum.lightning_modules.style_transfer.style_scales import Size, resized

Init = Literal["content", "gray", "uniform", "normal", "style_mean"]
See = Callable[[Tensor], Mapping[str, Tensor]]  # images (b, 3, h, w) -> activations by layer


class StylePart(NamedTuple):
    """A region of the image, its share of the style's loss, and its target in each layer."""

    region: Region
    share: float
    target: dict[str, Statistics]


class StyleSources(NamedTuple):
    """Styles (1, 3, h, w) in [0, 1] and how they are shared out over images (b, 3, h, w)."""

    styles: list[Tensor]
    weights: list[float]  # shares of the styles
    masks: Tensor | None  # (k, 1, h, w): where each style goes; None: everywhere
    paired: bool  # each image has a style of its own
    scale: float  # size of the styles in multiples of the image's

    def parts(self, see: See, size: Size) -> list[StylePart]:
        """Targets for an image of that size: one for each mask, or one for all of it."""
        found = [self._seen_at(see, style, size) for style in self.styles]
        if self.masks is not None:
            regions = [Region(mask[None]) for mask in resized(self.masks, size).clamp(0, 1)]
            return list(map(StylePart, regions, self.weights, found))
        target = {}
        for layer in found[0]:
            of_styles = [each[layer] for each in found]
            if self.paired:
                target[layer] = Statistics(*map(torch.cat, zip(*of_styles, strict=True)))
            else:
                target[layer] = blend(of_styles, self.weights)
        return [StylePart(Region(self.styles[0].new_ones(1, 1, *size)), 1.0, target)]

    def _seen_at(self, see: See, style: Tensor, size: Size) -> dict[str, Statistics]:
        """Statistics of a style brought to the image's size, but never enlarged."""
        scale = max(size) * self.scale / max(style.shape[-2:])
        h, w = (max(1, round(side * min(scale, 1.0))) for side in style.shape[-2:])
        everywhere = Region(style.new_ones(1, 1, h, w))
        seen = see(resized(style, (h, w)))
        return {layer: statistics(x, everywhere.shares(x)) for layer, x in seen.items()}

    def start(self, init: Init, content: Tensor, generator: torch.Generator) -> Tensor:
        """Image that the first scale starts from, of the content's shape."""
        if init == "content":
            return content
        if init == "normal":  # the content's mean and spread of each colour, no shapes
            noise = torch.randn(content.shape, generator=generator).to(content)
            spread = content.std((2, 3), keepdim=True)
            return content.mean((2, 3), keepdim=True) + noise * spread
        noise = torch.rand(content.shape, generator=generator).to(content)
        if init == "uniform":
            return noise
        if init == "gray":
            return 0.5 + (noise - 0.5) / 255
        means = torch.cat([style.mean((2, 3), keepdim=True) for style in self.styles])
        if not self.paired:
            weights = means.new_tensor(self.weights)
            means = (weights[:, None, None, None] * means).sum(0, keepdim=True)
        return means + (noise - 0.5) / 255
