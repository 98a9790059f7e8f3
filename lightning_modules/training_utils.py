"""Training utilities: gradients, EMA, losses, checkpoints."""

import ctypes
import math
import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from novum.core.errors import InputError, TrainingError
from novum.core.lightning_compat import built_by_cli, log_figures
from novum.core.pixels import uint8_to_signed
from novum.core.precision import widened

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of malloc.h
MEND = (
    "lower the learning rate or clip the gradients, and go on from the last checkpoint, which was"
    " written before it"
)


def compile_in_place(network: nn.Module, device: torch.device) -> None:
    """torch.compile of a network on its device; names in checkpoints stay the same.

    On a GPU weights are laid out as torch does by default: in channels_last inductor mistakes the
    layout of the gradient of a transposed convolution (pytorch/pytorch#171622), and it chooses
    layouts by itself.
    """
    if device.type == "cuda":
        network.to(memory_format=torch.contiguous_format)
    network.compile()


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], *others: Tensor) -> None:
    """Means over the ranks of the gradients and of other tensors, in place, by one all-reduce.

    Exact, and half of DDP's traffic for two networks. In float32 at least.
    """
    averaged = [p.grad for p in parameters if p.grad is not None] + list(others)
    flat = torch.cat([widened(x).reshape(-1) for x in averaged])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for own, mean in zip(averaged, flat.split([x.numel() for x in averaged]), strict=True):
        own.copy_(mean.view_as(own))


def mean_of_ranks(x: Tensor) -> Tensor:
    """Mean of a tensor over the ranks. Lightning's own waits at a barrier before."""
    if not (dist.is_available() and dist.is_initialized()):
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x / dist.get_world_size()


