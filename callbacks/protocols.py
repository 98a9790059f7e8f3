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
class StyleGenerator(LatentGenerator, Protocol):
    """A generator whose images are made from one style per layer (n, num_styles, w_dim)."""

    def map_latents(self, latents: Tensor, *, labels: Tensor | None = None) -> Tensor: ...

    def synthesize(
        self, ws: Tensor, *, psi: float | None = None, cutoff: int | None = None
    ) -> Tensor: ...

    def render(self, ws: Tensor) -> Tensor: ...


@runtime_checkable
class Discriminator(Protocol):
    """Scores uint8 images (n, c, h, w): higher is more real."""

    def discriminate(self, images: Tensor, *, labels: Tensor | None = None) -> Tensor: ...
