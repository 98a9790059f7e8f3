"""Adversarial training: two networks stepped in turn, logged, and kept in checkpoints."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from novum.core.errors import InputError
from novum.core.lightning_compat import (
    datamodule,
    grad_scaler,
    log_interval,
    raw_optimizer,
    wrapped_optimizer,
)
from novum.core.pixels import uint8_to_signed
from novum.core.precision import full_precision, widened
from novum.core.seeds import derived_seed
from novum.lightning_modules.ada import AdaptiveAugment
from novum.lightning_modules.sampling import LatentSampling
from novum.lightning_modules.step_memory import require_batch_memory
from novum.lightning_modules.training_utils import (
    LabelCheck,
    LossWindow,
    average_gradients,
    broadcast_buffers,
    compile_in_place,
    ema_decay,
    image_batch,
    log_losses,
    require_facts_of,
    require_finite,
    require_same_model,
    ungrouped,
    update_ema,
)


class AlternatingTraining(LatentSampling):
    """A generator and a discriminator under manual optimisation, the latter stepped by Lightning.

    Subclasses set the attributes below, and give the optimizers.
    """

    item_loss = "discriminator's logit, negated"

    generator: nn.Module
    discriminator: nn.Module
    augment: nn.Module  # what the discriminator sees images through
    generator_loss: Callable[[Tensor], Tensor]
    discriminator_loss: Callable[[Tensor, Tensor], Tensor]
    discriminator_steps: int  # discriminator updates per generator update
    ema_kimg: float
    accumulate: int
    clip_gradient_norm: float | None
    compile_networks: bool

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.images_seen = 0
        self.losses = LossWindow()
        self.check_labels = LabelCheck()
        self._common: torch.Generator | None = None

    # -- training ------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        data = datamodule(self.trainer)
        require_facts_of(data, networks)
        if isinstance(batch := getattr(data, "batch_size", None), int):
            require_batch_memory(self._forward_few, -(-batch // self.accumulate), self)
        if self.compile_networks:
            for network in self.networks_to_compile():
                compile_in_place(network, self.device)

    def _forward_few(self, n: int) -> tuple[Tensor, Tensor]:
        """Logits of n fakes, with their graphs, and of as many images."""
        z = torch.zeros(n, self.latent_dim, device=self.device).to(self.dtype)
        labels = torch.zeros(n, device=self.device, dtype=torch.int64) if self.num_classes else None
        fake = self.generator(z, labels).to(self.dtype)
        return self.discriminator(fake, labels), self.discriminator(fake.detach(), labels)

    def networks_to_compile(self) -> tuple[nn.Module, ...]:
        return self.generator, self.discriminator

    def check_batch(self, batch: Any) -> None:
        self.check_labels(batch, self.num_classes)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        batch = image_batch(batch)
        self._seed_draws()
        images = batch["image"].to(self.dtype)
        parts = list(zip(images.chunk(self.accumulate), self._label_parts(batch), strict=True))
        update_generator = (self.global_step + 1) % self.discriminator_steps == 0
        # one generator pass serves both updates, unless the batch is computed in parts
        share = update_generator and len(parts) == 1
        step = self.global_step  # the discriminator's update advances it
        with self._local_gradients():
            self._regularize(parts, step)
            fake = self._update_discriminator(parts, share, step)
            if update_generator:
                self._update_generator(parts, fake, step)
        self.images_seen += len(images) * self.trainer.world_size
        if isinstance(self.augment, AdaptiveAugment) and self.augment.due(step):
            batch_size = len(images) * self.trainer.world_size
            self.augment.adjust(self.augment.mean_sign(), batch_size)
        if (step + 1) % log_interval(self.trainer) == 0:
            self._log_losses()

    def _update_discriminator(
        self, parts: list[tuple[Tensor, Tensor | None]], share: bool, step: int
    ) -> Tensor:
        optimizer = wrapped_optimizer(
            self, 1
        )  # Lightning's wrapper: global_step counts these updates
        optimizer.zero_grad()
        images = sum(len(real) for real, _ in parts)
        fake: Tensor | None = None
        signs: list[Tensor] = []
        for real, labels in parts:
            with torch.set_grad_enabled(share):
                fake = self._fakes(len(real), labels)
            logits = self._logits(real, labels)
            loss = self.discriminator_loss(logits, self._logits(fake.detach(), labels))
            self.losses.add(step, discriminator=loss)
            if isinstance(self.augment, AdaptiveAugment):
                signs.append(logits.detach().sign().mean())
            loss = loss + self._penalties(real, fake, labels, step)
            self.manual_backward(loss * (len(real) / images))
        self._average(self.discriminator, *signs)
        if isinstance(self.augment, AdaptiveAugment):
            for mean_sign in signs:  # of all ranks by now, as checkpoints hold it
                self.augment.observe(mean_sign)
        optimizer.step()
        assert fake is not None  # a batch has one part or more
        return fake

    def _update_generator(
        self, parts: list[tuple[Tensor, Tensor | None]], fake: Tensor, step: int
    ) -> None:
        optimizer = raw_optimizer(self, 0)
        optimizer.zero_grad()
        images = sum(len(real) for real, _ in parts)
        learning = [p for p in self.discriminator.parameters() if p.requires_grad]
        for parameter in learning:
            parameter.requires_grad_(False)  # saves the discriminator's weight gradients
        for real, labels in parts:
            if len(parts) > 1:
                fake = self._fakes(len(real), labels)
            loss = self.generator_loss(self._logits(fake, labels))
            self.losses.add(step, generator=loss)
            self.manual_backward(loss * (len(real) / images))
        for parameter in learning:
            parameter.requires_grad_(True)
        self._average(self.generator)
        self._step_raw(optimizer)
        batch_size = images * self.trainer.world_size
        decay = ema_decay(batch_size * self.discriminator_steps, self._half_life(batch_size))
        update_ema(self.ema, self.generator, decay)

    def _regularize(self, parts: list[tuple[Tensor, Tensor | None]], step: int) -> None:
        """Updates of their own, before those of a step."""

    def _fakes(self, n: int, labels: Tensor | None) -> Tensor:
        return self.generator(self._latents(n), labels)

    def _penalties(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, step: int
    ) -> Tensor | float:
        """Penalty added to the discriminator's loss on one part of the batch."""
        return 0.0

    def _half_life(self, batch_size: int) -> float:
        """Half-life of the averaged generator, thousands of images; batch_size is of all ranks."""
        return self.ema_kimg

    def _logits(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return widened(self.discriminator(self.augment(images.to(self.dtype)), labels))

    def _latents(self, n: int) -> Tensor:
        """This rank's rows of the latents of the whole batch, alike for any number of ranks."""
        rank, ranks = self.global_rank, self.trainer.world_size
        rows = n * ranks, self.latent_dim
        return torch.randn(rows, device=self.device, generator=self._common)[rank::ranks]

    def _seed_draws(self) -> None:
        """For latents a generator that ranks have in common, for all else one of their own."""
        self._common, step = None, self.global_step
        if self.trainer.world_size == 1:  # the same draws without a second generator
            torch.manual_seed(derived_seed(self.seed, step, 0))
            return
        self._common = torch.Generator(self.device).manual_seed(derived_seed(self.seed, step, 0))
        torch.manual_seed(derived_seed(self.seed, step, 1 + self.global_rank))

    def _label_parts(self, batch: dict[str, Tensor]) -> list[Tensor | None]:
        labels = self._labels(batch)
        if labels is None:
            return [None] * len(batch["image"].chunk(self.accumulate))
        return list(labels.chunk(self.accumulate))

    def _labels(self, batch: dict[str, Tensor]) -> Tensor | None:
        if not self.num_classes:
            return None
        if "label" not in batch:
            raise InputError(
                f"the generator has num_classes: {self.num_classes}, but the data has no labels;"
                " set num_classes: 0 or give a labelled set"
            )
        return batch["label"]

    def _local_gradients(self) -> contextlib.AbstractContextManager:
        """Keeps DDP out of backward: two networks confuse its reducer; we average ourselves."""
        no_sync = getattr(self.trainer.model, "no_sync", contextlib.nullcontext)
        return no_sync()

    def _average(self, network: nn.Module, *others: Tensor) -> None:
        """Gradients and other tensors become their means over the ranks, in place."""
        if self.trainer.world_size > 1:
            average_gradients(network.parameters(), *others)

    def _step_raw(self, optimizer: Optimizer) -> None:
        """Step as LightningOptimizer does, without advancing global_step."""
        scaler = grad_scaler(self.trainer)
        if scaler is not None:
            scaler.unscale_(optimizer)
        self.on_before_optimizer_step(optimizer)
        if scaler is not None:
            scaler.step(optimizer)
            scaler.update()  # after each step, as Lightning's plugin does
        else:
            optimizer.step()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.clip_gradient_norm is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip_gradient_norm)

    def _log_losses(self) -> None:
        augment = self.augment
        p = {"health/augment_p": augment.p} if isinstance(augment, AdaptiveAugment) else {}
        log_losses(self, self.losses, self.images_seen, **p)

    def on_validation_start(self) -> None:
        if self.trainer.world_size > 1:  # batch norms keep a rank's own running statistics
            broadcast_buffers(self)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """The discriminator's loss on held-out images: above its training loss, it memorises."""
        batch = image_batch(batch)
        labels = self._labels(batch)
        images = batch["image"].to(self.dtype)
        z = self.sample_latents(len(images), seed=batch_idx).to(self.device, self.ema_dtype)
        loss = self.discriminator_loss(
            widened(self.discriminator(images, labels)),
            widened(self.discriminator(self.ema(z, labels).to(self.dtype), labels)),
        )
        self.log("val/discriminator_loss", loss, logger=False, sync_dist=True, batch_size=len(z))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    @torch.inference_mode()
    def discriminate(self, images: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """The discriminator's logits (n,) for uint8 images (n, c, h, w), in evaluation mode."""
        was_training = self.discriminator.training
        self.discriminator.eval()
        labels = labels.to(self.device) if self.num_classes and labels is not None else None
        real = uint8_to_signed(images.to(self.device)).to(self.dtype)
        logits = self.discriminator(real, labels).float()
        self.discriminator.train(was_training)
        return logits

    @torch.inference_mode()
    def item_losses(self, images: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """The discriminator's logits (n,) of uint8 images (n, c, h, w), negated.

        Lower is surer that the image is a training image. No image is compared with its batch.
        """
        if self.num_classes and labels is None:
            raise InputError("labels are missing: the discriminator scores images of a class")
        with full_precision(self.device), ungrouped(self.discriminator):
            return -self.discriminate(images, labels=labels)

    # -- checkpoints ---------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_finite(self)
        checkpoint["images_seen"] = self.images_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_same_model(self, checkpoint)
        self.images_seen = checkpoint["images_seen"]
