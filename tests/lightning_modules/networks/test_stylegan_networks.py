"""Both generators and the discriminator: shapes, what depends on what, and bad sizes."""

import pytest
import torch

from novum.lightning_modules.networks import StyleGANDiscriminator, StyleGANGenerator
from novum.lightning_modules.networks.stylegan_discriminator import minibatch_deviation
from novum.lightning_modules.networks.stylegan_generator import pyramid

SMALL = dict(width=4, max_width=8)
ARCHITECTURES = ("skip", "residual", "original")


def generator(image_size=8, channels=1, **settings) -> StyleGANGenerator:
    torch.manual_seed(0)
    settings = dict(latent_dim=6, w_dim=5, mapping_layers=2, **SMALL) | settings
    return StyleGANGenerator(image_size, channels, **settings)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("modulation", ["weights", "adain"])
@pytest.mark.parametrize(
    "size,channels", [(8, 1), ((16, 24), 4), (28, 3)], ids=["gray", "wide-rgba", "28px-rgb"]
)
def test_every_variant_makes_images_and_every_weight_learns(
    architecture, modulation, size, channels
):
    g = generator(size, channels, architecture=architecture, modulation=modulation, num_classes=3)
    d = StyleGANDiscriminator(
        size, channels, architecture=architecture, num_classes=3, group=2, **SMALL
    )
    labels = torch.tensor([0, 1, 2, 0])
    images = g(torch.randn(4, 6), labels)
    h, w = (size, size) if isinstance(size, int) else size
    assert images.shape == (4, channels, h, w)
    logits = d(images, labels)
    assert logits.shape == (4,)
    logits.sum().backward()
    for name, parameter in [*g.named_parameters(), *d.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_pyramid_starts_at_four_to_seven_pixels():
    assert pyramid(32, 16, 64) == [((4, 4), 64), ((8, 8), 64), ((16, 16), 32), ((32, 32), 16)]
    assert [size for size, _ in pyramid((48, 96), 1, 9)][0] == (6, 12)
    assert pyramid(256, 64, 512)[0] == ((4, 4), 512)


@pytest.mark.parametrize("size", [7, 30, (32, 33), (4, 64)])
def test_sizes_that_cannot_be_halved_are_named(size):
    with pytest.raises(ValueError, match="halves both sides until the shorter one has 4 to 7"):
        generator(size)


def test_styles_reach_their_own_layers_alone():
    """Changing the style of the last layer changes no coarse feature."""
    g = generator(16).eval()
    ws = torch.randn(1, g.num_styles, 5)
    seen = []
    g.synthesis.blocks[1].register_forward_hook(lambda m, i, out: seen.append(out))
    a = g.synthesis(ws)
    other = ws.clone()
    other[:, 4:] += 1  # of the third resolution and its image
    b = g.synthesis(other)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(a, b)
    assert g.num_styles == 1 + 2 + 2 + 1


def test_noise_is_fresh_in_training_and_fixed_in_evaluation():
    g = generator()
    for name, parameter in g.named_parameters():
        if name.endswith("strength"):
            parameter.data.fill_(1.0)
    ws = torch.zeros(1, g.num_styles, 5)
    assert not torch.equal(g.synthesis(ws), g.synthesis(ws))
    g.eval()
    assert torch.equal(g.synthesis(ws), g.synthesis(ws))


def test_demodulated_features_ignore_the_scale_of_a_style():
    g = generator(architecture="original").eval()
    layer = g.synthesis.blocks[0].layer
    x, w = torch.randn(2, 8, 4, 4), torch.randn(2, 5)
    before = layer(x, w)
    layer.affine.weight.data.mul_(3)
    layer.affine.bias.data.mul_(3)
    torch.testing.assert_close(layer(x, w), before, rtol=1e-4, atol=1e-5)


def test_adain_sets_mean_and_scale():
    g = generator(modulation="adain").eval()
    layer = g.synthesis.blocks[0].layer
    x, w = torch.randn(2, 8, 4, 4), torch.randn(2, 5)
    out, style = layer(x, w), layer.affine(w)
    torch.testing.assert_close(out.mean((2, 3)), style[:, 8:], rtol=1e-4, atol=1e-4)
    scale = out.std((2, 3), correction=0)
    torch.testing.assert_close(scale, (style[:, :8] + 1).abs(), rtol=1e-3, atol=1e-3)


def test_mapping_ignores_the_length_of_z_and_heeds_labels():
    g = generator(num_classes=2)
    z = torch.randn(3, 6)
    zeros, ones = torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.long)
    torch.testing.assert_close(g.map(z, zeros), g.map(5 * z, zeros))
    assert not torch.allclose(g.map(z, zeros), g.map(z, ones))


def test_truncation_and_its_mean():
    g = generator()
    ws = torch.randn(2, g.num_styles, 5)
    for _ in range(2):
        g.track_mean(ws[:, 0].mean(0), rate=0.5)
    torch.testing.assert_close(g.mean_w, 0.75 * ws[:, 0].mean(0))
    torch.testing.assert_close(g.truncate(ws, 1.0), ws)
    assert torch.equal(g.truncate(ws, 0.0), g.mean_w.expand_as(ws))
    cut = g.truncate(ws, 0.5, cutoff=2)
    assert torch.equal(cut[:, 2:], ws[:, 2:])
    torch.testing.assert_close(cut[:, :2], (g.mean_w + ws[:, :2]) / 2)


def test_minibatch_deviation_by_hand():
    x = torch.arange(8.0).view(4, 1, 1, 2).requires_grad_()
    found = minibatch_deviation(x, 2)  # images 0 and 2, 1 and 3: 4 apart everywhere
    torch.testing.assert_close(found, torch.full((4, 1, 1, 2), 2.0))
    assert minibatch_deviation(x, 3).abs().max() < 1e-3  # no larger group divides 4
    same = minibatch_deviation(torch.ones(4, 1, 1, 2), 4)
    assert same.abs().max() < 1e-3


def test_frozen_layers():
    d = StyleGANDiscriminator(16, 1, **SMALL)
    d.freeze(1)
    fixed = {n for n, p in d.named_parameters() if not p.requires_grad}
    assert fixed and all(n.startswith(("from_image.0", "blocks.0")) for n in fixed)
