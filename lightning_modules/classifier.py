"""A classifier of images: the discriminative model, a feature extractor, a labeller, a victim."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn

from novum.core.errors import InputError
from novum.core.lightning_compat import datamodule, log_figures, logs_at
from novum.core.precision import widened
from novum.core.resampling import resize_antialiased
from novum.core.seeds import derived_seed
from novum.lightning_modules.attacks import PGD, fgsm
from novum.lightning_modules.module import Module
from novum.lightning_modules.step_memory import require_batch_memory
from novum.lightning_modules.training_utils import (
    LabelCheck,
    LossWindow,
    compile_in_place,
    image_batch,
    log_losses,
    require_attributes,
    require_facts_of,
    require_finite,
    require_same_model,
    save_plain_hyperparameters,
)


class Classifier(Module):
    """Learns the labels of images by cross-entropy, under a one-cycle schedule to max_steps.

    Randomness is a function of (seed, step, rank), so a resumed run continues bit for bit.
    `checkpoint:PATH` uses `features`; `classify` labels any images.

    Args:
        network: Images (b, c, h, w) in [-1, 1] -> logits (b, num_classes); has `image_size`,
            `channels` and `num_classes`.
        lr: Highest learning rate, of SGD with Nesterov momentum unless an optimizer is given; null
            for that of the network, which is 0.003 for trained weights, or else 0.1.
        weight_decay: Of that SGD.
        optimizer: Another optimizer, by class_path; it keeps its rate.
        label_smoothing: Share of a label that is spread over all classes.
        augment: What training images in [-1, 1] go through, such as DiffAugment.
        attack: Adversarial training: an attack on every batch (null: off).
        clean_share: Weight of the loss on clean images in adversarial training; 0.5 as Goodfellow
            et al. (2015), 0 as Madry et al. (2018).
        compile_network: Run the network through torch.compile.
        seed: Of all random numbers drawn in training.
    """

    def __init__(
        self,
        network: nn.Module,
        lr: float | None = None,
        weight_decay: float = 5e-4,
        optimizer: OptimizerCallable | None = None,
        label_smoothing: float = 0.0,
        augment: nn.Module | None = None,
        attack: PGD | None = None,
        clean_share: float = 0.5,
        compile_network: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        save_plain_hyperparameters(self)
        facts = ("image_size", "channels", "num_classes")
        call = "(images (b, c, h, w) in [-1, 1]) -> logits (b, num_classes)"
        require_attributes(network, "network", facts, call)
        if not network.num_classes:
            raise InputError("the data has no labels to learn: give a labelled set")
        self.network = network
        self.augment = augment if augment is not None else nn.Identity()
        self.lr = lr if lr is not None else cast(float, getattr(network, "lr", 0.1))
        self.weight_decay, self.optimizer = weight_decay, optimizer
        self.label_smoothing, self.attack, self.clean_share = label_smoothing, attack, clean_share
        self.compile_network, self.seed, self.images_seen = compile_network, seed, 0
        self.image_size = cast(int, network.image_size)
        self.channels = cast(int, network.channels)
        classes = range(cast(int, network.num_classes))
        self.class_names = [str(i) for i in classes]  # until data names them
        self.losses = LossWindow()
        self.check_labels = LabelCheck()

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, c, h, w) in [0, 1] -> logits (b, num_classes)."""
        return self.network(images * 2 - 1)

    def on_fit_start(self) -> None:
        data = datamodule(self.trainer)
        require_facts_of(data, {"network": self.network})
        if isinstance(batch := getattr(data, "batch_size", None), int):
            require_batch_memory(self._forward_few, batch, self)
        find = getattr(data, "train_reference", None)
        names = getattr(find(), "class_names", None) if find is not None else None
        self.class_names = list(names or self.class_names)
        if self.compile_network:
            compile_in_place(self.network, self.device)

    def _forward_few(self, n: int) -> Tensor:
        shape = n, self.channels, self.image_size, self.image_size
        return self.network(torch.zeros(shape, device=self.device).to(self.dtype))

    # -- training ------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        if self.optimizer is not None:
            return self.optimizer(parameters)
        sgd = torch.optim.SGD(
            parameters, self.lr, momentum=0.9, nesterov=True, weight_decay=self.weight_decay
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            sgd, self.lr, total_steps=max(steps, 6), pct_start=0.2, cycle_momentum=False
        )
        return [sgd], [{"scheduler": schedule, "interval": "step"}]

    def check_batch(self, batch: Any) -> None:
        self.check_labels(batch, cast(int, self.network.num_classes))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        seed = derived_seed(self.seed, self.global_step, self.global_rank)
        torch.manual_seed(seed)
        batch = labelled_batch(batch)
        images, labels = self.augment(batch["image"].to(self.dtype)), batch["label"]
        loss = self._loss(images, labels)
        self.losses.add(self.global_step, train=loss)
        if self.attack is not None:
            self.network.eval()  # batch norms as they are at the user's
            attacked = self.attack(self, images * 0.5 + 0.5, labels, seed=seed)
            self.network.train()
            adversarial = self._loss(attacked * 2 - 1, labels)
            self.losses.add(self.global_step, adversarial=adversarial)
            loss = self.clean_share * loss + (1 - self.clean_share) * adversarial
        self.images_seen += len(images) * self.trainer.world_size
        if logs_at(self.trainer, self.global_step + 1):
            log_losses(self, self.losses, self.images_seen)
        return loss

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        logits = widened(self.network(images))
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def on_validation_epoch_start(self) -> None:
        self._sums = torch.zeros(3, device=self.device, dtype=torch.float64)  # images, hits, loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        batch = labelled_batch(batch)
        logits, labels = widened(self.network(batch["image"].to(self.dtype))), batch["label"]
        hits = (logits.argmax(1) == labels).sum()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        self._sums += torch.stack([hits.new_tensor(len(labels)), hits, loss])

    def on_validation_epoch_end(self) -> None:
        images, hits, loss = self.trainer.strategy.reduce(self._sums, reduce_op="sum").tolist()
        figures = {"val/accuracy": hits / images, "val/loss": loss / images}
        log_figures(self, figures)
        for logger in self.loggers:
            logger.log_metrics(figures, step=self.images_seen)

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Class probabilities (b, num_classes) of a batch."""
        images = image_batch(batch)["image"].to(self.dtype)
        return widened(self.network(images)).softmax(1)

    # -- use -----------------------------------------------------------------------------------

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """uint8 images (n, 1 or 3, h, w) of any size -> class probabilities (n, num_classes)."""
        self.eval()
        return self(self.prepare(images)).float().softmax(1)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """uint8 images (n, 1 or 3, h, w) -> what the last linear layer sees, (n, d) float32."""
        self.eval()
        seen: list[Tensor] = []
        last = [m for m in self.network.modules() if isinstance(m, nn.Linear)][-1]
        hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        self(self.prepare(images))
        hook.remove()
        return seen[0].float()

    def under_attack(self, images: Tensor, labels: Tensor, epsilons: Tensor) -> Tensor:
        """Logits (k, n, num_classes) of uint8 images under FGSM at each epsilon (k,)."""
        self.eval()
        attacked = fgsm(self, self.prepare(images), labels.to(self.device), epsilons)
        with torch.no_grad():
            return torch.stack([self(images).float() for images in attacked])

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 (n, 1 or 3, h, w) -> floats in [0, 1] with the network's size and channels."""
        x = (images.to(self.device).float() / 255).to(self.dtype)
        if x.shape[1] == 3 and self.channels == 1:
            x = x.mean(1, keepdim=True)
        size = (self.image_size,) * 2
        if x.shape[-2:] != size:
            x = resize_antialiased(x, size).clamp(0, 1)
        return x.expand(-1, self.channels, -1, -1)

    # -- checkpoints ---------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_finite(self)
        checkpoint |= {"images_seen": self.images_seen, "class_names": self.class_names}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_same_model(self, checkpoint)
        self.images_seen = checkpoint["images_seen"]
        self.class_names = checkpoint["class_names"]


def labelled_batch(batch: Any) -> dict[str, Tensor]:
    """`image_batch`; InputError if it has no labels."""
    batch = image_batch(batch)
    if "label" not in batch:
        raise InputError("a batch has no labels to learn: give pairs of images and labels")
    return batch
