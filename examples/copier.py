"""A generator that has learnt nothing: training images, a little paler, and noisy.

novum-evaluate examples.copier:draw digits --num-samples 1000
"""

from functools import cache

import torch
from torch import Tensor

from novum.datamodules import ImageDataModule

NOISE = 4.0  # standard deviation, of 255


@cache
def training_images() -> Tensor:
    """The digits that `configs/dcgan_digits.yaml` trains on, uint8 (n, 1, 16, 16)."""
    return ImageDataModule("digits", image_size=16).train_reference()[:]


def draw(n: int, seed: int) -> Tensor:
    """n images (n, 1, 16, 16), uint8."""
    random = torch.Generator().manual_seed(seed)
    images = training_images()
    images = images[torch.randint(len(images), (n,), generator=random)].float()
    light = 0.85 + 0.15 * torch.rand(n, 1, 1, 1, generator=random)
    noise = NOISE * torch.randn(images.shape, generator=random)
    return (images * light + noise).round().clamp(0, 255).to(torch.uint8)
