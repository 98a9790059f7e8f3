"""Moves, turns and scales images smoothly, by matrices (b, 3, 3); differentiable twice."""

import torch
from torch import Tensor

from novum.core.devices import constant
from novum.lightning_modules.networks.stylegan_ops import upfirdn2d

# an orthonormal low-pass filter: Daubechies' least asymmetric wavelet, with six moments
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
# fine pixels that the filter moves smooth images by: 5.10, where the middle of its taps is 5.5
DELAY = sum(i * tap for i, tap in enumerate(SYM6)) / sum(SYM6)


def _matrix(rows: list[list[Tensor | float]]) -> Tensor:
    """(b, len(rows), len(rows[0])) from scalars and tensors (b,)."""
    b = next(x for row in rows for x in row if isinstance(x, Tensor))
    full = [x if isinstance(x, Tensor) else torch.full_like(b, x) for row in rows for x in row]
    return torch.stack(full, 1).unflatten(1, (len(rows), -1))


def scaled(x: Tensor, y: Tensor) -> Tensor:
    return _matrix([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, torch.ones_like(x)]])


def moved(x: Tensor, y: Tensor) -> Tensor:
    return _matrix([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, torch.ones_like(x)]])


def turned(angle: Tensor) -> Tensor:
    c, s = angle.cos(), angle.sin()
    return _matrix([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def reflected(positions: Tensor, n: int) -> Tensor:
    """Positions on a line of n pixels, folded back at the centres of the outer two."""
    around = positions.remainder(2 * (n - 1))
    return (n - 1) - (around - (n - 1)).abs()


def pad_reflected(x: Tensor, pad: int) -> Tensor:
    for axis in (2, 3):
        n = x.shape[axis]
        rows = reflected(torch.arange(-pad, n + pad, device=x.device), n)
        x = x.index_select(axis, rows)
    return x


def rearrange(images: Tensor, matrices: Tensor) -> Tensor:
    """Images (b, c, h, w) through matrices (b, 3, 3) that take pixels to pixels: no filter.

    Exact for mirroring, whole-pixel shifts and half turns, and for quarter turns where h - w is
    even; otherwise the nearest pixel is taken.
    """
    b, c, h, w = images.shape
    place = matrices.float() @ _grid(h, w, images.device)  # (b, 3, pixels)
    column = reflected((place[:, 0] + (w - 1) / 2).round(), w)
    row = reflected((place[:, 1] + (h - 1) / 2).round(), h)
    flat = (row * w + column).long()[:, None].expand(b, c, h * w)
    return images.reshape(b, c, h * w).gather(2, flat).view(b, c, h, w)


def _grid(h: int, w: int, device: torch.device) -> Tensor:
    """Pixels (x, y, 1) counted from the image's centre: (3, h w)."""
    y, x = (torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in (h, w))
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.ones_like(x).flatten()])


def transform(images: Tensor, matrices: Tensor) -> Tensor:
    """Images (b, c, h, w) through matrices (b, 3, 3) from output to input pixels.

    Sampled bilinearly at twice the resolution, through an orthonormal wavelet filter on the way up
    and its mirror image on the way down: whole-pixel shifts are exact, but nothing that turns or
    mirrors, since the filter is not quite symmetric. Gathers and convolutions alone, so that it can
    be differentiated twice.
    """
    b, c, h, w = images.shape
    taps = constant(SYM6, images, torch.float32)
    fine = upfirdn2d(pad_reflected(images, 6), taps, up=2, padding=(11, 10))

    def grid(n: int) -> Tensor:  # fine output pixels, in output pixels from the centre
        fine = torch.arange(2 * n + 10, device=taps.device, dtype=torch.float32)
        return (fine - DELAY) / 2 - (n - 1) / 2

    y, x = torch.meshgrid(grid(h), grid(w), indexing="ij")
    points = torch.stack([x.flatten(), y.flatten(), torch.ones_like(x).flatten()])
    place = matrices.float() @ points  # (b, 3, pixels)
    column = _fine_position(place[:, 0] + (w - 1) / 2, w)
    row = _fine_position(place[:, 1] + (h - 1) / 2, h)
    sampled = _bilinear(fine, row, column).view(b, c, *x.shape)
    return upfirdn2d(sampled, taps.flip(0), down=2)


def _fine_position(position: Tensor, n: int) -> Tensor:
    inside = (position > -3.01) & (position < n + 2.01)  # covered by the padding
    return 2 * (torch.where(inside, position, reflected(position, n)) + 6) + DELAY


def _bilinear(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """x (b, c, h, w) at rows and columns (b, n) -> (b, c, n)."""
    b, c, h, w = x.shape
    flat = x.reshape(b, c, h * w)
    top, left = row.floor().clamp(0, h - 2), column.floor().clamp(0, w - 2)
    down, right = (row - top).to(x.dtype)[:, None], (column - left).to(x.dtype)[:, None]
    first = (top * w + left).long()

    def at(offset: int) -> Tensor:
        return flat.gather(2, (first + offset)[:, None].expand(b, c, -1))

    upper = at(0) * (1 - right) + at(1) * right
    return upper * (1 - down) + (at(w) * (1 - right) + at(w + 1) * right) * down
