"""Adversarial examples: images in [0, 1] moved within a small ball so that a network errs.

A model is any function from images (b, c, h, w) in [0, 1] to logits (b, k), in evaluation mode.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from novum.core.devices import to_device
from novum.core.errors import InputError
from novum.core.precision import widened
from novum.core.seeds import random_generator

Model = Callable[[Tensor], Tensor]
Epsilon = float | Tensor  # one for all images, or (b,)


class LInf:
    """No pixel moves by more than epsilon."""

    def ascent(self, gradient: Tensor) -> Tensor:
        """The step of norm 1 that raises a loss of this gradient most."""
        return gradient.sign()

    def project(self, delta: Tensor, epsilon: Epsilon) -> Tensor:
        limit = _per_image(epsilon, delta)
        return torch.minimum(torch.maximum(delta, -limit), limit)

    def random(self, like: Tensor, epsilon: Epsilon, seed: int) -> Tensor:
        """Uniform in the ball; a function of the seed and the shape."""
        generator = random_generator(seed)
        unit = torch.rand(like.shape, generator=generator, dtype=torch.float32) * 2 - 1
        return to_device(unit, like.device, like.dtype) * _per_image(epsilon, like)

    def largest(self, image: Tensor) -> float:
        """The epsilon that reaches every image from every other; a larger one is meaningless."""
        return 1.0


class L2:
    """The Euclidean length of the move, over all pixels of an image, is at most epsilon."""

    def ascent(self, gradient: Tensor) -> Tensor:
        return gradient / _norm(gradient)

    def project(self, delta: Tensor, epsilon: Epsilon) -> Tensor:
        return delta * (_per_image(epsilon, delta) / _norm(delta)).clamp(max=1)

    def random(self, like: Tensor, epsilon: Epsilon, seed: int) -> Tensor:
        generator = random_generator(seed)
        direction = torch.randn(like.shape, generator=generator, dtype=torch.float32)
        radius = torch.rand(len(like), generator=generator, dtype=torch.float32)
        radius = radius ** (1 / like[0].numel())
        unit = direction / _norm(direction) * _per_image(radius, direction)
        return to_device(unit, like.device, like.dtype) * _per_image(epsilon, like)

    def largest(self, image: Tensor) -> float:
        return math.sqrt(image.numel())


class PGD:
    """Projected gradient descent (Madry et al., 2018, arXiv:1706.06083).

    With momentum it is MI-FGSM (Dong et al., 2018); with one step and no random start, FGSM.

    Args:
        epsilon: Radius of the ball around the image, for pixels in [0, 1].
        norm: LInf or L2.
        steps: Gradients taken.
        step_size: In shares of epsilon; null is 2.5 / steps (at most 1), which reaches the border
            from anywhere within the ball.
        momentum: Decay of the accumulated gradient (0: none).
        random_start: Begin at a random point of the ball.
        restarts: Runs from different random starts; each image keeps its best.
    """

    def __init__(
        self,
        epsilon: float = 8 / 255,
        norm: LInf | L2 | None = None,
        steps: int = 40,
        step_size: float | None = None,
        momentum: float = 0.0,
        random_start: bool = True,
        restarts: int = 1,
    ) -> None:
        for name, value in {"steps": steps, "restarts": restarts}.items():
            if value < 1:
                raise InputError(f"{name} is {value}: an attack needs at least 1")
        if restarts > 1 and not random_start:
            raise InputError(f"restarts is {restarts}: without random_start they are all the same")
        self.norm = norm if norm is not None else LInf()
        self.epsilon, self.steps, self.momentum = epsilon, steps, momentum
        self.step_size = min(2.5 / steps, 1.0) if step_size is None else step_size
        self.random_start, self.restarts = random_start, restarts
        _check_positive(epsilon)

    def start(self, images: Tensor, epsilon: Epsilon, seed: int) -> Tensor:
        """The first delta (b, c, h, w)."""
        check_epsilon(epsilon, self.norm, images)
        return self._first_delta(images, epsilon, seed)

    def _first_delta(self, images: Tensor, epsilon: Epsilon, seed: int) -> Tensor:
        if not self.random_start:
            return torch.zeros_like(images)
        return (images + self.norm.random(images, epsilon, seed)).clamp(0, 1) - images

    def step(
        self, images: Tensor, delta: Tensor, epsilon: Epsilon, gradient: Tensor, velocity: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next delta and velocity, uphill along `gradient` within the ball and [0, 1]."""
        if self.momentum:
            mean_size = gradient.abs().mean((1, 2, 3), keepdim=True).clamp_min(_TINY)
            gradient = velocity = self.momentum * velocity + gradient / mean_size
        size = self.step_size * _per_image(epsilon, images)
        delta = self.norm.project(delta + size * self.norm.ascent(gradient), epsilon)
        return (images + delta).clamp(0, 1) - images, velocity

    def __call__(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        *,
        targeted: bool = False,
        epsilon: Epsilon | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Adversarial images for labels (b,): away from them, or towards them if targeted.

        An image keeps the first restart that turns it, or else the one of the largest loss. All
        images go through all restarts: which are turned is known to the device alone.
        """
        epsilon = self.epsilon if epsilon is None else epsilon
        check_epsilon(epsilon, self.norm, images)
        epsilon = _per_image(epsilon, images).flatten().expand(len(images))
        best = self._run(model, images, labels, targeted, epsilon, seed)
        if self.restarts == 1:
            return best
        largest, turned = self._outcome(model, best, labels, targeted)
        for restart in range(1, self.restarts):
            found = self._run(model, images, labels, targeted, epsilon, seed + restart)
            loss, now = self._outcome(model, found, labels, targeted)
            better = ~turned & (loss > largest)
            best = torch.where(better[:, None, None, None], found, best)
            largest, turned = torch.where(better, loss, largest), turned | now
        return best

    @torch.no_grad()
    def _outcome(
        self, model: Model, images: Tensor, labels: Tensor, targeted: bool
    ) -> tuple[Tensor, Tensor]:
        """Losses (b,) of attacked images, and which of them are turned."""
        logits = model(images)
        return attack_loss(logits, labels, targeted), (logits.argmax(1) == labels) == targeted

    def _run(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        targeted: bool,
        epsilon: Tensor,
        seed: int,
    ) -> Tensor:
        delta = self._first_delta(images, epsilon, seed)
        velocity = torch.zeros_like(images)
        for _ in range(self.steps):
            gradient, _ = input_gradient(model, images + delta, labels, targeted)
            delta, velocity = self.step(images, delta, epsilon, gradient, velocity)
        return images + delta


def fgsm(
    model: Model, images: Tensor, labels: Tensor, epsilons: Tensor, *, targeted: bool = False
) -> Tensor:
    """x + epsilon sign(grad) for each epsilon (k,) of [0, 1]: (k, b, c, h, w), one backward pass.

    Goodfellow et al. (2015), arXiv:1412.6572, section 4.
    """
    sign = input_gradient(model, images, labels, targeted)[0].sign()
    return (images + epsilons.to(images).view(-1, 1, 1, 1, 1) * sign).clamp(0, 1)


def attack_loss(logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """Objective of an attack, (b,): the log-odds against the label, or those of the target.

    They grow with the cross-entropy, so the direction of the gradient is the same; but that of the
    cross-entropy vanishes where the network is sure, and an attack would seem to fail there.
    """
    own = labels[:, None]
    logits = widened(logits)
    rest = logits.scatter(1, own, -math.inf).logsumexp(1)
    odds = rest - logits.gather(1, own)[:, 0]
    return -odds if targeted else odds


def input_gradient(
    model: Model, images: Tensor, labels: Tensor, targeted: bool = False
) -> tuple[Tensor, Tensor]:
    """The gradient of `attack_loss` by the pixels of images (b, c, h, w), and the loss (b,)."""
    with torch.inference_mode(False), torch.enable_grad():  # a validation forbids gradients
        images = images.detach().clone().requires_grad_(True)
        loss = attack_loss(model(images), labels.clone(), targeted)
        return torch.autograd.grad(loss.sum(), images)[0], loss.detach()


def check_epsilon(epsilon: Epsilon, norm: LInf | L2, images: Tensor) -> None:
    """ValueError for an epsilon that is not positive or that the pixels cannot hold."""
    largest, most = norm.largest(images[0]), float(torch.as_tensor(epsilon).max())
    _check_positive(float(torch.as_tensor(epsilon).min()))
    if most > largest:
        raise InputError(
            f"epsilon is {most:g}: pixels lie in [0, 1], where {type(norm).__name__} moves no image"
            f" by more than {largest:g}; divide by 255 if it is in gray levels"
        )


_TINY = 1e-30  # keeps 0 / 0 away and float32 gradients as they are


def _check_positive(epsilon: float) -> None:
    if not epsilon > 0:
        raise InputError(f"epsilon is {epsilon:g}: it must be above 0; 8/255 = 0.031 is usual")


def _per_image(value: Epsilon, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(like).view(-1, 1, 1, 1)
    return torch.full((1, 1, 1, 1), value, device=like.device, dtype=like.dtype)


def _norm(x: Tensor) -> Tensor:
    # in float64: the squares of small gradients are 0 in float32
    norm = x.double().flatten(1).norm(dim=1).clamp_min(_TINY)
    return norm.to(x).clamp_min(_TINY).view(-1, 1, 1, 1)
