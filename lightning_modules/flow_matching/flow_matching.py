"""Flow matching (Lipman et al., 2023, arXiv:2210.02747): any network, any path from noise."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn

from novum.core.errors import InputError
from novum.core.lightning_compat import datamodule, log_figures, logs_at
from novum.core.pixels import signed_to_uint8
from novum.core.precision import fine_dtype, widened
from novum.core.seeds import derived_seed, random_generator
from novum.lightning_modules.flow_matching.flow_sampling import FlowSampling
from novum.lightning_modules.flow_matching.pairing import paired_noise
from novum.lightning_modules.flow_matching.processes import EDM, RectifiedFlow
from novum.lightning_modules.flow_matching.solvers import RK45, Euler, Heun
from novum.lightning_modules.step_memory import require_batch_memory
from novum.lightning_modules.training_utils import (
    LabelCheck,
    LossWindow,
    compile_in_place,
    ema_decay,
    image_batch,
    log_losses,
    require_attributes,
    require_facts_of,
    require_finite,
    require_same_model,
    save_plain_hyperparameters,
    update_ema,
)

WARM_UP = 0.05  # of the run, in which the learning rate rises
EMA_RAMP = 0.05  # of the images seen: the longest half-life of the average (Karras et al., 2022)
MOST_TRAINING_IMAGES = 1024  # whose loss is compared with that of held-out ones


class FlowMatching(FlowSampling):
    """Learns the velocity that turns noise into images, and samples by following it.

    Randomness is a function of (seed, images seen) and the row in the batch of all ranks, so a run
    resumed from a checkpoint continues bit for bit, and two ranks learn what one would. The
    learning rate rises for a twentieth of the run and falls to 0 along half a cosine.

    Args:
        network: (noisy images (b, c, h, w), times (b,), labels (b,) or None) -> the same shape; has
            `image_size`, `channels` and `num_classes`, a label of which is no class.
        process: The path from noise to images: RectifiedFlow, straight, or EDM's noise levels and
            preconditioning.
        sampler: Euler, Heun or RK45 (null: Heun).
        use_labels: Learn and sample by class, where the network has classes.
        guidance: Of samples of a class: 1 is the class alone, more is further from no class
            (classifier-free guidance: Ho & Salimans, 2022), at twice the evaluations.
        label_dropout: Share of labels that training hides, so that guidance has no class to leave.
        optimal_transport: Pair noise and images of a rank's batch by optimal transport.
        lr: Highest learning rate, of Adam unless an optimizer is given.
        optimizer: Another optimizer, by class_path; its rate follows the same course.
        ema_kimg: Half-life of the averaged network, thousands of images; less at the start.
        likelihood_images: Held-out images whose bits per dimension validation measures (0: none).
        compile_network: Run the network through torch.compile.
        predict_samples: Images that `predict` makes.
        seed: Of all random numbers drawn in training.
    """

    def __init__(
        self,
        network: nn.Module,
        process: RectifiedFlow | EDM | None = None,
        sampler: Euler | Heun | RK45 | None = None,
        use_labels: bool = True,
        guidance: float = 1.0,
        label_dropout: float = 0.1,
        optimal_transport: bool = False,
        lr: float = 1e-3,
        optimizer: OptimizerCallable | None = None,
        ema_kimg: float = 500.0,
        likelihood_images: int = 32,
        compile_network: bool = False,
        predict_samples: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        save_plain_hyperparameters(self)
        facts = ("image_size", "channels", "num_classes")
        call = "(images (b, c, h, w), times (b,), labels) -> images"
        require_attributes(network, "network", facts, call)
        if not 0 <= label_dropout <= 1:
            raise InputError(f"label_dropout is {label_dropout}: it must be from 0 to 1")
        if likelihood_images < 0:
            raise InputError(f"likelihood_images is {likelihood_images}: it must be 0 or more")
        if guidance != 1 and not (network.num_classes and use_labels and label_dropout):
            raise InputError(
                f"guidance is {guidance}: it needs a network with classes, use_labels, and"
                " label_dropout above 0"
            )
        self.network = network
        self.ema = deepcopy(network).requires_grad_(False)  # what sample() uses
        self.process = process if process is not None else RectifiedFlow()
        self.sampler = sampler if sampler is not None else Heun()
        self.use_labels, self.guidance, self.label_dropout = use_labels, guidance, label_dropout
        self.optimal_transport, self.lr, self.optimizer = optimal_transport, lr, optimizer
        self.ema_kimg, self.likelihood_images = ema_kimg, likelihood_images
        self.compile_network, self.predict_samples = compile_network, predict_samples
        self.seed, self.images_seen, self.images_averaged = seed, 0, 0
        self.losses = LossWindow()
        self.check_labels = LabelCheck()

    # -- training ------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        adam = torch.optim.Adam(parameters, self.lr, foreach=True)
        optimizer = self.optimizer(parameters) if self.optimizer is not None else adam
        steps = float(self.trainer.estimated_stepping_batches)

        def course(step: int) -> float:
            rise = min(1.0, (step + 1) / max(1.0, WARM_UP * min(steps, 100_000)))
            fall = math.cos(math.pi / 2 * min(1.0, step / steps)) ** 2 if steps > 0 else 1.0
            return rise * fall

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, course)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def on_fit_start(self) -> None:
        data = datamodule(self.trainer)
        require_facts_of(data, {"network": self.network})
        if isinstance(batch := getattr(data, "batch_size", None), int):
            require_batch_memory(self._forward_few, batch, self)
        if self.compile_network:
            compile_in_place(self.network, self.device)

    def _forward_few(self, n: int) -> Tensor:
        x = torch.zeros(n, *self.image_shape, device=self.device).to(self.dtype)
        return self.network(x, x.new_zeros(n), None)

    def check_batch(self, batch: Any) -> None:
        self.check_labels(batch, self.num_classes)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        batch = image_batch(batch)
        self.require_shape(images := batch["image"])
        uniform, hidden, noise = self._draws(images)
        labels = self._labels(batch)
        if self.optimal_transport:
            noise = paired_noise(images, noise, labels)
        if labels is not None:
            labels = labels.masked_fill(hidden < self.label_dropout, self.num_classes)
        t = self.process.draw_times(uniform)
        inputs, time = self.process.inputs(self.process.mix(images, noise, t), t)
        answer = widened(self.network(inputs.to(self.dtype), time, labels))
        loss = (answer - self.process.target(images, noise, t)).square().mean()
        self.losses.add(self.global_step, train=loss)
        self.images_seen += len(images) * self.trainer.world_size
        if logs_at(self.trainer, self.global_step + 1):
            log_losses(self, self.losses, self.images_seen)
        return loss

    def _draws(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """This rank's rows of what is drawn for the batch of all ranks: two numbers, and noise.

        The first numbers are spread evenly over [0, 1), which makes the loss less noisy.
        """
        rank, ranks = self.global_rank, self.trainer.world_size
        n, device = len(images) * ranks, self.device
        torch.manual_seed(derived_seed(self.seed, self.images_seen, 0))
        # whatever the weights' precision: in bfloat16 times would coincide, and reach 1
        dtype = fine_dtype(next(self.network.parameters()).dtype)
        evenly = torch.arange(n, device=device, dtype=dtype) / n
        spread = (torch.rand(1, device=device, dtype=dtype) + evenly) % 1
        hidden = torch.rand(n, device=device, dtype=dtype)
        noise = torch.randn(n, *self.image_shape, device=device, dtype=dtype)
        if ranks > 1:  # dropout, which is a rank's own
            torch.manual_seed(derived_seed(self.seed, self.images_seen, 1 + rank))
        return spread[rank::ranks], hidden[rank::ranks], noise[rank::ranks]

    def _labels(self, batch: dict[str, Any]) -> Tensor | None:
        if not self.num_classes:
            return None
        if "label" not in batch:
            raise InputError(
                f"the network has num_classes: {self.num_classes}, but the data has no labels; set"
                " num_classes: 0 or give a labelled set"
            )
        return batch["label"]

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """The optimizer's, and then the average's, before anything can write a checkpoint."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        half_life = min(self.ema_kimg, EMA_RAMP * self.images_seen / 1000)
        images = self.images_seen - self.images_averaged  # several batches, if they accumulate
        update_ema(self.ema, self.network, ema_decay(images, half_life))
        self.images_averaged = self.images_seen

    # -- validation ----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        # images, their loss; images, their bits, and the squares of these
        self._sums = torch.zeros(5, device=self.device, dtype=torch.float64)
        self._measured = 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        batch = image_batch(batch)
        self.require_shape(batch["image"])
        images, labels = signed_to_uint8(batch["image"]), self._labels(batch)
        losses = self.item_losses(images, labels=labels).double()
        self._sums[:2] += torch.stack([losses.new_tensor(len(losses)), losses.sum()])
        few = -(-self.likelihood_images // self.trainer.world_size) - self._measured
        if few > 0:
            labels = None if labels is None else labels[:few]
            bits = self.bits_per_dim(images[:few], labels=labels).bits.double()
            self._sums[2:] += torch.stack([bits**0, bits, bits**2]).sum(1)
            self._measured += len(bits)

    def on_validation_epoch_end(self) -> None:
        """Logs figures that are the same on any number of ranks."""
        n, total, measured, bits, squares = self._summed(self._sums)
        figures = {"val/loss": total / n} if n else {}
        if n and (trained := self._training_loss(int(n))) is not None:
            figures["val/train_loss"] = trained
        if measured:
            mean = bits / measured
            spread = math.sqrt(max(0.0, squares / measured - mean**2))
            figures["val/bits_per_dim"] = mean
            figures["val/bits_per_dim_error"] = spread / math.sqrt(max(1, measured - 1))
        asked, images = self._summed(torch.tensor(self.evaluations, device=self.device))
        if images:
            figures["val/function_evaluations"] = asked / images
            self.evaluations = [0.0, 0]
        log_figures(self, figures)
        if not self.trainer.sanity_checking:
            for logger in self.loggers:
                logger.log_metrics(figures, step=self.images_seen)

    def _summed(self, sums: Tensor) -> list[float]:
        return self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()

    def _training_loss(self, n: int) -> float | None:
        """The loss of as many training images, as it is measured of held-out ones."""
        find = getattr(datamodule(self.trainer), "train_reference", None)
        if find is None:
            return None
        source = find()
        rows = torch.randperm(len(source), generator=random_generator(0))
        rows = rows[: min(n, MOST_TRAINING_IMAGES)]
        sums = torch.zeros(2, device=self.device, dtype=torch.float64)
        for part in rows[self.global_rank :: self.trainer.world_size].split(64):
            labels = source.labels[part] if self.num_classes else None
            losses = self.item_losses(source[part], labels=labels).double()
            sums += torch.stack([losses.new_tensor(len(losses)), losses.sum()])
        count, total = self._summed(sums)
        return total / count

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end

    # -- checkpoints ---------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_finite(self)
        checkpoint["images_seen"] = self.images_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        require_same_model(self, checkpoint)
        self.images_seen = self.images_averaged = checkpoint["images_seen"]
