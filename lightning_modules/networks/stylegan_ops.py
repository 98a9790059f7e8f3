"""Operations of StyleGAN in plain torch, which differentiate twice and compile."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novum.core.devices import constant

TAPS = (1.0, 3.0, 3.0, 1.0)  # the published low-pass filter, along each axis
GAIN = math.sqrt(2)  # a leaky ReLU about halves the variance
SLOPE = 0.2
HALF_LIMIT = 256.0  # activations in float16 are clamped here (Karras et al., 2020b)


def low_pass(x: Tensor, gain: float = 1.0) -> Tensor:
    """The published filter with unit sum times `gain`, in x's dtype: (4,)."""
    return constant(tuple(tap * (gain / sum(TAPS)) for tap in TAPS), x)


def upfirdn2d(
    x: Tensor, taps: Tensor, *, up: int = 1, down: int = 1, padding: tuple[int, int] = (0, 0)
) -> Tensor:
    """Insert zeros, pad, filter, keep every `down`-th pixel: along both axes alike.

    Args:
        x: Images (b, c, h, w).
        taps: A filter (k,), applied along each axis (separable).
        up: Pixels per pixel after zeros are inserted; they follow each pixel.
        down: Pixels per pixel that is kept.
        padding: Zeros before and after each axis; negative ones crop.

    Returns:
        (b, c, h', w') with h' = (h * up + sum(padding) - k) // down + 1, likewise w'.
    """
    c, k = x.shape[1], len(taps)
    # one dense (k, k) filter: in channels_last memory faster on CPUs than two passes of k
    taps = taps.to(x.dtype)
    kernel = torch.outer(taps, taps).expand(c, 1, k, k)
    if up == 1:
        x = F.pad(x, (*padding, *padding)) if any(padding) else x
        return F.conv2d(x, kernel.flip(2, 3), stride=down, groups=c)
    x = F.conv_transpose2d(x, kernel, stride=up, groups=c)
    # that was the full convolution: k - 1 pixels before an unpadded one starts
    before, after = padding[0] - k + 1, padding[1] + up - k
    return F.pad(x, (before, after, before, after))[:, :, ::down, ::down]


def upsample2d(x: Tensor) -> Tensor:
    """Twice the size through the low-pass filter."""
    return upfirdn2d(x, low_pass(x, 2.0), up=2, padding=(2, 1))


def downsample2d(x: Tensor) -> Tensor:
    """Half the size through the low-pass filter."""
    return upfirdn2d(x, low_pass(x), down=2, padding=(1, 1))


def bias_act(x: Tensor, bias: Tensor, gain: float = GAIN) -> Tensor:
    """gain * leaky ReLU of x (b, c, ...) plus a bias (c,); clamped in float16."""
    x = F.leaky_relu(x + bias.to(x.dtype).view(1, -1, *[1] * (x.ndim - 2)), SLOPE) * gain
    return x.clamp(-HALF_LIMIT, HALF_LIMIT) if x.dtype == torch.float16 else x


def conv2d(x: Tensor, weight: Tensor, *, up: bool = False, down: bool = False) -> Tensor:
    """A convolution (c_out, c_in, k, k) that keeps the size, or doubles or halves it by the FIR."""
    k = weight.shape[-1]
    if up:
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return upfirdn2d(x, low_pass(x, 2.0), padding=((6 - k) // 2, (5 - k) // 2))
    if down and k == 1:  # the filter first, at the pixels that are kept
        return F.conv2d(downsample2d(x), weight)
    if down:
        x = upfirdn2d(x, low_pass(x), padding=((k + 1) // 2, k // 2 + 1))
        return F.conv2d(x, weight, stride=2)
    return F.conv2d(x, weight, padding=k // 2)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    gain: float = 1.0,
    demodulate: bool = True,
    up: bool = False,
) -> Tensor:
    """Convolution with weights scaled per image by a style, and normalised (Karras et al., 2020).

    w'_oik = s_i w_oik / sqrt(sum_ik (s_i w_oik)^2 + 1e-8), equations 1 and 3. A scale of input
    channels is one of the input, one of output channels one of the output, so that a single
    dense convolution serves all images.

    Args:
        x: (b, c_in, h, w).
        weight: (c_out, c_in, k, k).
        styles: (b, c_in).
        gain: Scale of all weights; it costs less on the styles.
        demodulate: Divide by the norm.
        up: Double the size.
    """
    if x.dtype == torch.float16 and demodulate:  # the scale cancels, and cannot overflow
        styles = styles / styles.detach().abs().amax(1, keepdim=True).clamp_min(1e-4)
    styles = styles * gain
    x = conv2d(x * styles[:, :, None, None].to(x.dtype), weight, up=up)
    if not demodulate:
        return x
    dtype = torch.promote_types(styles.dtype, torch.float32)
    energy = styles.to(dtype).square() @ weight.to(dtype).square().sum((2, 3)).T
    norm = (energy + 1e-8).rsqrt()  # (b, c_out)
    return x * norm[:, :, None, None].to(x.dtype)


def instance_norm(x: Tensor) -> Tensor:
    """Each image's channels with zero mean and unit variance."""
    x = x - x.mean((2, 3), keepdim=True)
    return x * (x.square().mean((2, 3), keepdim=True) + 1e-8).rsqrt()


def normalize_second_moment(x: Tensor) -> Tensor:
    """Rows (b, d) with mean square 1."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class EqualLinear(nn.Module):
    """x W^T + b with weights N(0, 1) scaled at run time: one learning rate fits all layers.

    Args:
        c_in: Inputs.
        c_out: Outputs.
        bias: Initial bias.
        activate: Apply bias_act.
        lr_multiplier: Learning rate relative to the other layers.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        bias: float = 0.0,
        activate: bool = False,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((c_out,), bias / lr_multiplier))
        self.scale, self.lr_multiplier = lr_multiplier / math.sqrt(c_in), lr_multiplier
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        x, bias = x * self.scale, self.bias * self.lr_multiplier  # x is smaller than the weights
        if self.activate:
            return bias_act(F.linear(x, self.weight), bias)
        return F.linear(x, self.weight, bias)


class EqualConv2d(nn.Module):
    """A convolution with run-time weight scale, and a biased activation unless it has no bias.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel: Size of the kernel.
        up: Double the size.
        down: Halve the size.
        linear: Neither bias nor activation.
        gain: Of the output.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        up: bool = False,
        down: bool = False,
        linear: bool = False,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.bias = None if linear else nn.Parameter(torch.zeros(c_out))
        self.scale, self.gain = 1 / math.sqrt(c_in * kernel**2), gain
        self.up, self.down = up, down

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return conv2d(x, self.weight * (self.scale * self.gain), up=self.up, down=self.down)
        x = conv2d(x, self.weight * self.scale, up=self.up, down=self.down)
        return bias_act(x, self.bias, self.gain * GAIN)
