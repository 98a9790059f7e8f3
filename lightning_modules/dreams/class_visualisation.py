"""Class visualisation: images that a network takes for a class, from noise (Olah et al., 2017)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from novum.core.devices import constant, to_device
from novum.core.errors import InputError
from novum.core.lightning_compat import wrapped_optimizer
from novum.core.seeds import derived_seed, random_generator
from novum.lightning_modules.networks.backbones import Backbone
from novum.lightning_modules.networks.fourier import FourierImage
from novum.lightning_modules.single_image_module import SingleImageModule
from novum.lightning_modules.step_memory import IMAGE, PROBE, kept_per_pixel, require_step_memory
from novum.lightning_modules.training_utils import save_plain_hyperparameters


class ClassVisualisation(SingleImageModule):
    """Lucid's recipe: Fourier coefficients of decorrelated colours, seen through random views.

    Args:
        backbone: The network.
        classes: Names (or numbers) of its classes.
        per_class: Images of each class, from noise of their own.
        layer: The layer whose channels are the classes' logits.
        size: Height and width of the images.
        steps: Of Adam.
        lr: Its learning rate, which falls to 0 along a cosine.
        decay: Power of the frequency in the spectrum (FourierImage): more is smoother.
        views: Random views of each image per step, whose mean logit is maximised.
        view_size: Height and width at which the network sees a view.
        scale: Least and greatest side of a view, in sides of the image.
        rotate: Views are rotated by at most this many degrees.
        contrast: Standard deviation of a view's log contrast; its colours shift by a third of it.
        noise: Standard deviation of noise on a view, which drowns what is finer than a shape.
        diversity: Weight of the mean cosine between Gram matrices of a class's images.
        diversity_layer: The layer of those Gram matrices.
        total_variation: Weight of the mean squared difference of neighbouring pixels.
        seed: Of the noise at the start and of the views.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: list[str],
        per_class: int = 4,
        layer: str = "classifier",
        size: int = 224,
        steps: int = 160,
        lr: float = 0.1,
        decay: float = 1.5,
        views: int = 2,
        view_size: int = 144,
        scale: tuple[float, float] = (0.5, 1.4),
        rotate: float = 25.0,
        contrast: float = 0.2,
        noise: float = 0.1,
        diversity: float = 1.0,
        diversity_layer: str = "blocks.4",
        total_variation: float = 200.0,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, seed)
        save_plain_hyperparameters(self)
        if min(per_class, size, steps, views) < 1:
            raise InputError("per_class, size, steps and views must each be at least 1")
        if not 0 < scale[0] <= scale[1]:
            raise InputError(f"scale is {scale}: least and greatest side of a view, above 0")
        self.class_rows = [backbone.class_index(c) for c in classes for _ in range(per_class)]
        self.per_class, self.layer, self.steps, self.lr = per_class, layer, steps, lr
        self.views, self.view_size, self.scale, self.rotate = views, view_size, scale, rotate
        self.contrast, self.noise, self.total_variation = contrast, noise, total_variation
        self.diversity, self.diversity_layer = diversity, diversity_layer
        n = len(self.class_rows)
        require_step_memory(  # the spectrum of an image takes as much as the image
            lambda side: IMAGE * n * side**2,
            size,
            f"{n} images of {size} px",
            "--model.size",
            torch.device("cpu"),
        )
        start = random_generator(derived_seed(seed, -1))
        self.parameterisation = FourierImage(n, size, size, decay, generator=start)

    @property
    def total_steps(self) -> int:
        return self.steps

    @property
    def titles(self) -> list[str]:
        names = [self.backbone.class_names[row].replace(" ", "_") for row in self.class_rows]
        return [f"{name}_{i % self.per_class}" for i, name in enumerate(names)]

    def images(self) -> Tensor:
        return self.parameterisation()

    def on_fit_start(self) -> None:
        """Fail before the first step if the views of all images do not fit."""
        layers = [self.layer] + [self.diversity_layer] * (self.diversity > 0)
        per_pixel = kept_per_pixel(
            lambda image: self.backbone.activations(image, layers),
            torch.zeros(1, 3, PROBE, PROBE, device=self.device),
        )
        n = self.views * len(self.class_rows)
        require_step_memory(
            lambda side: per_pixel * n * side**2,
            self.view_size,
            f"{n} views of {self.view_size} px",
            "--model.view_size",
            self.device,
        )

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        step = self.global_step
        for group in wrapped_optimizer(self).param_groups:
            warm, fall = min(1, (step + 1) / 8), 0.5 + 0.5 * math.cos(math.pi * step / self.steps)
            group["lr"] = self.lr * warm * fall
        images = self.images()
        generator = random_generator(derived_seed(self.seed, step))
        seen = self.look(images, generator)  # (views * n, 3, s, s)
        layers = [self.layer] + [self.diversity_layer] * (self.diversity > 0)
        found = self.backbone.activations(seen, layers)
        rows = constant(tuple(self.class_rows), images, torch.int64).repeat(self.views)
        logit = found[self.layer].gather(1, rows[:, None])[:, 0].view(self.views, -1).mean(0)
        loss = -logit.sum()  # each image its own: no step of one depends on the others
        if self.total_variation:
            loss = loss + self.total_variation * total_variation(images).sum()
        if self.diversity:
            alike = self._likeness(found[self.diversity_layer])
            loss = loss + self.diversity * alike
        self.log_losses(logit=logit.mean())
        return loss

    def look(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Random views (views * n, 3, s, s): turned, mirrored, moved, scaled, tinted."""
        n = self.views * len(images)

        def between(low: float, high: float) -> Tensor:
            return torch.rand(n, generator=generator) * (high - low) + low

        scale = between(math.log(self.scale[0]), math.log(self.scale[1])).exp()
        angle = between(-self.rotate, self.rotate) * math.pi / 180
        mirror = between(0, 1).sub(0.5).sign()
        room = (1 - scale).abs() + 0.06  # a view may reach a little over the border
        x, y = between(-1, 1) * room, between(-1, 1) * room
        cosine, sine = scale * angle.cos(), scale * angle.sin()
        rows = (cosine * mirror, -sine, x), (sine * mirror, cosine, y)
        matrix = to_device(torch.stack([torch.stack(row, 1) for row in rows], 1), images.device)
        grid = F.affine_grid(
            matrix, [n, 3, self.view_size, self.view_size], align_corners=False
        ).to(images.dtype)
        repeated = images.repeat(self.views, 1, 1, 1)
        seen = F.grid_sample(repeated, grid, padding_mode="reflection", align_corners=False)
        contrast = (self.contrast * torch.randn(n, 1, 1, 1, generator=generator)).exp()
        tint = self.contrast / 3 * torch.randn(n, 3, 1, 1, generator=generator)
        contrast, tint = (to_device(x, seen.device, seen.dtype) for x in (contrast, tint))
        noise = self.noise * _standard_normal(seen, generator)
        return (seen - 0.5) * contrast + 0.5 + (tint + noise)

    def _likeness(self, x: Tensor) -> Tensor:
        """Sum over classes of the mean cosine between its images' Gram matrices (Lucid)."""
        flat = x.flatten(2)  # (views * n, c, places)
        gram = F.normalize((flat @ flat.mT).flatten(1), dim=1)
        gram = gram.view(self.views, -1, self.per_class, gram.shape[1])
        cosines = gram @ gram.mT  # (views, classes, per_class, per_class)
        return (cosines.sum((2, 3)) - self.per_class).mean(0).sum() / max(1, self.per_class - 1)


def _standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Noise of a shape: by a CPU generator on the CPU, and on a device by the device itself."""
    if like.device.type != "cpu":
        seed = int(torch.randint(2**62, (), generator=generator))
        torch.manual_seed(seed)  # the device's generator; each step begins with a seed of its own
        return torch.randn_like(like)
    return torch.randn(like.shape, generator=generator).to(like)


def total_variation(images: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels of each image (n, c, h, w) -> (n,)."""
    down, across = images.diff(dim=2), images.diff(dim=3)
    return down.square().mean((1, 2, 3)) + across.square().mean((1, 2, 3))
