"""StyleGAN's operations against their definitions, and their first and second derivatives."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from novum.lightning_modules.networks.stylegan_ops import (
    EqualConv2d,
    EqualLinear,
    bias_act,
    conv2d,
    downsample2d,
    instance_norm,
    low_pass,
    modulated_conv2d,
    normalize_second_moment,
    upfirdn2d,
    upsample2d,
)


def doubles(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)


def naive_upfirdn(x, taps, up, down, padding):
    """Insert zeros, pad or crop, convolve (so flip), decimate: word for word."""
    b, c, h, w = x.shape
    wide = x.new_zeros(b, c, h * up, w * up)
    wide[:, :, ::up, ::up] = x
    wide = F.pad(wide, (*padding, *padding))
    k = len(taps)
    out = x.new_zeros(b, c, wide.shape[2] - k + 1, wide.shape[3] - k + 1)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            kernel = torch.outer(taps, taps).flip(0, 1)
            out[:, :, i, j] = (wide[:, :, i : i + k, j : j + k] * kernel).sum((2, 3))
    return out[:, :, ::down, ::down]


@settings(max_examples=40)
@given(
    up=st.integers(1, 3),
    down=st.integers(1, 3),
    before=st.integers(-1, 4),
    after=st.integers(-1, 4),
    taps=st.sampled_from([(1.0, 3.0, 3.0, 1.0), (1.0, 2.0, 5.0), (2.0, 1.0)]),
    height=st.integers(5, 7),
)
def test_upfirdn_is_its_definition(up, down, before, after, taps, height):
    x = torch.randn(2, 3, height, 6, dtype=torch.float64)
    taps = torch.tensor(taps, dtype=torch.float64)
    ours = upfirdn2d(x, taps, up=up, down=down, padding=(before, after))
    torch.testing.assert_close(ours, naive_upfirdn(x, taps, up, down, (before, after)))


def test_resampling_keeps_size_and_brightness():
    flat = torch.full((1, 2, 8, 6), 0.3)
    assert upsample2d(flat).shape == (1, 2, 16, 12)
    assert downsample2d(flat).shape == (1, 2, 4, 3)
    torch.testing.assert_close(upsample2d(flat)[:, :, 2:-2, 2:-2], torch.full((1, 2, 12, 8), 0.3))
    torch.testing.assert_close(downsample2d(flat)[:, :, 1:-1, 1:-1], torch.full((1, 2, 2, 1), 0.3))


def naive_modulated(x, weight, styles, demodulate, up):
    """Weights of their own for each image: equations 1 and 3 of Karras et al. (2020)."""
    images = []
    for image, style in zip(x, styles, strict=True):
        w = weight * style[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            image = F.conv_transpose2d(image[None], w.transpose(0, 1), stride=2)
            taps = low_pass(image, 2.0)
            k = weight.shape[-1]
            images.append(naive_upfirdn(image, taps, 1, 1, ((6 - k) // 2, (5 - k) // 2)))
        else:
            images.append(F.conv2d(image[None], w, padding=weight.shape[-1] // 2))
    return torch.cat(images)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
def test_modulated_convolution_is_one_of_scaled_weights(up, demodulate, kernel):
    x, weight, styles = doubles(3, 4, 5, 6), doubles(2, 4, kernel, kernel), doubles(3, 4, seed=1)
    ours = modulated_conv2d(x, weight, styles, demodulate=demodulate, up=up)
    reference = naive_modulated(x, weight, styles, demodulate, up)
    assert ours.shape == (3, 2, *((10, 12) if up else (5, 6)))
    torch.testing.assert_close(ours, reference)


def test_convolutions_that_halve():
    x = torch.randn(2, 3, 8, 10, dtype=torch.float64)
    taps = low_pass(x)
    for kernel in (1, 3):
        weight = torch.randn(4, 3, kernel, kernel, dtype=torch.float64)
        pads = {1: (1, 1), 3: (2, 2)}[kernel]
        blurred = naive_upfirdn(x, taps, 1, 1, pads)
        expected = F.conv2d(blurred, weight, stride=2)
        torch.testing.assert_close(conv2d(x, weight, down=True), expected)
        assert expected.shape == (2, 4, 4, 5)


OPERATIONS = {
    "upfirdn up": (lambda x: upfirdn2d(x, low_pass(x), up=2, padding=(2, 1)), [(1, 2, 3, 4)]),
    "upfirdn down": (lambda x: upfirdn2d(x, low_pass(x), down=2, padding=(1, 1)), [(1, 2, 4, 6)]),
    "bias_act": (bias_act, [(2, 3, 2, 2), (3,)]),
    "modulated": (modulated_conv2d, [(2, 3, 3, 4), (2, 3, 3, 3), (2, 3)]),
    "modulated up": (
        lambda x, w, s: modulated_conv2d(x, w, s, up=True),
        [(2, 2, 3, 3), (2, 2, 3, 3), (2, 2)],
    ),
    "to image": (
        lambda x, w, s: modulated_conv2d(x, w, s, demodulate=False),
        [(2, 3, 3, 3), (2, 3, 1, 1), (2, 3)],
    ),
    "halving": (lambda x, w: conv2d(x, w, down=True), [(1, 2, 4, 4), (2, 2, 3, 3)]),
    "instance norm": (instance_norm, [(2, 2, 3, 3)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_first_and_second_derivatives(name):
    function, shapes = OPERATIONS[name]
    inputs = [doubles(*shape, seed=i) for i, shape in enumerate(shapes)]
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_bias_act_by_hand_and_its_clamp():
    x = torch.tensor([[-2.0, 3.0]])
    expected = torch.tensor([[-0.2 * 2**0.5, 3 * 2**0.5]])
    torch.testing.assert_close(bias_act(x, torch.tensor([1.0, 0.0])), expected)
    assert float(bias_act(torch.full((1, 1), 3e4).half(), torch.zeros(1))) == 256


def test_float16_styles_cannot_overflow():
    x, weight = torch.full((1, 4, 3, 3), 200.0).half(), torch.randn(2, 4, 3, 3).half()
    styles = torch.full((1, 4), 3e3)
    half = modulated_conv2d(x, weight, styles)
    exact = modulated_conv2d(x.double(), weight.double(), styles.double())
    assert half.isfinite().all()
    torch.testing.assert_close(half.double(), exact, rtol=0.02, atol=1.0)


def test_equalised_layers_keep_the_variance():
    torch.manual_seed(0)
    x = torch.randn(4096, 64)
    images = torch.randn(8, 32, 16, 16)
    for made in (
        EqualLinear(64, 256)(x),
        EqualLinear(64, 64, lr_multiplier=0.01)(x),
        EqualConv2d(32, 64, 3, linear=True)(images)[:, :, 1:-1, 1:-1],
    ):
        assert float(made.detach().std()) == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(normalize_second_moment(x).square().mean(1), torch.ones(4096))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_operations_compile_without_graph_breaks():
    layer = torch.compile(lambda x, w, s, b: bias_act(modulated_conv2d(x, w, s), b), fullgraph=True)
    inputs = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 3, 3), torch.randn(2, 3), torch.randn(5)
    expected = bias_act(modulated_conv2d(*inputs[:3]), inputs[3])
    torch.testing.assert_close(layer(*inputs), expected, rtol=1e-4, atol=1e-5)
