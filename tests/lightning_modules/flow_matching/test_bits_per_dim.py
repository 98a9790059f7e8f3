"""Likelihoods by the flow against those of Gaussians, whose flows are known."""

import math

import pytest
import torch
from torch import nn

from novum.lightning_modules import EDM, RK45, Euler, FlowMatching, Heun, RectifiedFlow
from novum.lightning_modules.flow_matching.bits_per_dim import log_density
from tests.tiny import tiny_flow


def gaussian(d: int, seed: int = 0):
    """Mean (d,) and a full covariance (d, d)."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64) / math.sqrt(d)
    return torch.randn(d, generator=generator, dtype=torch.float64), root @ root.T + torch.eye(
        d
    ) / 4


def exact_velocity(mean, covariance):
    """E[image - noise | x] along straight lines to N(mean, covariance): a linear flow."""
    eye = torch.eye(len(mean), dtype=torch.float64)

    def velocity(x, t):
        t = float(t[0])
        total = t**2 * covariance + (1 - t) ** 2 * eye
        gain = (t * covariance - (1 - t) * eye) @ torch.linalg.inv(total)
        return mean + (x - t * mean) @ gain.T

    return velocity


def signs(n, k, d, seed=1):
    draws = torch.randint(2, (n, k, d), generator=torch.Generator().manual_seed(seed))
    return (draws * 2 - 1).double()


def test_density_of_a_gaussian_by_its_flow():
    """With a probe for each axis the trace is exact, and so is the density."""
    d = 6
    mean, covariance = gaussian(d)
    law = torch.distributions.MultivariateNormal(mean, covariance)
    x = law.sample((20,))
    axes = (math.sqrt(d) * torch.eye(d, dtype=torch.float64)).expand(20, -1, -1)
    times = torch.linspace(1, 0, 401, dtype=torch.float64)
    nats = log_density(exact_velocity(mean, covariance), x, axes, Heun(), times, 1.0)
    torch.testing.assert_close(nats.mean(1), law.log_prob(x), rtol=1e-3, atol=1e-3)


def test_the_standard_error_of_the_trace_is_that_of_many_probes():
    d, k = 6, 100
    mean, covariance = gaussian(d)
    law = torch.distributions.MultivariateNormal(mean, covariance)
    x = law.sample((10,))
    times = torch.linspace(1, 0, 51, dtype=torch.float64)
    nats = log_density(exact_velocity(mean, covariance), x, signs(10, k, d), Heun(), times, 1.0)
    away = (nats.mean(1) - law.log_prob(x)) / (nats.std(1) / math.sqrt(k))
    assert nats.std(1).min() > 0.05  # a full covariance: signs differ
    assert away.abs().max() < 4
    assert away.square().mean() < 4


class Exact(nn.Module):
    """The network that answers right for pixels that are independent N(mean, std^2)."""

    image_size, channels, num_classes = 4, 1, 0

    def __init__(self, process, mean=0.2, std=0.3):
        super().__init__()
        self.process, self.mean, self.std = process, mean, std
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, time, labels=None):
        if isinstance(self.process, RectifiedFlow):
            t = time[:, None, None, None]
            total = t**2 * self.std**2 + (1 - t) ** 2
            return self.mean + (t * self.std**2 - (1 - t)) / total * (inputs - t * self.mean)
        sigma = torch.exp(4 * time)
        skip, out, scale = self.process.scales(inputs, sigma)
        x, level = inputs / scale, sigma[:, None, None, None] ** 2
        image = (level * self.mean + self.std**2 * x) / (self.std**2 + level)
        return (image - skip * x) / out + 0 * self.weight


def discrete_bits(images, mean=0.2, std=0.3):
    """Bits a pixel that levels take under the Gaussian's density, spread over each level."""
    x = images.double() / 127.5 - 1
    law = torch.distributions.Normal(torch.tensor(mean).double(), torch.tensor(std).double())
    shift = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64) * 2 / 255
    nats = law.log_prob(x[..., None] + shift).mean(-1) + math.log(2 / 255)
    return -(nats / math.log(2)).flatten(1).mean(1)


@pytest.mark.parametrize("process", [RectifiedFlow(), EDM()], ids=["rectified flow", "EDM"])
@pytest.mark.parametrize("solver", [None, RK45(1e-4, 1e-4)], ids=["as validated", "RK45"])
def test_bits_of_pixels_whose_law_is_known(process, solver):
    module = FlowMatching(Exact(process), process)
    images = torch.randint(
        100, 190, (6, 1, 4, 4), generator=torch.Generator().manual_seed(0)
    ).byte()
    found = module.bits_per_dim(images, solver=solver)
    assert found.bits.shape == found.error.shape == (6,)
    torch.testing.assert_close(found.bits.double(), discrete_bits(images), rtol=0.01, atol=0.01)
    assert found.error.max() < 1e-3  # a diagonal divergence, which signs find exactly


@pytest.mark.parametrize("process", [RectifiedFlow(), EDM()], ids=["rectified flow", "EDM"])
@pytest.mark.parametrize("solver", [Euler(200), Heun(20), RK45()], ids=["Euler", "Heun", "RK45"])
def test_samples_have_the_law_of_the_images(process, solver):
    module = FlowMatching(Exact(process), process, solver)
    pixels = module.sample(512, seed=0).double() / 127.5 - 1
    assert float(pixels.mean()) == pytest.approx(0.2, abs=0.02)
    assert float(pixels.std()) == pytest.approx(0.3, abs=0.02)


def test_bits_are_those_of_each_image_alone():
    module = tiny_flow(3)
    torch.nn.init.normal_(module.ema.last[-1].weight, std=0.1)
    images = torch.randint(256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    labels = torch.arange(5) % 3
    together = module.bits_per_dim(images, labels=labels, solver=RK45())
    for i in range(5):
        alone = module.bits_per_dim(images[i : i + 1], labels=labels[i : i + 1], solver=RK45())
        torch.testing.assert_close(alone.bits[0], together.bits[i], rtol=1e-4, atol=1e-4)
    assert (together.error > 0).all()
