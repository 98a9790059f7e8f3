"""Numbers of the host on their way to a device, without waiting for it."""

from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def default_device() -> torch.device:
    """A GPU if there is one, this rank's."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def constant(values: tuple[float, ...], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Values (n,) on the device of `like`, in its dtype unless another is given; not to be changed.

    To make a tensor of Python numbers copies them from the host, which waits for the device; here
    that happens once.
    """
    if torch.compiler.is_compiling():  # then it is a constant of the compiled code
        return torch.tensor(values, device=like.device, dtype=dtype or like.dtype)
    return _kept(values, like.device, dtype or like.dtype)


def to_device(x: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """x of the host's memory on a device; from pinned memory, which the copy need not wait for."""
    x = x.to(dtype or x.dtype)
    if device.type in ("cpu", "mps"):  # which share the host's memory
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def place(module: M, device: torch.device | str) -> M:
    """Move a module to a device, from within inference mode too.

    Weights that are moved within it become inference tensors, whose versions torch does not keep,
    and a convolution on a GPU asks for them.
    """
    with torch.inference_mode(False):
        return module.to(device)


@cache
def _kept(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # backward may need it
        return torch.tensor(values, device=device, dtype=dtype)
