"""Adversarial losses of logits (b,) and penalties on the discriminator's input gradient."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from novum.core.precision import widened

Logits = Callable[[Tensor], Tensor]  # the discriminator, its labels filled in


def logistic_discriminator_loss(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) (Goodfellow et al., 2014, eq. 1)."""
    return F.softplus(-logits_real).mean() + F.softplus(logits_fake).mean()


def nonsaturating_generator_loss(logits_fake: Tensor) -> Tensor:
    """-log D(G(z)) (Goodfellow et al., 2014, section 3)."""
    return F.softplus(-logits_fake).mean()


def minimax_generator_loss(logits_fake: Tensor) -> Tensor:
    """log(1 - D(G(z))) (Goodfellow et al., 2014, eq. 1)."""
    return -F.softplus(logits_fake).mean()


def hinge_discriminator_loss(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim & Ye, 2017)."""
    return F.relu(1 - logits_real).mean() + F.relu(1 + logits_fake).mean()


def least_squares_discriminator_loss(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """1/2 (D(x) - 1)^2 + 1/2 D(G(z))^2 (Mao et al., 2017, eq. 9)."""
    return 0.5 * ((logits_real - 1).square().mean() + logits_fake.square().mean())


def least_squares_generator_loss(logits_fake: Tensor) -> Tensor:
    """1/2 (D(G(z)) - 1)^2 (Mao et al., 2017, eq. 9)."""
    return 0.5 * (logits_fake - 1).square().mean()


def wasserstein_discriminator_loss(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """D(G(z)) - D(x) (Arjovsky et al., 2017); use with gradient_penalty."""
    return logits_fake.mean() - logits_real.mean()


def linear_generator_loss(logits_fake: Tensor) -> Tensor:
    """-D(G(z)): the generator's side of both the hinge and the Wasserstein loss."""
    return -logits_fake.mean()


def _squared_gradient_norm(logits: Logits, images: Tensor) -> Tensor:
    """|grad_x D(x)|^2 per image, (b,), with a graph for the second derivative.

    `images` are in the precision of the discriminator's weights.
    """
    images = images.detach().requires_grad_(True)
    # in the weights' precision: squared norms overflow fp16 and drown in bf16
    with torch.autocast(images.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(logits(images).sum(), images, create_graph=True)
        return widened(gradient).square().flatten(1).sum(1)


def r1_penalty(logits: Logits, real: Tensor) -> Tensor:
    """1/2 E |grad D(x)|^2 on real images (Mescheder et al., 2018, eq. 9), without its gamma."""
    return 0.5 * _squared_gradient_norm(logits, real).mean()


def wasserstein_gradient_penalty(logits: Logits, real: Tensor, fake: Tensor) -> Tensor:
    """E (|grad D(x~)| - 1)^2, x~ between real and fake (Gulrajani et al., 2017, eq. 3)."""
    t = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    between = torch.lerp(real, fake.detach().to(real.dtype), t)
    # the 1e-12 keeps the square root differentiable at a zero gradient
    norm = (_squared_gradient_norm(logits, between) + 1e-12).sqrt()
    return (norm - 1).square().mean()
