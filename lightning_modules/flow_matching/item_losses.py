"""Losses image by image, at times and noise that the image's pixels decide."""

from hashlib import blake2b

import torch
from torch import Tensor, nn

from novum.core.pixels import uint8_to_signed
from novum.core.precision import fine_dtype
from novum.core.seeds import random_generator
from novum.lightning_modules.flow_matching.processes import EDM, RectifiedFlow

TIMES = 4  # at which the loss of an image is measured


def generators_of(images: Tensor) -> list[torch.Generator]:
    """A generator for each of uint8 images, at a seed that its pixels decide."""
    digests = [blake2b(x.numpy().tobytes(), digest_size=7).digest() for x in images.cpu()]
    return [random_generator(int.from_bytes(digest)) for digest in digests]


def item_losses(
    network: nn.Module, process: RectifiedFlow | EDM, images: Tensor, labels: Tensor | None
) -> Tensor:
    """The training loss (n,) of uint8 images (n, c, h, w), each the mean at a few times."""
    weight = next(network.parameters())
    x = uint8_to_signed(images.to(weight.device)).to(fine_dtype(weight.dtype))
    drawn = generators_of(images)
    start = torch.cat([torch.rand(1, generator=g, dtype=torch.float32) for g in drawn])
    total = x.new_zeros(len(x))
    for k in range(TIMES):
        t = process.draw_times(((start + k) / TIMES).to(x))
        noise = torch.stack(
            [torch.randn(x.shape[1:], generator=g, dtype=torch.float32) for g in drawn]
        ).to(x)
        inputs, time = process.inputs(process.mix(x, noise, t), t)
        answer = network(inputs.to(weight.dtype), time, labels)
        error = answer - process.target(x, noise, t)
        total += error.square().mean((1, 2, 3)) / TIMES
    return total
