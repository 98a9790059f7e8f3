"""Generative adversarial networks (Goodfellow et al., 2014): any two networks, any losses."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, cast

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from novum.core.errors import InputError
from novum.core.lightning_compat import datamodule
from novum.lightning_modules.adversarial_training import AlternatingTraining
from novum.lightning_modules.losses import (
    logistic_discriminator_loss,
    nonsaturating_generator_loss,
    r1_penalty,
    wasserstein_gradient_penalty,
)
from novum.lightning_modules.networks.maxout import MaxoutGenerator
from novum.lightning_modules.training_utils import require_attributes, save_plain_hyperparameters


class GAN(AlternatingTraining):
    """A generator and a discriminator that learn against each other, in alternation.

    One training step is one discriminator update; every `discriminator_steps`-th is followed by a
    generator update on the same fakes. Randomness is a function of (seed, step, rank), and latents
    of (seed, step) and their row in the batch of all ranks, so a run
    resumed from a checkpoint continues bit for bit.

    Args:
        generator: (z[, labels]) -> images in [-1, 1]; has `latent_dim` and `num_classes`.
        discriminator: (images[, labels]) -> logits (b,).
        generator_loss: A function of the fakes' logits, from novum.lightning_modules.losses.
        discriminator_loss: A function of the reals' and the fakes' logits, likewise.
        lr: Learning rate of Adam for both networks, unless an optimizer is given.
        betas: Betas of Adam.
        generator_optimizer: Another optimizer for the generator, by class_path.
        discriminator_optimizer: Another optimizer for the discriminator, by class_path.
        discriminator_steps: Discriminator updates per generator update.
        r1_gamma: Weight of the R1 penalty on real images (0: off).
        r1_interval: Steps between R1 penalties; each then counts that many times.
        gradient_penalty: Weight of the Wasserstein gradient penalty (0: off).
        augment: What the discriminator sees images through, such as DiffAugment.
        ema_kimg: Half-life of the averaged generator, thousands of images.
        accumulate: Equal parts the batch is computed in, to save memory.
        clip_gradient_norm: Upper limit of each network's gradient norm (null: none).
        compile_networks: Run both networks through torch.compile.
        predict_samples: Images that `predict` makes.
        seed: Of all random numbers drawn in training.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        generator_loss: Callable[[Tensor], Tensor] = nonsaturating_generator_loss,
        discriminator_loss: Callable[[Tensor, Tensor], Tensor] = logistic_discriminator_loss,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        generator_optimizer: OptimizerCallable | None = None,
        discriminator_optimizer: OptimizerCallable | None = None,
        discriminator_steps: int = 1,
        r1_gamma: float = 0.0,
        r1_interval: int = 1,
        gradient_penalty: float = 0.0,
        augment: nn.Module | None = None,
        ema_kimg: float = 10.0,
        accumulate: int = 1,
        clip_gradient_norm: float | None = None,
        compile_networks: bool = False,
        predict_samples: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        save_plain_hyperparameters(self)
        call = "(z (b, latent_dim), labels) -> images (b, c, h, w) in [-1, 1]"
        require_attributes(generator, "generator", ("latent_dim", "num_classes"), call)
        self.generator, self.discriminator = generator, discriminator
        self.augment = augment if augment is not None else nn.Identity()
        self.ema = deepcopy(generator).requires_grad_(False)  # what sample() uses
        self.generator_loss, self.discriminator_loss = generator_loss, discriminator_loss
        self.lr, self.betas = lr, betas
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.discriminator_steps = discriminator_steps
        self.r1_gamma, self.r1_interval = r1_gamma, r1_interval
        self.gradient_penalty = gradient_penalty
        self.ema_kimg, self.accumulate = ema_kimg, accumulate
        self.clip_gradient_norm, self.compile_networks = clip_gradient_norm, compile_networks
        self.predict_samples, self.seed = predict_samples, seed

    # -- training ------------------------------------------------------------------------------

    def configure_optimizers(self) -> tuple[Optimizer, Optimizer]:
        def adam(parameters: Any) -> Optimizer:
            return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, foreach=True)

        return (
            (self.generator_optimizer or adam)(list(self.generator.parameters())),
            (self.discriminator_optimizer or adam)(list(self.discriminator.parameters())),
        )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.images_seen == 0 and hasattr(self.generator, "initialise_from_data"):
            find = getattr(datamodule(self.trainer), "train_reference", None)
            if find is None:
                raise InputError(
                    f"{type(self.generator).__name__} starts from training images: fit it with a"
                    " DataModule that has a train_reference, as novum's have"
                )
            reference = find()
            cast(MaxoutGenerator, self.generator).initialise_from_data(reference[:10_000])
            self.ema.load_state_dict(self.generator.state_dict())

    def _penalties(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, step: int
    ) -> Tensor | float:
        def logits(images: Tensor) -> Tensor:
            # .forward: what torch.compile makes cannot be differentiated twice
            return self.discriminator.forward(images, labels)

        total: Tensor | float = 0.0
        if self.r1_gamma and step % self.r1_interval == 0:
            r1 = r1_penalty(lambda x: logits(self.augment(x)), real)
            self.losses.add(step, r1=r1)
            total = total + self.r1_gamma * self.r1_interval * r1
        if self.gradient_penalty:
            penalty = wasserstein_gradient_penalty(logits, real, fake)
            self.losses.add(step, gradient_penalty=penalty)
            total = total + self.gradient_penalty * penalty
        return total
