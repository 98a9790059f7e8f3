"""Matrix products of float32 rows, by the library that is fastest on this processor."""

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 2**20  # multiplications; below, the copies cost more than they save


@torch.no_grad()
def row_products(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Products of each row of a (n, d) with each of b (m, d): (n, m), without a gradient.

    In float32 on a CPU by oneDNN: torch multiplies by MKL, which leaves AVX-512 unused on AMD and
    takes twice as long there. `out` is memory that may be used for it.
    """
    large = len(a) * len(b) * a.shape[1] >= SMALLEST
    in_float32 = a.dtype == b.dtype == torch.float32
    if large and in_float32 and a.device.type == "cpu" and _onednn():
        return F.linear(a.to_mkldnn(), b.to_mkldnn()).to_dense()
    return torch.mm(a, b.T, out=out)


def _onednn() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
