"""U-Net and DiT: shapes, what begins at zero, conditioning, sizes that cannot be."""

import pytest
import torch

from novum.lightning_modules.networks import DiT, UNet
from novum.lightning_modules.networks.unet import Attention
from tests.tiny import awake

T = torch.tensor([0.1, 0.9])
MAKE = {
    "unet": lambda **more: UNet(
        8, 3, **{"width": 12, "multipliers": (1, 2), "attention": (4,), "head_width": 8, **more}
    ),
    "dit": lambda **more: DiT(8, 3, **{"width": 16, "depth": 2, "heads": 2, **more}),
}


@pytest.mark.parametrize("name", MAKE)
def test_the_answer_begins_at_zero_and_has_the_shape_of_the_images(name):
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(MAKE[name]()(x, T), torch.zeros_like(x))
    assert awake(MAKE[name]())(x, T).abs().max() > 0


@pytest.mark.parametrize("name", MAKE)
def test_time_and_class_tell(name):
    network, x = awake(MAKE[name](num_classes=3)), torch.randn(2, 3, 8, 8)
    one = network(x, T, torch.tensor([0, 0]))
    assert not torch.allclose(one, network(x, T, torch.tensor([1, 1])))
    assert not torch.allclose(one, network(x, T.flip(0), torch.tensor([0, 0])))
    torch.testing.assert_close(network(x, T), network(x, T, torch.tensor([3, 3])))


@pytest.mark.parametrize("name", MAKE)
def test_every_weight_that_learns_gets_a_gradient(name):
    network = awake(MAKE[name](num_classes=3))
    network(torch.randn(2, 3, 8, 8), T, torch.tensor([0, 3])).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is None or parameter.grad.abs().max() > 0, key
        assert (parameter.grad is None) == (not parameter.requires_grad), key


def test_attention_is_its_formula():
    """Softmax of the scaled products of queries and keys, in each head (Vaswani et al., 2017)."""
    attention = awake(Attention(16, head_width=8))
    x = torch.randn(2, 16, 3, 4)
    q, k, v = attention.qkv(attention.norm(x)).flatten(2).chunk(3, dim=1)  # (2, 16, 12) each
    heads = []
    for own in (slice(0, 8), slice(8, 16)):
        weights = torch.einsum("bcn,bcm->bnm", q[:, own], k[:, own]) / 8**0.5
        heads.append(torch.einsum("bnm,bcm->bcn", weights.softmax(2), v[:, own]))
    expected = x + attention.out(torch.cat(heads, 1).unflatten(2, (3, 4)))
    torch.testing.assert_close(attention(x), expected)


def test_attention_is_where_it_is_asked_for():
    network = UNet(16, 1, 0, 8, (1, 2, 2), blocks=1, attention=(8,))
    sizes = []
    for module in network.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda _, inputs, out: sizes.append(inputs[0].shape[2]))
    network(torch.randn(1, 1, 16, 16), T[:1])
    assert sizes == [8] * 3  # a block on the way down, and two on the way up


def test_places_of_tokens_are_all_different():
    place = DiT(16, 1, 0, patch=2, width=32, depth=1, heads=2).place
    assert place.shape == (64, 32) and not place.requires_grad
    apart = torch.cdist(place, place) + 10 * torch.eye(64)
    assert apart.min() > 0.1


@pytest.mark.parametrize(("make", "says"), [
    (lambda: UNet(12, 1, multipliers=(1, 2, 2, 2)), "image_size is 12: 4 multipliers halve it 3"),
    (lambda: UNet(8, 1, width=20, multipliers=(1,), attention=(8,), head_width=6), "head_width"),
    (lambda: DiT(9, 1, patch=2), "image_size is 9: it must be a multiple of patch, 2"),
    (lambda: DiT(8, 1, width=30, heads=3), "width is 30: it must be a multiple of 4 x heads, 12"),
])  # fmt: skip
def test_sizes_that_cannot_be(make, says):
    with pytest.raises(ValueError, match=says):
        make()
