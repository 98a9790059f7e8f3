"""Memory of a step on a large image, foreseen from one on a small image."""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from novum.core.memory import free_bytes, require_memory

PROBE = 128  # px of the image whose memory is measured
WHOLE_IMAGES = 8  # of float32 beside the network: image, average, moments, gradient, content
IMAGE = 12 * WHOLE_IMAGES  # bytes a pixel of these
MARGIN = 1.4  # 0.98 GB were taken at 1,024 px on a CPU, 0.70 counted
SHARE = 0.9  # of what is free, for the size that is named


def kept_per_pixel(
    forward: Callable[[Tensor], object], small: Tensor, weights: Iterable[Tensor]
) -> float:
    """Bytes that a forward pass of images (n, 3, h, w) keeps for its gradient, a pixel."""
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        forward(small.detach().requires_grad_())
    for weight in weights:
        kept.pop(weight.data_ptr(), None)
    return sum(kept.values()) / (len(small) * small[0, 0].numel())


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
        require_memory(total, what, f"give {option} {fits}", free)
