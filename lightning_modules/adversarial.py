"""Adversarial examples of one image: a change too small to see that changes what a network sees."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from novum.core.errors import InputError
from novum.core.lightning_compat import datamodule, wrapped_optimizer
from novum.lightning_modules.attacks import PGD, attack_loss, input_gradient
from novum.lightning_modules.networks.backbones import Backbone
from novum.lightning_modules.single_image_module import SingleImageModule
from novum.lightning_modules.step_memory import IMAGE, PROBE, kept_per_pixel, require_step_memory
from novum.lightning_modules.training_utils import save_plain_hyperparameters


class Adversarial(SingleImageModule):
    """Attacks the data's image; one training step is one gradient of all restarts at once.

    The network sees images at the size that it was trained at (`Backbone.input_size`), and the
    change is made at the size of the image.

    Args:
        backbone: The network to deceive.
        attack: FGSM or PGD in any of its forms; null: PGD within 0.007, the panda's (Goodfellow et
            al., 2015).
        target: Class to be seen in the image, by name or number; null: any but `label`.
        label: Class to lead away from; null: what the network sees at first.
        seed: Of the random starts.
    """

    clean: Tensor

    def __init__(
        self,
        backbone: Backbone,
        attack: PGD | None = None,
        target: str | None = None,
        label: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, seed)
        save_plain_hyperparameters(self)
        self.automatic_optimization = False
        self.attack = attack if attack is not None else PGD(epsilon=0.007)
        if target is not None and label is not None:
            raise InputError(f"target is {target} and label is {label}: give one of them")
        named = target if target is not None else label
        self.label = None if named is None else backbone.class_index(named)
        self.targeted = target is not None
        self.delta = nn.Parameter(torch.zeros(self.attack.restarts, 3, 1, 1))
        self.velocity = torch.zeros(())  # the gradient that momentum accumulates
        self._restored = False

    @property
    def total_steps(self) -> int:
        return self.attack.steps

    def configure_optimizers(self) -> Optimizer:
        return SGD([self.delta], lr=0.0)  # counts steps; PGD itself says where to

    def on_fit_start(self) -> None:
        image = datamodule(self.trainer).train_reference()[:].to(self.device) / 255
        self._require_memory(image)
        clean = image.expand(self.attack.restarts, -1, -1, -1)  # (restarts, 3, h, w)
        self.register_buffer("clean", clean, persistent=False)  # moves with the module
        if self.label is None:
            self.label = int(self.logits(image).argmax())
        if self._restored:  # global_step is not, as yet
            self.velocity = self.velocity.to(self.device)
        else:
            self.delta.data = self.attack.start(self.clean, self.attack.epsilon, self.seed)
            self.velocity = torch.zeros_like(self.clean)

    def _require_memory(self, image: Tensor) -> None:
        """Fail before the first step if images, or what the network keeps of them, do not fit."""
        backbone = self.backbone
        small = F.interpolate(image, (PROBE, PROBE))
        per_pixel = kept_per_pixel(lambda x: backbone.network(backbone.normalise(x)), small)
        seen = backbone.at_native_size(image)[0, 0].numel()
        restarts, (h, w) = self.attack.restarts, image.shape[-2:]
        require_step_memory(
            lambda size: restarts * (per_pixel * seen + IMAGE * h * w * (size / max(h, w)) ** 2),
            max(h, w),
            f"an attack on {restarts} x {w} x {h} px",
            "--data.size",
            self.device,
        )

    def training_step(self, batch: int, batch_idx: int) -> None:
        assert self.label is not None
        labels = torch.full((self.attack.restarts,), self.label, device=self.device)
        gradient, loss = input_gradient(
            self.backbone, self.clean + self.delta.detach(), labels, self.targeted
        )
        self.delta.data, self.velocity = self.attack.step(
            self.clean, self.delta.detach(), self.attack.epsilon, gradient, self.velocity
        )
        wrapped_optimizer(self).step()
        self.log_losses(attack=loss.max())

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits of images (b, 3, h, w) in [0, 1]."""
        return self.backbone(images)

    def classify(self, images: Tensor) -> tuple[list[str], list[float]]:
        """Predicted classes of images (b, 3, h, w) in [0, 1], and their probabilities."""
        confidence, rows = self.logits(images.to(self.device)).double().softmax(1).max(1)
        return [self.backbone.class_names[i] for i in rows.tolist()], confidence.tolist()

    @torch.no_grad()
    def images(self) -> Tensor:
        """The best restart, (1, 3, h, w)."""
        if not hasattr(self, "clean"):  # from a checkpoint
            return self.delta.detach()[:1] + 0.5
        attacked = self.clean + self.delta.detach()
        assert self.label is not None
        labels = torch.full((len(attacked),), self.label, device=self.device)
        best = attack_loss(self.logits(attacked), labels, self.targeted).argmax()
        return attacked[best][None]

    # -- checkpoints ---------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["velocity"] = self.velocity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._restored = True
        self.velocity = checkpoint.get("velocity", torch.zeros(()))  # of older ones: no momentum
