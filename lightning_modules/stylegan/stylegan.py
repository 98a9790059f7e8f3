"""StyleGAN (Karras et al., 2019 and 2020), with the training recipe of StyleGAN2-ADA."""

import math
from collections.abc import Iterable
from copy import deepcopy
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from novum.core.errors import InputError, check_at_least
from novum.core.lightning_compat import raw_optimizer
from novum.core.pixels import signed_to_uint8
from novum.core.precision import widened
from novum.lightning_modules.losses import (
    logistic_discriminator_loss,
    nonsaturating_generator_loss,
    r1_penalty,
)
from novum.lightning_modules.networks.stylegan_discriminator import StyleGANDiscriminator
from novum.lightning_modules.networks.stylegan_generator import StyleGANGenerator
from novum.lightning_modules.stylegan.recovery import RollBack
from novum.lightning_modules.training_utils import mean_of_ranks, save_plain_hyperparameters
from novum.lightning_modules.weight_transfer import transfer_weights

Auto = Literal["auto"]


class StyleGAN(RollBack):
    """A style-based generator and its discriminator.

    One training step updates both networks on the same fakes, after updates of their own for the
    two lazy penalties. Randomness is a function of (seed, step, rank), so a run resumed from a
    checkpoint continues bit for bit. When a loss is not finite the run goes back to the last
    checkpoint, three times at most.

    Args:
        generator: A StyleGANGenerator.
        discriminator: A StyleGANDiscriminator.
        lr: Learning rate of Adam; auto is 0.0025, and 0.002 from 1,024 px on.
        betas: Betas of Adam; both they and lr are corrected for the lazy updates.
        r1_gamma: Weight of the R1 penalty (0: off); auto is 0.0002 * pixels / batch size.
        r1_interval: Steps between R1 updates, each of which counts that many times.
        path_length_weight: Of path-length regularisation (0: off).
        path_length_interval: Steps between its updates, each of which counts that many times.
        path_length_shrink: Its batch is this many times smaller.
        style_mixing: Share of batches whose images take a second w from a random layer on.
        augment: What the discriminator sees images through: DiffAugment or AdaptiveAugment.
        ema_kimg: Half-life of the averaged generator, thousands of images; auto is batch * 10/32.
        ema_ramp: The half-life is at most this share of the images seen (null: no ramp).
        freeze_discriminator: Resolutions, highest first, whose layers stay as transferred.
        transfer: A checkpoint whose weights to begin with, where shapes are the same.
        truncation_psi: Pull of w towards its mean, or that of its class, when sampling (1: none,
            0: the mean image).
        truncation_cutoff: Layers that are pulled, coarsest first (null: all).
        accumulate: Equal parts the batch is computed in, to save memory.
        clip_gradient_norm: Upper limit of each network's gradient norm (null: none).
        compile_networks: Run the networks through torch.compile, but for the penalties.
        predict_samples: Images that `predict` makes.
        seed: Of all random numbers drawn in training.
    """

    generator_loss = staticmethod(nonsaturating_generator_loss)
    discriminator_loss = staticmethod(logistic_discriminator_loss)
    discriminator_steps = 1

    generator: StyleGANGenerator
    discriminator: StyleGANDiscriminator
    ema: StyleGANGenerator
    ema_kimg: float | Auto

    path_length_mean: Tensor

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        lr: float | Auto = "auto",
        betas: tuple[float, float] = (0.0, 0.99),
        r1_gamma: float | Auto = "auto",
        r1_interval: int = 16,
        path_length_weight: float = 2.0,
        path_length_interval: int = 4,
        path_length_shrink: int = 2,
        style_mixing: float = 0.9,
        augment: nn.Module | None = None,
        ema_kimg: float | Auto = "auto",
        ema_ramp: float | None = 0.05,
        freeze_discriminator: int = 0,
        transfer: str | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        accumulate: int = 1,
        clip_gradient_norm: float | None = None,
        compile_networks: bool = False,
        predict_samples: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        save_plain_hyperparameters(self)
        check_at_least(1, r1_interval=r1_interval, path_length_interval=path_length_interval)
        check_at_least(1, path_length_shrink=path_length_shrink, accumulate=accumulate)
        check_at_least(
            0, path_length_weight=path_length_weight, freeze_discriminator=freeze_discriminator
        )
        given = {"lr": lr, "r1_gamma": r1_gamma, "ema_kimg": ema_kimg}
        check_at_least(0, **{k: v for k, v in given.items() if not isinstance(v, str)})
        if not 0 <= style_mixing <= 1:
            raise InputError(f"style_mixing is {style_mixing}: it is a share, from 0 to 1")
        # narrower than in the base class, which knows no styles
        style_generator = cast(StyleGANGenerator, generator)
        style_discriminator = cast(StyleGANDiscriminator, discriminator)
        self.generator = style_generator  # pyright: ignore[reportIncompatibleVariableOverride]
        self.discriminator = style_discriminator  # pyright: ignore[reportIncompatibleVariableOverride]
        self.augment = augment if augment is not None else nn.Identity()
        averaged = deepcopy(style_generator).requires_grad_(False)  # what sample() uses
        self.ema = averaged  # pyright: ignore[reportIncompatibleVariableOverride]
        self.lr, self.betas = lr, betas
        self.r1_gamma, self.r1_interval = r1_gamma, r1_interval
        self.path_length_weight, self.path_length_interval = (
            path_length_weight,
            path_length_interval,
        )
        self.path_length_shrink = path_length_shrink
        self.register_buffer("path_length_mean", torch.zeros(()))
        self.style_mixing = style_mixing
        self.ema_kimg = ema_kimg  # pyright: ignore[reportIncompatibleVariableOverride]
        self.ema_ramp, self.accumulate = ema_ramp, accumulate
        self.transfer = transfer
        self.truncation_psi, self.truncation_cutoff = truncation_psi, truncation_cutoff
        self.clip_gradient_norm, self.compile_networks = clip_gradient_norm, compile_networks
        self.predict_samples, self.seed = predict_samples, seed
        self._means_of_w: list[Tensor] = []  # of batches since the generator's last update
        self.discriminator.freeze(freeze_discriminator)

    # -- training ------------------------------------------------------------------------------

    def configure_optimizers(self) -> tuple[Optimizer, Optimizer]:
        lr = self.lr
        if isinstance(lr, str):
            lr = 0.0025 if max(self.generator.image_size) < 1024 else 0.002
        lazy_g = self.path_length_interval if self.path_length_weight else None
        lazy_d = self.r1_interval if self.r1_gamma else None
        return (
            lazy_adam(self.generator, lr, self.betas, lazy_g),
            lazy_adam(self.discriminator, lr, self.betas, lazy_d),
        )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.transfer is not None and self.images_seen == 0:
            transfer_weights(self, self.transfer)

    def averages(self) -> Iterable[Tensor]:
        return (*super().averages(), self.generator.mean_w, self.path_length_mean)

    def networks_to_compile(self) -> tuple[nn.Module, ...]:
        return self.generator.synthesis, self.discriminator

    def _regularize(self, parts: list[tuple[Tensor, Tensor | None]], step: int) -> None:
        if self.r1_gamma and step % self.r1_interval == 0:
            self._update_r1(parts, step)
        if self.path_length_weight and step % self.path_length_interval == 0:
            self._update_path_length(parts, step)

    def _update_r1(self, parts: list[tuple[Tensor, Tensor | None]], step: int) -> None:
        optimizer = raw_optimizer(self, 1)
        optimizer.zero_grad()
        images = sum(len(real) for real, _ in parts)
        gamma = self.r1_gamma
        if isinstance(gamma, str):
            pixels = math.prod(self.generator.image_size)
            gamma = 0.0002 * pixels / (images * self.trainer.world_size)
        for real, labels in parts:

            def logits(x: Tensor, labels: Tensor | None = labels) -> Tensor:
                # .forward: what torch.compile makes cannot be differentiated twice
                return self.discriminator.forward(self.augment(x), labels)

            penalty = r1_penalty(logits, real)
            self.losses.add(step, r1=penalty)
            share = len(real) / images
            self.manual_backward(penalty * (gamma * self.r1_interval * share))
        self._average(self.discriminator)
        self._step_raw(optimizer)

    def _update_path_length(self, parts: list[tuple[Tensor, Tensor | None]], step: int) -> None:
        optimizer = raw_optimizer(self, 0)
        optimizer.zero_grad()
        sizes = [max(1, len(real) // self.path_length_shrink) for real, _ in parts]
        for n, (_, labels) in zip(sizes, parts, strict=True):
            lengths = self._path_lengths(n, None if labels is None else labels[:n])
            mean = lengths.detach().mean()
            self.path_length_mean.lerp_(mean_of_ranks(mean).to(self.path_length_mean.dtype), 0.01)
            penalty = (lengths - self.path_length_mean).square().mean()
            self.losses.add(step, path_length=mean)
            weight = self.path_length_weight * self.path_length_interval * n / sum(sizes)
            self.manual_backward(penalty * weight)
        self._average(self.generator)
        self._step_raw(optimizer)

    def _path_lengths(self, n: int, labels: Tensor | None) -> Tensor:
        """|J_w^T y| of random images y (Karras et al., 2020, eq. 4), per image, (n,)."""
        with torch.autocast(self.device.type, enabled=False):
            ws = self._styles(n, labels)
            images = self.generator.synthesis.forward(ws)  # .forward: differentiated twice
            y = torch.randn_like(images) / math.sqrt(math.prod(images.shape[2:]))
            (gradient,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
            return widened(gradient).square().sum(2).mean(1).sqrt()

    def _styles(self, n: int, labels: Tensor | None) -> Tensor:
        ws = self.generator.map(self._latents(n), labels)
        self._means_of_w.append(ws[:, 0].detach().mean(0))
        if torch.rand(()) < self.style_mixing:
            start = int(torch.randint(1, self.generator.num_styles, ()))
            others = self.generator.map(self._latents(n), labels)
            ws = torch.cat([ws[:, :start], others[:, start:]], dim=1)
        return ws

    def _average(self, network: nn.Module, *others: Tensor) -> None:
        if network is not self.generator:
            return super()._average(network, *others)
        super()._average(network, *self._means_of_w, *others)
        for mean in self._means_of_w:
            self.generator.track_mean(mean)
        self._means_of_w.clear()

    def _fakes(self, n: int, labels: Tensor | None) -> Tensor:
        return self.generator.synthesis(self._styles(n, labels))

    def _half_life(self, batch_size: int) -> float:
        kimg = batch_size * 10 / 32 if isinstance(self.ema_kimg, str) else self.ema_kimg
        return kimg if self.ema_ramp is None else min(kimg, self.images_seen / 1000 * self.ema_ramp)

    # -- sampling ------------------------------------------------------------------------------

    @torch.inference_mode()
    def map_latents(self, latents: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Latents (n, latent_dim) -> styles (n, num_styles, w_dim), not truncated."""
        labels = self._labels_of(len(latents), labels)
        return self._in_chunks(self.ema.map, latents, labels)

    @torch.inference_mode()
    def synthesize(
        self,
        ws: Tensor,
        *,
        psi: float | None = None,
        cutoff: int | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Styles (n, num_styles, w_dim) -> uint8 images, truncated as given or as configured.

        Towards the mean of each one's class if there are labels, else towards the mean of all.
        """
        if psi is None:
            psi, cutoff = self.truncation_psi, self.truncation_cutoff
        self.ema.eval()  # its noise is one fixed picture
        means = None
        if labels is not None and self.num_classes and psi != 1:
            classes, rows = labels.to(self.device).unique(return_inverse=True)
            means = self.ema.class_means(classes)[rows]

        def images(w: Tensor, mean: Tensor | None) -> Tensor:
            return signed_to_uint8(self.ema.synthesis(self.ema.truncate(w, psi, cutoff, mean)))

        return self._in_chunks(images, ws, means)

    def image_network(self) -> nn.Module:
        return TruncatedImages(self.ema, self.truncation_psi, self.truncation_cutoff)

    @torch.inference_mode()
    def render(self, ws: Tensor) -> Tensor:
        """Styles (b, num_styles, w_dim) -> float images about in [-1, 1], neither rounded nor
        truncated, in one batch."""
        self.ema.eval()
        return self.ema.synthesis(ws.to(self.device, self.ema_dtype))

    def decode(self, latents: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Latents (n, latent_dim) -> uint8 images (n, c, h, w), truncated as configured.

        Without labels a class-conditional generator goes through the classes in turn.
        """
        labels = self._labels_of(len(latents), labels)
        return self.synthesize(self.map_latents(latents, labels=labels), labels=labels)


class TruncatedImages(nn.Module):
    """Latents (n, latent_dim)[, labels (n,)] -> images, truncated towards the mean of their class.

    Args:
        generator: In evaluation mode.
        psi: Pull of w towards the mean (1: none).
        cutoff: Layers that are pulled (null: all).
    """

    means: Tensor | None  # of w, of each class

    def __init__(self, generator: StyleGANGenerator, psi: float, cutoff: int | None) -> None:
        super().__init__()
        self.generator, self.psi, self.cutoff = generator, psi, cutoff
        means = generator.class_means() if generator.num_classes and psi != 1 else None
        self.register_buffer("means", means)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        means = None if self.means is None else self.means[labels]
        ws = self.generator.truncate(self.generator.map(z, labels), self.psi, self.cutoff, means)
        return self.generator.synthesis(ws)


def lazy_adam(
    network: nn.Module, lr: float, betas: tuple[float, float], interval: int | None
) -> Optimizer:
    """Adam for `interval` steps plus one of a lazy penalty (Karras et al., 2020, appendix B)."""
    share = interval / (interval + 1) if interval else 1.0
    return torch.optim.Adam(
        [p for p in network.parameters() if p.requires_grad],
        lr=lr * share,
        betas=(betas[0] ** share, betas[1] ** share),
        foreach=True,
    )
