"""Likelihood by the ordinary differential equation (Chen et al., 2018; Song et al., 2021)."""

import math
from hashlib import blake2b
from typing import NamedTuple

import torch
from torch import Tensor

from novum.core.pixels import uint8_to_signed
from novum.core.seeds import random_generator
from novum.lightning_modules.flow_matching.flow import Flow
from novum.lightning_modules.flow_matching.solvers import RK45, Euler, Heun, Velocity

LEVEL = 2 / 255  # of a pixel in [-1, 1]


class Bits(NamedTuple):
    """Bits per dimension (n,) of images, and the standard error of each by its trace (n,)."""

    bits: Tensor
    error: Tensor


def generators_of(images: Tensor) -> list[torch.Generator]:
    """A generator for each of uint8 images, at a seed that its pixels decide."""
    digests = [blake2b(x.numpy().tobytes(), digest_size=7).digest() for x in images.cpu()]
    return [random_generator(int.from_bytes(digest)) for digest in digests]


def image_bits(flow: Flow, images: Tensor, labels: Tensor | None, probes: int) -> Bits:
    """Bits per dimension of uint8 images (n, c, h, w), given their classes if labels are.

    Pixels are spread evenly over their levels; that and the signs of the probes are functions of
    each image. The mean over images is an upper bound of what the levels themselves take.
    """
    weight = next(flow.network.parameters())
    x = uint8_to_signed(images.to(weight.device)).flatten(1).to(weight.dtype)
    d, drawn = x.shape[1], generators_of(images)
    shift = torch.stack([torch.rand(d, generator=g) for g in drawn]) - 0.5
    signs = torch.stack([torch.randint(2, (probes, d), generator=g) for g in drawn]) * 2 - 1
    times = flow.process.times_of_density(flow.solver.steps).to(x)
    nats = log_density(
        lambda x, t: flow.velocity(x, t, labels),
        x + LEVEL * shift.to(x),
        signs.to(x),
        flow.solver,
        times,
        flow.process.prior_std,
    )
    bits = -(nats / d + math.log(LEVEL)) / math.log(2)
    error = bits.std(1) / math.sqrt(probes) if probes > 1 else torch.full_like(bits[:, 0], math.nan)
    return Bits(bits.mean(1), error)


def log_density(
    velocity: Velocity,
    x: Tensor,
    probes: Tensor,
    solver: Euler | Heun | RK45,
    times: Tensor,
    prior_std: float,
) -> Tensor:
    """Nats (n, k) of states (n, d), by each of k probes (n, k, d) of the trace.

    From the images to the noise, whose density is known, the logarithm of the density changes by
    the integral of the divergence of the velocity, which is estimated as e^T J e with E[e e^T] = 1
    (Hutchinson's estimator: Grathwohl et al., 2019, arXiv:1810.01367).

    Args:
        velocity: Of states (n, d) at times (n,).
        x: Where the densities are asked for.
        probes: Of mean 0 and variance 1, such as random signs.
        solver: Of the equation.
        times: From the images to the noise.
        prior_std: Standard deviation of the noise.
    """
    d = x.shape[1]

    def with_trace(state: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            here = state[:, :d].detach().requires_grad_()
            slope = velocity(here, t)
            traces = []
            for probe in probes.unbind(1):
                (row,) = torch.autograd.grad(slope, here, probe, retain_graph=True)
                traces.append((row * probe).sum(1))
        return torch.cat([slope.detach(), torch.stack(traces, 1)], 1)

    start = torch.cat([x, x.new_zeros(len(x), probes.shape[1])], 1)
    end = solver(with_trace, start, times).x
    z, change = end[:, :d] / prior_std, end[:, d:]
    prior = -0.5 * z.square().sum(1) - d * math.log(prior_std * math.sqrt(2 * math.pi))
    return prior[:, None] + change
