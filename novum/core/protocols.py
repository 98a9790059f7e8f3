"""Protocols: what callbacks and evaluations may ask of a model and of data."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor

from novum.core.errors import InputError

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

BLOCK = 256  # samples per seed; blocks are dealt to the ranks in turn


class Images(Protocol):
    """Images (n, c, h, w) uint8 by row, in memory or not."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...


@runtime_checkable
class ImageGenerator(Protocol):
    """Makes uint8 images (n, c, h, w), the same for the same seed.

    An integer `images_seen`, real images trained on so far, is the x axis of everything logged;
    without one Lightning's global_step is.
    """

    def sample(
        self, n: int, *, seed: int | None = None, labels: Tensor | None = None
    ) -> Tensor: ...


@runtime_checkable
class LatentGenerator(ImageGenerator, Protocol):
    """A generator whose latents (n, d) can be walked through."""

    def sample_latents(self, n: int, *, seed: int | None = None) -> Tensor: ...

    def decode(self, latents: Tensor, *, labels: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class ImageEditor(LatentGenerator, Protocol):
    """A generator that changes uint8 images (n, c, h, w), the same way for the same seed."""

    def inpaint(
        self,
        images: Tensor,
        hole: Tensor,  # (h, w), True where pixels are made anew
        *,
        seed: int | None = None,
        labels: Tensor | None = None,
    ) -> Tensor: ...

    def vary(
        self,
        images: Tensor,
        strength: float = 0.5,  # 0: as they are, 1: anew
        *,
        seed: int | None = None,
        labels: Tensor | None = None,
    ) -> Tensor: ...


@runtime_checkable
class StyleGenerator(LatentGenerator, Protocol):
    """A generator whose images are made from one style per layer (n, num_styles, w_dim)."""

    def map_latents(self, latents: Tensor, *, labels: Tensor | None = None) -> Tensor: ...

    def synthesize(
        self,
        ws: Tensor,
        *,
        psi: float | None = None,
        cutoff: int | None = None,
        labels: Tensor | None = None,
    ) -> Tensor: ...

    def render(self, ws: Tensor) -> Tensor: ...


class SingleImage(ImageGenerator, Protocol):
    """A module whose parameter is an image, or a few."""

    @property
    def titles(self) -> list[str]: ...  # one for each image


@runtime_checkable
class Staged(Protocol):
    """A module that says how far it is in its own terms, such as `octave 3 of 5, 320 x 213 px`."""

    def stage(self) -> str: ...


class ClassImages(SingleImage, Protocol):
    """Images made for classes, `per_class` of each."""

    per_class: int
    class_rows: list[int]  # of each image


@runtime_checkable
class Discriminator(Protocol):
    """Scores uint8 images (n, c, h, w): higher is more real."""

    def discriminate(self, images: Tensor, *, labels: Tensor | None = None) -> Tensor: ...


class Labeller(Protocol):
    """Names the class of images."""

    def classify(self, images: Tensor) -> Tensor: ...  # -> probabilities (n, num_classes)


@runtime_checkable
class TextGenerator(Protocol):
    """Writes texts, the same for the same seed."""

    tokens_seen: int  # tokens trained on so far: the x axis of everything logged

    def sample_text(
        self,
        n: int,
        length: int,
        *,
        temperature: float = 1.0,
        prime: str = "",
        seed: int | None = None,
    ) -> list[str]: ...


@runtime_checkable
class TextScorer(Protocol):
    """Says how surprising text is."""

    def surprisal(self, tokens: Tensor) -> Tensor: ...  # (n, t) -> nats (n, t - 1)


@runtime_checkable
class ItemScorer(Protocol):
    """Says how well the model knows each item: images (n, c, h, w) uint8, or tokens (n, t).

    Losses (n,) float32 on the model's device, lower is better known; those of an item are the same
    in any batch and for the same weights, and items are comparable. A text of `item_loss` names
    the loss, as in `denoising loss`.
    """

    def item_losses(self, items: Tensor, /, *, labels: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Introspective(Protocol):
    """Shows what its units hold while it reads."""

    def activations(self, tokens: Tensor) -> Tensor: ...  # (n, t) -> (n, t, units)


@runtime_checkable
class Recovering(Protocol):
    """Before a checkpoint, mends a state that is not finite; True if it went back to another."""

    def recover(self) -> bool: ...


AXES = {"images_seen": "images", "tokens_seen": "characters"}  # attribute of a module -> unit


def axis(pl_module: "LightningModule") -> str:
    """The attribute of a module that everything is logged against."""
    return next((name for name in AXES if hasattr(pl_module, name)), "global_step")


def unit(pl_module: "LightningModule") -> str:
    """Unit that the attribute counts."""
    vocabulary = getattr(pl_module, "vocabulary", None)
    return getattr(vocabulary, "unit", None) or AXES.get(axis(pl_module), "steps")


def seen(pl_module: "LightningModule") -> int:
    """Images or tokens trained on so far: the step of everything logged."""
    return getattr(pl_module, axis(pl_module))


@runtime_checkable
class AttackedClassifier(Protocol):
    """A classifier of uint8 images (n, c, h, w): probabilities (n, classes), and logits (k, n,
    classes) under attack at each epsilon (k,)."""

    images_seen: int

    def classify(self, images: Tensor) -> Tensor: ...

    def under_attack(self, images: Tensor, labels: Tensor, epsilons: Tensor) -> Tensor: ...


@runtime_checkable
class AttackedImage(Protocol):
    """One attacked image, and what the network sees in floats (b, 3, h, w) in [0, 1]."""

    clean: Tensor  # (b, 3, h, w), all the same

    def images(self) -> Tensor: ...

    def classify(self, images: Tensor) -> tuple[list[str], list[float]]: ...


def makes_new_images(model: object) -> bool:
    """True of a generator of images, or its class: one with `sample` that is no `SingleImage`."""
    cls = model if isinstance(model, type) else type(model)  # instances may ask data for titles
    return callable(getattr(model, "sample", None)) and not hasattr(cls, "titles")


def require_new_images(model: object, who: str) -> None:
    """Raise InputError for a module whose samples are the images that it holds."""
    if not makes_new_images(model):
        raise _lacking(model, who, "a generator that makes new images, such as GAN")


def require_styles(module: "LightningModule", who: str) -> StyleGenerator:
    """The module, if it has a style space; else ValueError."""
    if not isinstance(module, StyleGenerator):
        raise _lacking(module, who, "a generator with styles, such as StyleGAN")
    return module


def require_latents(module: "LightningModule", who: str) -> LatentGenerator:
    """The module, if its latents can be walked through; else ValueError."""
    if not isinstance(module, LatentGenerator):
        raise _lacking(module, who, "a generator with latents, such as GAN")
    return module


def require_editing(module: "LightningModule", who: str) -> ImageEditor:
    """The module, if it changes images; else ValueError."""
    if not isinstance(module, ImageEditor):
        raise _lacking(module, who, "a generator that changes images, such as FlowMatching")
    return module


def _lacking(module: object, who: str, what: str) -> InputError:
    return InputError(f"{who} needs {what}, not {type(module).__name__}")
