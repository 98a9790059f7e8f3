"""Losses image by image, at times and noise that are the same for all."""

import torch
from torch import Tensor, nn

from novum.core.pixels import uint8_to_signed
from novum.core.precision import fine_dtype, widened
from novum.core.seeds import random_generator
from novum.lightning_modules.flow_matching.processes import EDM, RectifiedFlow

TIMES = 4  # at which the loss of an image is measured
SEED = 0  # of the noise


def item_losses(
    network: nn.Module, process: RectifiedFlow | EDM, images: Tensor, labels: Tensor | None
) -> Tensor:
    """The training loss (n,) of uint8 images (n, c, h, w), each the mean at a few times.

    Images share the times, in the middle of equal shares of those drawn in training, and the noise
    at each: losses differ by what the network knows of the images, not by chance.
    """
    weight = next(network.parameters())
    x = uint8_to_signed(images.to(weight.device)).to(fine_dtype(weight.dtype))
    generator = random_generator(SEED)
    total = x.new_zeros(len(x))
    for k in range(TIMES):
        t = process.draw_times(x.new_full((len(x),), (k + 0.5) / TIMES))
        noise = torch.randn(x.shape[1:], generator=generator, dtype=torch.float32)
        noise = noise.to(x).expand_as(x)
        inputs, time = process.inputs(process.mix(x, noise, t), t)
        answer = widened(network(inputs.to(weight.dtype), time, labels))
        error = answer - process.target(x, noise, t)
        total += error.square().mean((1, 2, 3)) / TIMES
    return total
