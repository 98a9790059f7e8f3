"""All that callbacks know of a model and of data."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class ImageGenerator(Protocol):
    """Makes uint8 images (n, c, h, w), the same for the same seed."""

    images_seen: int  # real images trained on so far: the x axis of everything logged

    def sample(
        self, n: int, *, seed: int | None = None, labels: Tensor | None = None
    ) -> Tensor: ...


@runtime_checkable
class LatentGenerator(ImageGenerator, Protocol):
    """A generator whose latents (n, d) can be walked through."""

    def sample_latents(self, n: int, *, seed: int | None = None) -> Tensor: ...

    def decode(self, latents: Tensor, *, labels: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Discriminator(Protocol):
    """Scores uint8 images (n, c, h, w): higher is more real."""

    def discriminate(self, images: Tensor, *, labels: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class AttackedClassifier(Protocol):
    """Logits (k, n, classes) of uint8 images (n, c, h, w) under attack at each epsilon (k,)."""

    images_seen: int

    def under_attack(self, images: Tensor, labels: Tensor, epsilons: Tensor) -> Tensor: ...


@runtime_checkable
class AttackedImage(Protocol):
    """One attacked image, and what the network sees in floats (b, 3, h, w) in [0, 1]."""

    clean: Tensor  # (b, 3, h, w), all the same

    def images(self) -> Tensor: ...

    def classify(self, images: Tensor) -> tuple[list[str], list[float]]: ...