@torch.no_grad()
def broadcast_buffers(module: nn.Module) -> None:
    """Every rank takes rank 0's buffers, which are those that a checkpoint holds."""
    for buffer in module.buffers():
        dist.broadcast(buffer, src=0)


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * network; buffers are copied.

    The average may be in a higher precision than the network.
    """
    averages: list[Tensor] = [*average.parameters()]
    pairs = zip(averages, network.parameters(), strict=True)
    weights: list[Tensor] = [weight.to(average.dtype) for average, weight in pairs]
    torch._foreach_lerp_(averages, weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
    for copy, buffer in zip(average.buffers(), network.buffers(), strict=True):
        copy.copy_(buffer)


def ema_decay(batch_size: int, half_life_kimg: float) -> float:
    """Decay per step of `batch_size` images for a half-life in thousands of images."""
    return 0.5 ** (batch_size / (1000 * half_life_kimg)) if half_life_kimg > 0 else 0.0


class LossWindow:
    """Losses since the last log, kept as tensors so that no step waits for the device."""

    def __init__(self) -> None:
        self._losses: dict[str, list[tuple[int, Tensor]]] = {}

    def add(self, step: int, **losses: Tensor) -> None:
        for name, loss in losses.items():
            self._losses.setdefault(name, []).append((step, loss.detach()))

    def check_finite(self) -> dict[str, float]:
        """Mean of each loss; raises FloatingPointError naming the first that is not finite."""
        values = {
            name: torch.stack([loss.float() for _, loss in losses]).tolist()
            for name, losses in self._losses.items()
        }
        bad = [
            (step, name, value)
            for name, losses in self._losses.items()
            for (step, _), value in zip(losses, values[name], strict=True)
            if not math.isfinite(value)
        ]
        if bad:
            step, name, value = min(bad, key=lambda item: item[0])
            raise TrainingError(f"loss/{name} is {value} at step {step}: {MEND}")
        return {name: sum(v) / len(v) for name, v in values.items()}

    def pop(self) -> dict[str, float]:
        means = self.check_finite()
        self.clear()
        return means

    def clear(self) -> None:
        self._losses.clear()


@torch.no_grad()
def require_finite(module: LightningModule) -> None:
    """A broken state is never written over a good one: FloatingPointError names what is not finite.

    Weights too: a gradient can break them after the last loss was still finite.
    """
    cast(LossWindow, module.losses).check_finite()
    names, parameters = zip(*module.named_parameters(), strict=True)
    largest = torch._foreach_norm(parameters, math.inf)  # pyright: ignore[reportPrivateImportUsage]
    finite = torch.stack([x.float() for x in largest]).isfinite().tolist()
    if not all(finite):
        raise TrainingError(
            f"{names[finite.index(False)]} is not finite after step {module.global_step}: {MEND}"
        )


def log_losses(module: LightningModule, losses: LossWindow, step: int, **others: float) -> None:
    """Means since the last log and over the ranks, at `step`; empties the window.

    `others` are values by tag, the same on every rank.
    """
    own = torch.tensor([*(means := losses.pop()).values()], device=module.device)
    mean = mean_of_ranks(own).tolist()
    tags = {f"loss/{name}": value for name, value in zip(means, mean, strict=True)} | others
    log_figures(module, tags)
    for logger in module.loggers:
        logger.log_metrics(tags, step=step)


def require_attributes(network: nn.Module, role: str, names: Iterable[str], call: str) -> None:
    """Name the class of a network that lacks an attribute, and what one of its role is called as.

    Raises:
        InputError: If it lacks one.
    """
    cls = type(network)
    missing = [name for name in names if not hasattr(network, name)]
    if missing:
        raise InputError(
            f"{cls.__name__} of {cls.__module__}.py has no {missing[0]}: a {role} has"
            f" {' and '.join(names)}, and is called as {call}"
        )


def require_facts_of(data: object, networks: dict[str, nn.Module]) -> None:
    """Size, channels and classes that networks were built for are those of the data.

    Raises:
        InputError: If they are not; 0 classes is a network without labels.
    """
    for fact in ("image_size", "channels", "num_classes"):
        given = getattr(data, fact, None)
        for role, network in networks.items():
            own = getattr(network, fact, None)
            without_labels = fact == "num_classes" and own == 0
            if isinstance(given, int) and isinstance(own, int) and own != given:
                if fact == "num_classes" and given == 0:
                    raise InputError(
                        f"the {role} has num_classes: {own}, but the data has no labels; set"
                        " num_classes: 0 or give a labelled set"
                    )
                if not without_labels:
                    raise InputError(f"the {role} has {fact} {own}, the data {given}")
    counts = {role: getattr(x, "num_classes", None) for role, x in networks.items()}
    known = {role: n for role, n in counts.items() if isinstance(n, int)}
    if len(set(known.values())) > 1:
        told = ", ".join(f"the {role} has num_classes {n}" for role, n in known.items())
        raise InputError(f"{told}: give both the same")


def image_batch(batch: Any) -> dict[str, Any]:
    """A batch of novum's, or of any loader: images, or images and labels; uint8, or in [-1, 1].

    Raises:
        InputError: If it is neither.
    """
    parts: dict[str, Any] = batch if isinstance(batch, dict) else {}
    if isinstance(batch, Tensor):
        parts = {"image": batch}
    elif isinstance(batch, list | tuple):
        parts = dict(zip(("image", "label"), batch, strict=False))
    images = parts.get("image")
    if not isinstance(images, Tensor) or images.ndim != 4:
        found = type(batch).__name__
        if isinstance(images, Tensor):
            found = f"images of {tuple(images.shape)}"
        elif isinstance(batch, dict):
            found = f"a mapping with {', '.join(map(str, batch))}"
        raise InputError(
            "a batch must be images (b, c, h, w), a pair of images and labels, or a mapping with"
            f" image and label, not {found}"
        )
    if isinstance(labels := parts.get("label"), Tensor):
        parts = parts | {"label": labels.long()}
    return parts | {"image": uint8_to_signed(images)} if images.dtype == torch.uint8 else parts


def require_labels(labels: Any, num_classes: int) -> None:
    """Check class labels before a network looks them up; on a device that waits for it.

    Raises:
        InputError: If they are not whole numbers from 0 to num_classes - 1, one for each image.
    """
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.dtype not in WHOLE:
        kind = type(labels).__name__
        if isinstance(labels, Tensor):
            kind = f"{str(labels.dtype).removeprefix('torch.')} {tuple(labels.shape)}"
        raise InputError(
            f"labels must be whole numbers (b,), one for each image, not {kind}: convert them in"
            " the data set"
        )
    if not len(labels):
        return
    low, high = (int(x) for x in labels.aminmax())
    if low < 0 or high >= num_classes:
        mend = f"set num_classes to {high + 1} or more" if low >= 0 else "number them from 0"
        raise InputError(
            f"a label of the data is {low if low < 0 else high}, but the model has {num_classes}"
            f" classes, 0 to {num_classes - 1}: {mend}, or give the data that it is for"
        )


def labels_of(batch: Any) -> Any:
    """Labels of a batch as `image_batch` takes it; None if there are none."""
    if isinstance(batch, dict):
        return batch.get("label")
    return batch[1] if isinstance(batch, list | tuple) and len(batch) > 1 else None


class LabelCheck:
    """`require_labels` of the batches of a run: all in the host's memory, of others the first."""

    def __init__(self) -> None:
        self._looked = False

    def __call__(self, batch: Any, num_classes: int) -> None:
        labels = labels_of(batch)
        if labels is None or not num_classes:
            return
        if not (isinstance(labels, Tensor) and self._looked) or labels.is_cpu:
            require_labels(labels, num_classes)
            self._looked = True


def keep_freed_memory() -> None:
    """Keep memory that a step frees in the process for the next one, with glibc.

    It would give large blocks back to the system, which takes thousands of page faults a step.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_MAX, 0)  # every block comes from the heap,
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)  # which does not shrink


def save_plain_hyperparameters(module: LightningModule) -> None:
    """Under the CLI all hyper-parameters (a config, plain values); else those that are plain.

    A checkpoint with anything but plain values would not load with weights_only=True.
    """
    frame = sys._getframe(1)
    if built_by_cli():
        module.save_hyperparameters(frame=frame)
    else:
        plain = (bool, int, float, str, tuple, list, type(None))
        names = [k for k, v in frame.f_locals.items() if isinstance(v, plain)]
        module.save_hyperparameters(*names, frame=frame)


def require_same_model(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """ValueError in one line when the checkpoint's weights are those of another model."""
    theirs = {name: tuple(t.shape) for name, t in checkpoint["state_dict"].items()}
    ours = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise InputError(
                f"the checkpoint is of another model: {name} is {theirs.get(name, 'missing')} in it"
                f" and {ours.get(name, 'missing')} in this config; use the config.yaml that is"
                " beside the checkpoints folder"
            )


@contextmanager
def ungrouped(discriminator: nn.Module) -> Iterator[None]:
    """Score each image alone, where a discriminator compares those of a batch in groups."""
    network, group = cast(Any, discriminator), getattr(discriminator, "group", 0)
    if group:
        network.group = 1
    try:
        yield
    finally:
        if group:
            network.group = group
