"""Memory of a step on a large image or batch, foreseen from a small one."""

from bisect import bisect_right
from collections.abc import Callable
from functools import partial

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from novum.core.memory import free_bytes, require_memory

PROBE = 128  # px of the image whose memory is measured
WHOLE_IMAGES = 8  # of float32 beside the network: image, average, moments, gradient, content
IMAGE = 12 * WHOLE_IMAGES  # bytes a pixel of these
MARGIN = 1.4  # so 1.1 to 1.8 times what is taken, on a CPU at 144 to 3,000 px
FEW = 4  # images of a small batch; layers that compare images take groups of them
SHARE = 0.9  # of what is free, for the size that is named


def kept_per_pixel(forward: Callable[[Tensor], object], small: Tensor) -> float:
    """Bytes that a forward pass of images (n, 3, h, w) keeps for its gradient, a pixel.

    What a second image adds to a small one: weights do not count.
    """
    one, two = (
        kept_bytes(lambda n=n: forward(small[:1].repeat(n, 1, 1, 1).requires_grad_()))
        for n in (1, 2)
    )
    return (two - one) / small[0, 0].numel()


def kept_bytes(forward: Callable[[], object]) -> int:
    """Bytes of all tensors that a forward pass keeps for its gradient."""
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        result = forward()
    del result  # kept until here, so that no address came twice
    return sum(kept.values())


def require_step_memory(
    needed: Callable[[int], float], size: int, what: str, option: str, device: torch.device
) -> None:
    """Fail before the first step if it does not fit into what is free.

    Args:
        needed: Bytes of a step at a size, which grow with it.
        size: The one that is asked for.
        what: The work, as the subject of the sentence.
        option: The one that sets the size.
        device: Where the work is done.

    Raises:
        InputError: With the largest size that fits.
    """
    free = partial(free_bytes, device)
    total = MARGIN * needed(size)
    if total > free():
        fits = bisect_right(range(1, size + 1), SHARE * free() / MARGIN, key=needed)
        mend = f"give {option} {fits}" if fits else f"no {option} is small enough: free some"
        require_memory(total, what, mend, free)


def require_batch_memory(
    forward: Callable[[int], object], batch: int, module: LightningModule, items: str = "images"
) -> None:
    """Fail before the first step if what a forward pass of the batch keeps does not fit.

    Nothing else of a step is counted, so a batch that is refused never fits.

    Args:
        forward: The pass of so many items, through networks in evaluation mode.
        batch: Items that are computed at a time.
        module: What is trained.
        items: Their name.

    Raises:
        InputError: With the number of items that fit.
    """
    if batch <= 2 * FEW:
        return
    training = [network for network in module.children() if network.training]
    for network in training:
        network.eval()  # so that running statistics stay as they are
    devices = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(devices), module.trainer.precision_plugin.forward_context():
        few, more = (kept_bytes(lambda n=n: forward(n)) for n in (FEW, 2 * FEW))
    for network in training:
        network.train()
    per_item, free = max(1.0, (more - few) / FEW), partial(free_bytes, module.device)
    require_memory(
        per_item * batch,
        f"a step on {batch:,} {items} at a time",
        f"give --data.batch_size {max(1, int(SHARE * free() / per_item))}",
        free,
    )
