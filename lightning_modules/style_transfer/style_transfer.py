"""Neural style transfer (Gatys et al., 2016): one image with the shapes of another in the textures
of a third."""

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from novum.core.errors import InputError
from novum.core.lightning_compat import datamodule, wrapped_optimizer
from novum.core.seeds import derived_seed, random_generator
from novum.lightning_modules.networks.backbones import Backbone
from novum.lightning_modules.single_image_module import SingleImageModule
from novum.lightning_modules.step_memory import IMAGE, PROBE, kept_per_pixel, require_step_memory
from novum.lightning_modules.style_transfer.style_losses import (
    Content,
    GramStyle,
    Objective,
    Term,
    TotalVariation,
    WassersteinStyle,
)
from novum.lightning_modules.style_transfer.style_scales import (
    Size,
    enlarge_state,
    resized,
    with_colours_of,
)
from novum.lightning_modules.style_transfer.style_sources import Init, StyleSources
from novum.lightning_modules.training_utils import save_plain_hyperparameters

STATISTICS = {"wasserstein": WassersteinStyle, "gram": GramStyle}


class StyleTransfer(SingleImageModule):
    """Optimises pixels until a network sees the content in deep layers, the style in all of them.

    From coarse to fine, each scale starts from the averaged image and the enlarged moments of the
    optimizer of the one before (Crowson's style-transfer-pytorch).

    Args:
        backbone: The network.
        content_layers: Layers whose activations are kept.
        style_layers: Layers whose statistics are taken from the style; `image` is its colours.
        content_weight: Of all content layers together.
        style_weights: One per style layer, of any sum; null: equal. Together they weigh 1.
        tv_weight: Of the squared differences of neighbouring pixels.
        statistic: Mean and covariance (wasserstein), or the Gram matrix (gram).
        relative: Each layer's losses in shares of what its target holds, so that weights mean the
            same for any network; else means over channels or entries, as style_losses says.
        optimizer: Of the pixels, by class_path; null: Adam, lr 0.02. L-BFGS is not clamped to
            [0, 1], which would break its curvature estimate.
        min_scale: Longer side of the first scale in px.
        scale_factor: Ratio of the sizes of two scales.
        steps: Per scale.
        initial_steps: Of the first scale.
        style_scale: Size of the styles in multiples of the content's.
        average_decay: Of the averaged image, which is the result.
        init: What the first scale starts from.
        original_colours: Keep the content's hues; style gives the brightness alone.
        seed: Of a random start.
    """

    def __init__(
        self,
        backbone: Backbone,
        content_layers: list[str],
        style_layers: list[str],
        content_weight: float = 0.05,
        style_weights: list[float] | None = None,
        tv_weight: float = 0.5,
        statistic: Literal["wasserstein", "gram"] = "wasserstein",
        relative: bool = True,
        optimizer: Callable[[Iterable], Optimizer] | None = None,
        min_scale: int = 128,
        scale_factor: float = 2**0.5,
        steps: int = 150,
        initial_steps: int = 300,
        style_scale: float = 1.0,
        average_decay: float = 0.99,
        init: Init = "content",
        original_colours: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, seed)
        save_plain_hyperparameters(self)
        weights = style_weights if style_weights is not None else [1.0] * len(style_layers)
        _check(style_layers, weights, min_scale, scale_factor, steps, initial_steps)
        self.automatic_optimization = False
        self.content_layers, self.style_layers = list(content_layers), list(style_layers)
        self.content_weight, self.tv_weight = content_weight, tv_weight
        self.style_weights = [w / sum(weights) for w in weights]
        self.statistic, self.relative = STATISTICS[statistic], relative
        self.optimizer = optimizer
        self.min_scale, self.scale_factor = min_scale, scale_factor
        self.steps, self.initial_steps, self.style_scale = steps, initial_steps, style_scale
        self.average_decay = average_decay
        self.init: Init = init
        self.original_colours = original_colours
        self.image = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.register_buffer("average", torch.zeros(1, 3, 1, 1))

    # -- the schedule --------------------------------------------------------------------------

    def scales(self, size: Size) -> list[Size]:
        """The sizes that an image of the size (h, w) goes through, the last its own."""
        longer, scales = max(size), [size]
        while round(longer / self.scale_factor ** len(scales)) >= self.min_scale:
            shrink = self.scale_factor ** -len(scales)
            scales.append((max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))))
        return scales[::-1]

    @property
    def total_steps(self) -> int:
        size = datamodule(self.trainer).contents.shape[-2:]
        return self.initial_steps + self.steps * (len(self.scales(size)) - 1)

    @property
    def titles(self) -> list[str]:
        return datamodule(self.trainer).titles

    def stage(self) -> str:
        begun = [start for start in self.starts if start <= self.global_step]
        h, w = self.starts[begun[-1]]
        return f"scale {len(begun)} of {len(self.starts)}, {w} x {h} px"

    def on_fit_start(self) -> None:
        data = datamodule(self.trainer)
        self._require_memory(data.contents)
        self.contents = data.contents.to(self.device) / 255
        self.sources = StyleSources(
            [style[None].to(self.device) / 255 for style in data.styles],
            data.style_weights,
            None if data.masks is None else data.masks.to(self.device),
            paired=len(data.contents) > 1 and len(data.styles) > 1,
            scale=self.style_scale,
        )
        sizes = self.scales(self.contents.shape[-2:])
        lengths = [self.initial_steps] + [self.steps] * (len(sizes) - 1)
        starts = accumulate(lengths[:-1], initial=0)
        self.starts = dict(zip(starts, sizes, strict=True))

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.global_step not in self.starts:  # resumed within a scale
            self._set_targets((self.image.shape[-2], self.image.shape[-1]))

    def configure_optimizers(self) -> Optimizer:
        if self.optimizer is not None:
            return self.optimizer([self.image])
        return torch.optim.Adam([self.image], lr=0.02, betas=(0.9, 0.99))

    # -- one step ------------------------------------------------------------------------------

    def training_step(self, batch: int, batch_idx: int) -> None:
        optimizer = wrapped_optimizer(self)
        if self.global_step in self.starts:
            self._enter(self.starts[self.global_step], optimizer.optimizer)
        terms: dict[str, Tensor] = {}

        def closure() -> Tensor:
            nonlocal terms
            optimizer.zero_grad()
            terms = self.terms(self.image)
            loss = torch.stack(list(terms.values())).sum()
            self.manual_backward(loss)
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            if not isinstance(optimizer.optimizer, LBFGS):
                self.image.clamp_(0, 1)
            self.average.lerp_(self.image, self._average_share())
        self.log_losses(**{name: term.mean() for name, term in terms.items()})

    def _average_share(self) -> float:
        """Share of the newest image in the average: Adam's bias correction, as a running mean."""
        done = self.global_step - max(s for s in self.starts if s < self.global_step)
        return (1 - self.average_decay) / (1 - self.average_decay**done)

    def terms(self, images: Tensor) -> dict[str, Tensor]:
        """Each weighted loss (b,) of images (b, 3, h, w) in [0, 1]."""
        return self.objective(self.seen(images, self.content_layers + self.style_layers))

    def seen(self, images: Tensor, layers: list[str]) -> dict[str, Tensor]:
        """Activations of the layers, and the images themselves as layer `image`."""
        deep = [layer for layer in layers if layer != "image"]
        return {**self.backbone.activations(images, deep), "image": images}

    # -- a scale -------------------------------------------------------------------------------

    @torch.no_grad()
    def _enter(self, size: Size, optimizer: Optimizer) -> None:
        """The image, the optimizer's state and the targets at the size."""
        if self.global_step == 0:
            generator = random_generator(derived_seed(self.seed))
            start = self.sources.start(self.init, resized(self.contents, size), generator)
        else:
            start = resized(self.average, size)
        self.image.data = start.clamp(0, 1).contiguous()
        self.average = self.image.detach().clone()
        enlarge_state(optimizer, size)
        self._set_targets(size)

    @torch.no_grad()
    def _set_targets(self, size: Size) -> None:
        content = self.seen(resized(self.contents, size), self.content_layers)
        share = self.content_weight / max(len(self.content_layers), 1)
        terms = {
            _name("content", layer): Term(Content(content[layer], self.relative), layer, share)
            for layer in self.content_layers
        }
        parts = self.sources.parts(lambda x: self.seen(x, self.style_layers), size)
        for layer, weight in zip(self.style_layers, self.style_weights, strict=True):
            for i, (region, share, found) in enumerate(parts):
                name = _name("style", layer) + (f"_{i}" if len(parts) > 1 else "")
                loss = self.statistic(found[layer], region, self.relative)
                terms[name] = Term(loss, layer, weight * share)
        terms["tv"] = Term(TotalVariation(), "image", self.tv_weight)
        self.objective = Objective(terms)

    def _require_memory(self, contents: Tensor) -> None:
        """Fail before the first step if the last scale does not fit, by the memory of a small one.

        What a step keeps for its gradient grows with the pixels; the image, its average and the
        optimizer's state are of its size.
        """
        layers = self.content_layers + self.style_layers
        small = contents[:1, :, :PROBE, :PROBE].to(self.device) / 255
        per_pixel = kept_per_pixel(lambda image: self.seen(image, layers), small)
        n, _, h, w = contents.shape
        require_step_memory(
            lambda size: (per_pixel + IMAGE) * n * h * w * (size / max(h, w)) ** 2,
            max(h, w),
            f"a style transfer of {n} x {w} x {h} px",
            "--data.size",
            self.device,
        )

    # -- what callbacks see ----------------------------------------------------------------------

    def images(self) -> Tensor:
        """The averaged images at the last scale's size, whichever they have reached."""
        images = self.average.clamp(0, 1)
        if not hasattr(self, "contents"):  # from a checkpoint
            return images
        images = resized(images, self.contents.shape[-2:]).clamp(0, 1)
        return with_colours_of(self.contents, images) if self.original_colours else images

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        self.average = torch.empty_like(state_dict["average"], device=self.device)
        own = {k: v for k, v in state_dict.items() if not k.startswith("objective.")}
        return super().load_state_dict(own, strict, assign)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        state = checkpoint["state_dict"]  # targets are recomputed
        checkpoint["state_dict"] = {
            k: v for k, v in state.items() if not k.startswith("objective.")
        }


def _check(
    layers: list[str], weights: list[float], min_scale: int, factor: float, *steps: int
) -> None:
    if len(weights) != len(layers) or min(weights, default=0) < 0 or not sum(weights) > 0:
        raise InputError(
            f"style_weights are {weights} for {len(layers)} style_layers: give one for each, none"
            " below 0 and not all 0"
        )
    if not factor > 1:
        raise InputError(f"scale_factor is {factor}: it must be more than 1")
    if min(min_scale, *steps) < 1:
        raise InputError("min_scale, steps and initial_steps must be at least 1")


def _name(kind: str, layer: str) -> str:
    return f"{kind}_{layer}".replace(".", "_")  # a dot would part a module's name
