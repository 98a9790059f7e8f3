"""Shapes, ranges, published sizes, initialisation, conditioning, spectral norm."""

import inspect

import pytest
import torch

from novum.core.errors import InputError
from novum.lightning_modules import networks
from novum.lightning_modules.networks import (
    DCGANDiscriminator,
    DCGANGenerator,
    Maxout,
    MaxoutDiscriminator,
    MaxoutGenerator,
)


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128, 256])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_dcgan_shapes(size, num_classes):
    generator = DCGANGenerator(size, 3, latent_dim=5, width=2, num_classes=num_classes)
    discriminator = DCGANDiscriminator(size, 3, width=2, num_classes=num_classes)
    labels = torch.tensor([0, 1]) if num_classes else None
    images = generator(torch.randn(2, 5), labels)
    assert images.shape == (2, 3, size, size)
    assert images.abs().max() <= 1
    assert discriminator(images, labels).shape == (2,)


@pytest.mark.parametrize("network", [DCGANGenerator, DCGANDiscriminator])
def test_dcgan_starts_without_biases(network):
    parameters = dict(network(16, num_classes=2).named_parameters())
    biases = [x for name, x in parameters.items() if name.endswith("bias")]
    assert biases and not any(x.any() for x in biases)
    assert 0.015 < parameters["embedding.weight"].std() < 0.025


@pytest.mark.parametrize("size", [4, 28, 512])
def test_dcgan_refuses_other_sizes(size):
    with pytest.raises(ValueError, match=f"image_size is {size}.*power of two"):
        DCGANGenerator(size)


def test_dcgan_initialisation():
    weight = DCGANGenerator(32, 3, width=64).layers[2].weight.detach()
    assert weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("network", [DCGANGenerator, DCGANDiscriminator])
def test_spectral_norm_bounds_every_layer(network):
    layers = network(16, 1, width=8, spectral_norm=True).train()
    for _ in range(50):  # power iterations
        shape = (4, 128) if network is DCGANGenerator else (4, 1, 16, 16)
        layers(torch.randn(shape))
    for module in layers.modules():
        if hasattr(module, "parametrizations"):
            weight = module.weight
            if isinstance(module, torch.nn.ConvTranspose2d):
                weight = weight.transpose(0, 1)
            largest = torch.linalg.matrix_norm(weight.flatten(1), ord=2)
            assert largest.detach().item() == pytest.approx(1.0, abs=0.05)


def test_labels_change_the_output():
    z = torch.randn(1, 4)
    for network in (DCGANGenerator(8, 1, 4, 8, num_classes=2), MaxoutGenerator(8, 1, 4, 8, 2)):
        network.eval()
        a, b = (network(z, torch.tensor([label])) for label in (0, 1))
        assert not torch.allclose(a, b)
    x = torch.randn(1, 1, 8, 8)
    for network in (
        DCGANDiscriminator(8, 1, 8, num_classes=2),
        MaxoutDiscriminator(8, 1, 6, 2, num_classes=2),
    ):
        network.eval()
        a, b = (network(x, torch.tensor([label])) for label in (0, 1))
        assert not torch.allclose(a, b)


def test_maxout_is_the_maximum_of_its_pieces():
    layer = Maxout(3, units=2, pieces=4, init_range=1.0)
    x = torch.randn(5, 3)
    pieces = (x @ layer.linear.weight.T + layer.linear.bias).view(5, 2, 4)
    assert torch.allclose(layer(x), pieces.max(2).values)


def test_goodfellow_networks_as_published():
    generator, discriminator = MaxoutGenerator(), MaxoutDiscriminator()
    assert sum(p.numel() for p in generator.parameters()) == (
        100 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 784 + 784
    )
    assert sum(p.numel() for p in discriminator.parameters()) == (
        784 * 1200 + 1200 + 240 * 1200 + 1200 + 240 + 1
    )
    assert generator.output.weight.detach().abs().max().item() <= 0.05
    assert discriminator.layers[1].linear.weight.detach().abs().max().item() <= 0.005
    drops = [m.p for m in discriminator.modules() if isinstance(m, torch.nn.Dropout)]
    assert drops == [0.2, 0.5, 0.5]


def test_generator_starts_at_the_mean_image():
    generator = MaxoutGenerator(8, 1, 4, 16)
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    generator.initialise_from_data(images)
    generator.output.weight.data.zero_()
    expected = images.double().mean(0) / 127.5 - 1
    assert torch.allclose(generator(torch.randn(1, 4))[0].double(), expected, atol=1e-5)


SIZES = [
    (name, argument)
    for name in networks.__all__
    for argument, parameter in inspect.signature(getattr(networks, name)).parameters.items()
    if parameter.annotation in (int, "int") and argument != "group"
]


@pytest.mark.parametrize(("name", "argument"), SIZES)
def test_no_network_has_a_size_below_one(name, argument):
    """In one line that names it; a network without classes has 0 of them."""
    network = getattr(networks, name)
    needed = inspect.signature(network).parameters.values()
    given = {x.name: 16 for x in needed if x.default is x.empty}
    with pytest.raises(InputError, match=rf"\b{argument}\b|multiple of patch|context|layers"):
        network(**{**given, argument: -1})
    if argument != "num_classes" or name in ("FineTuned", "SmallCNN", "SoftmaxRegression"):
        with pytest.raises(InputError):
            network(**{**given, argument: 0})
