"""Generative adversarial networks (Goodfellow et al., 2014): any two networks, any losses."""

import contextlib
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from novum.lightning_modules.losses import (
    logistic_discriminator_loss,
    nonsaturating_generator_loss,
    r1_penalty,
    wasserstein_gradient_penalty,
)
from novum.lightning_modules.sampling import LatentSampling, to_float
from novum.lightning_modules.training import (
    LossWindow,
    average_gradients,
    broadcast_buffers,
    derived_seed,
    ema_decay,
    log_losses,
    random_generator,
    require_same_model,
    save_plain_hyperparameters,
    update_ema,
)


class GAN(LatentSampling):
    """A generator and a discriminator that learn against each other, in alternation.

    One training step is one discriminator update; every `discriminator_steps`-th is followed by a
    generator update on the same fakes. Randomness is a function of (seed, step, rank), so a run
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
        self.automatic_optimization = False
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
        self.images_seen = 0
        self.losses = LossWindow()

    # -- training ------------------------------------------------------------------------------

    def configure_optimizers(self) -> tuple[Optimizer, Optimizer]:
        def adam(parameters: Any) -> Optimizer:
            return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, foreach=True)

        return (
            (self.generator_optimizer or adam)(list(self.generator.parameters())),
            (self.discriminator_optimizer or adam)(list(self.discriminator.parameters())),
        )

    def on_fit_start(self) -> None:
        if self.compile_networks:  # in place: names in checkpoints stay the same
            self.generator.compile()
            self.discriminator.compile()
        if self.images_seen == 0 and hasattr(self.generator, "initialise_from_data"):
            reference = self.trainer.datamodule.train_reference()
            self.generator.initialise_from_data(reference[:10_000])
            self.ema.load_state_dict(self.generator.state_dict())

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        torch.manual_seed(derived_seed(self.seed, self.global_step, self.global_rank))
        images = batch["image"]
        parts = list(zip(images.chunk(self.accumulate), self._label_parts(batch), strict=True))
        update_generator = (self.global_step + 1) % self.discriminator_steps == 0
        # one generator pass serves both updates, unless the batch is computed in parts
        share = update_generator and len(parts) == 1
        step = self.global_step  # the discriminator's update advances it
        with self._local_gradients():
            fake = self._update_discriminator(parts, share, step)
            if update_generator:
                self._update_generator(parts, fake, step)
        self.images_seen += len(images) * self.trainer.world_size
        if (step + 1) % self.trainer.log_every_n_steps == 0:
            log_losses(self, self.losses, self.images_seen)

    def _update_discriminator(
        self, parts: list[tuple[Tensor, Tensor | None]], share: bool, step: int
    ) -> Tensor:
        optimizer = self.optimizers()[1]  # Lightning's wrapper: global_step counts these updates
        optimizer.zero_grad()
        images = sum(len(real) for real, _ in parts)
        for real, labels in parts:
            with torch.set_grad_enabled(share):
                fake = self.generator(self._latents(len(real)), labels)
            loss = self.discriminator_loss(
                self._logits(real, labels), self._logits(fake.detach(), labels)
            )
            self.losses.add(step, discriminator=loss)
            loss = loss + self._penalties(real, fake, labels, step)
            self.manual_backward(loss * (len(real) / images))
        self._average(self.discriminator)
        optimizer.step()
        return fake

    def _update_generator(
        self, parts: list[tuple[Tensor, Tensor | None]], fake: Tensor, step: int
    ) -> None:
        optimizer = self.optimizers(use_pl_optimizer=False)[0]
        optimizer.zero_grad()
        images = sum(len(real) for real, _ in parts)
        self.discriminator.requires_grad_(False)  # saves its weight gradients
        for real, labels in parts:
            if len(parts) > 1:
                fake = self.generator(self._latents(len(real)), labels)
            loss = self.generator_loss(self._logits(fake, labels))
            self.losses.add(step, generator=loss)
            self.manual_backward(loss * (len(real) / images))
        self.discriminator.requires_grad_(True)
        self._average(self.generator)
        self._step_raw(optimizer)
        images_per_update = images * self.trainer.world_size * self.discriminator_steps
        update_ema(self.ema, self.generator, ema_decay(images_per_update, self.ema_kimg))

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

    def _logits(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.discriminator(self.augment(images), labels).float()

    def _latents(self, n: int) -> Tensor:
        return torch.randn(n, self.latent_dim, device=self.device)

    def _label_parts(self, batch: dict[str, Tensor]) -> list[Tensor | None]:
        if not self.num_classes:
            return [None] * len(batch["image"].chunk(self.accumulate))
        if "label" not in batch:
            raise ValueError(
                f"the generator has num_classes: {self.num_classes}, but the data has no labels;"
                " set num_classes: 0 or give a labelled set"
            )
        return list(batch["label"].chunk(self.accumulate))

    def _local_gradients(self) -> contextlib.AbstractContextManager:
        """Keeps DDP out of backward: two networks confuse its reducer; we average ourselves."""
        wrapper = self.trainer.model
        return wrapper.no_sync() if hasattr(wrapper, "no_sync") else contextlib.nullcontext()

    def _average(self, network: nn.Module) -> None:
        if self.trainer.world_size > 1:
            average_gradients(network.parameters())

    def _step_raw(self, optimizer: Optimizer) -> None:
        """What LightningOptimizer.step does, without advancing global_step."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)  # fp16 only
        if scaler is not None:
            scaler.unscale_(optimizer)
        self.on_before_optimizer_step(optimizer)
        if scaler is not None:
            scaler.step(optimizer)
        else:
            optimizer.step()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.clip_gradient_norm is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip_gradient_norm)

    def on_validation_start(self) -> None:
        if self.trainer.world_size > 1:  # batch norms keep a rank's own running statistics
            broadcast_buffers(self)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The discriminator's loss on held-out images: above its training loss, it memorises."""
        labels = batch["label"] if self.num_classes else None
        z = torch.randn(
            len(batch["image"]), self.latent_dim, generator=random_generator(batch_idx)
        ).to(self.device)
        loss = self.discriminator_loss(
            self.discriminator(batch["image"], labels).float(),
            self.discriminator(self.ema(z, labels), labels).float(),
        )
        self.log("val/discriminator_loss", loss, logger=False, sync_dist=True, batch_size=len(z))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    @torch.inference_mode()
    def discriminate(self, images: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """The discriminator's logits (n,) for uint8 images (n, c, h, w), in evaluation mode."""
        was_training = self.discriminator.training
        self.discriminator.eval()
        labels = labels.to(self.device) if self.num_classes and labels is not None else None
        logits = self.discriminator(to_float(images.to(self.device)), labels).float()
        self.discriminator.train(was_training)
        return logits

    # -- checkpoints ---------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.losses.check_finite()  # a broken state is never written over a good one
        checkpoint["images_seen"] = self.images_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_same_model(self, checkpoint)
        self.images_seen = checkpoint["images_seen"]
