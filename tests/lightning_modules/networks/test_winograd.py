"""Winograd's convolution against the direct one in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from novum.lightning_modules.networks import winograd
from novum.lightning_modules.networks.winograd import WinogradConv2d, pays


def a_convolution(cin: int = 5, cout: int = 7, padding: int = 1, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(cin, cout, 3, padding=padding, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("size", [(8, 8), (9, 14), (23, 8), (11, 17)])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(("batch", "bias"), [(1, True), (3, False)])
@pytest.mark.parametrize("cached", [1, 40_000, 1 << 22])  # a row, some, and all at once
def test_output_and_gradient_are_the_direct_ones(
    size, padding, batch, bias, cached, monkeypatch
) -> None:
    monkeypatch.setattr(winograd, "CACHED", cached)
    monkeypatch.setattr(winograd, "LEAST_PIXELS", 0)
    direct = a_convolution(padding=padding, bias=bias)
    x = torch.randn(batch, 5, *size, requires_grad=True)
    exact = x.detach().double().requires_grad_()
    y = F.relu(WinogradConv2d(direct)(x), inplace=True)
    bias_ = None if direct.bias is None else direct.bias.double()
    expected = F.conv2d(exact, direct.weight.double(), bias_, padding=padding).relu()
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    (expected * weights.double()).sum().backward()
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=1e-5, atol=1e-5)


def test_autocast_and_small_maps_are_left_to_the_convolution() -> None:
    direct = a_convolution()
    module = WinogradConv2d(direct)
    small, large = torch.randn(1, 5, 16, 23), torch.randn(1, 5, 16, 24)
    assert torch.equal(module(small), direct(small))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(large), direct(large))


def test_only_wide_plain_convolutions_are_replaced() -> None:
    assert pays(nn.Conv2d(256, 512, 3, padding=1))
    assert not pays(nn.Conv2d(128, 256, 3, padding=1))
    assert not pays(nn.Conv2d(256, 256, 3, padding=1, stride=2))
    assert not pays(nn.Conv2d(256, 256, 3, padding=1, padding_mode="replicate"))
