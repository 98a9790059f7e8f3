"""Precision of float32 products, and mixed precision, where results must not depend on them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def fine_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype, but float32 in place of the narrower ones."""
    return torch.promote_types(dtype, torch.float32)


def widened(x: Tensor) -> Tensor:
    """x in float32, or in float64 if it is."""
    return x.to(fine_dtype(x.dtype))


@torch.compiler.assume_constant_result
def multiplies_bfloat16(device: torch.device) -> bool:
    """True where the processor multiplies bfloat16 with float32 sums."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute float32 products and convolutions in float32: no autocast, TF32 or bfloat16.

    Whatever the caller allows is restored afterwards, however it was set.
    """
    restore = [_require_float32_products(), _require_float32_convolutions()]
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for undo in restore:
            undo()


# torch refuses to read a precision by its older names once the newer ones say something else, and
# parts of it still read the older ones: so each is set by the names that can be read


def _require_float32_products() -> Callable[[], None]:
    try:
        allowed = torch.get_float32_matmul_precision()
    except RuntimeError:
        mkldnn: Any = torch.backends.mkldnn
        return _require_ieee(torch.backends.cuda.matmul, mkldnn.matmul)
    torch.set_float32_matmul_precision("highest")
    return lambda: torch.set_float32_matmul_precision(allowed)


def _require_float32_convolutions() -> Callable[[], None]:
    cudnn: Any = torch.backends.cudnn
    try:
        allowed = cudnn.allow_tf32
    except RuntimeError:
        return _require_ieee(cudnn.conv, cudnn.rnn)

    def allow(tf32: bool) -> None:
        cudnn.allow_tf32 = tf32

    allow(False)
    return lambda: allow(allowed)


def _require_ieee(*backends: Any) -> Callable[[], None]:
    allowed = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"

    def restore() -> None:
        for backend, precision in zip(backends, allowed, strict=True):
            backend.fp32_precision = precision

    return restore
