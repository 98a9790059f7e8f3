"""Winograd's convolution F(4x4, 3x3) (Lavin & Gray, 2016) for frozen weights on the CPU.

A quarter of the multiplications of a direct 3 x 3 convolution: tiles of 6 x 6 give 4 x 4 outputs.
"""

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

TILE = 4  # outputs a side
LEAST_CHANNELS = 256  # below, moving tiles costs more than products save
LEAST_PIXELS = 384  # of a map; below, 36 matrices of weights are read for too few tiles
CACHED = 1 << 22  # bytes of transformed tiles at once; more where weights that are read take more

_B = torch.tensor([  # each of the three for the points 0, 1, -1, 2, -2 and infinity
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
], dtype=torch.float32)  # fmt: skip
_G = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]  # over 24
_A = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=torch.float32,
)


def transformed(weight: Tensor) -> Tensor:
    """Weights (out, in, 3, 3) -> (36, in, out), computed in float64."""
    g = weight.new_tensor(_G, dtype=torch.float64) / 24
    found = torch.einsum("ik,ockl,jl->ijco", g, weight.double(), g)
    return found.flatten(0, 1).to(weight.dtype).contiguous()


def winograd(x: Tensor, weight: Tensor, padding: int, bias: Tensor | None = None) -> Tensor:
    """Convolution of x (n, in, h, w) with transformed weights (36, in, out), channels-last."""
    n, c, h, w = x.shape
    size = h + 2 * padding - 2, w + 2 * padding - 2
    rows, columns = (-(-side // TILE) for side in size)
    high, wide = TILE * rows + 2, TILE * columns + 2
    padded = x.new_zeros(n, high, wide, c)
    padded[:, padding : padding + h, padding : padding + w] = x.permute(0, 2, 3, 1)
    shape = (n, weight.shape[2], TILE * rows, TILE * columns)
    out = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    found = out.permute(0, 2, 3, 1).view(n, rows, TILE, columns, TILE, -1)
    row_bytes = 36 * columns * max(c, shape[1]) * x.element_size()
    limit = max(CACHED, weight.numel() * weight.element_size()) // row_bytes  # rows at once
    images, part = max(1, limit // rows), max(1, min(limit, rows))
    for image, row in product(range(0, n, images), range(0, rows, part)):
        of = found[image : image + images, row : row + part]
        y = _tile_rows(padded[image : image + images, TILE * row :], len(of), of.shape[1], columns,
                       weight, bias)  # fmt: skip
        of.copy_(y.permute(2, 3, 0, 4, 1, 5))
    if size == shape[2:]:
        return out
    return out[:, :, : size[0], : size[1]].clone(memory_format=torch.channels_last)


def _tile_rows(
    padded: Tensor, n: int, rows: int, columns: int, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """(TILE, TILE, n, rows, columns, out) of the first rows of tiles of padded (n, h, w, in)."""
    c, strides = padded.shape[3], padded.stride()
    down, right = strides[1:3]
    tiles = padded.as_strided(
        (6, 6, n, rows, columns, c), (down, right, strides[0], TILE * down, TILE * right, 1)
    )
    b, a = _B.to(padded), _A.to(padded)
    seen = b @ (b @ tiles.reshape(6, -1)).view(6, 6, -1)
    products = torch.bmm(seen.view(36, -1, c), weight)  # (36, tiles, out)
    if bias is not None:
        products[7] += bias  # both points 1: this product is in every output, once
    y = a @ (a @ products.view(6, -1)).view(TILE, 6, -1)
    return y.view(TILE, TILE, n, rows, columns, -1)


class _Convolution(torch.autograd.Function):
    """With the gradient of the input alone: the convolution with the weights turned round."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, turned: Tensor, padding: int, bias: Tensor | None
    ) -> Tensor:
        ctx.turned, ctx.padding = turned, padding
        return winograd(x, weight, padding, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        return winograd(gradient, ctx.turned, 2 - ctx.padding), None, None, None, None


class WinogradConv2d(nn.Module):
    """A frozen convolution's place taken; what it cannot do goes to the convolution itself."""

    def __init__(self, direct: nn.Conv2d) -> None:
        super().__init__()
        self.direct = direct
        weight = direct.weight.detach()
        self.register_buffer("weight", transformed(weight), False)
        self.register_buffer("turned", transformed(weight.transpose(0, 1).flip(2, 3)), False)

    def forward(self, x: Tensor) -> Tensor:
        plain = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        small = len(x) * x.shape[-2] * x.shape[-1] < LEAST_PIXELS
        if not plain or torch.is_autocast_enabled("cpu") or small:
            return self.direct(x)
        padding, bias = self.direct.padding[0], self.direct.bias
        return _Convolution.apply(x, self.weight, self.turned, padding, bias)


def pays(module: nn.Module) -> bool:
    """Return True for a convolution that this computes faster than oneDNN."""
    if not isinstance(module, nn.Conv2d) or module.padding_mode != "zeros" or module.groups != 1:
        return False
    shape = module.kernel_size, module.stride, module.dilation
    return (
        shape == ((3, 3), (1, 1), (1, 1))
        and module.padding in ((0, 0), (1, 1))
        and min(module.in_channels, module.out_channels) >= LEAST_CHANNELS
    )
