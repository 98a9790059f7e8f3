"""The ladder of alterations that a copy may have gone through: uint8 images in, uint8 out.

Distances are shares of the image's side, so that a rung means the same at 8 and at 256 px. What an
alteration leaves open (direction, corner, sign, border) is drawn per image.
"""

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from novum.core.errors import InputError
from novum.core.resampling import resize_antialiased
from novum.metrics.novelty.library_edits import edited_by_library, library_edits

BORDERS = ("replicate", "circular", "constant")  # constant: black

Attack = Callable[[Tensor, torch.Generator, Any], Tensor]  # the last: other images, or None


def alter(images: Tensor, attack: str, seed: int = 0, others: Tensor | None = None) -> Tensor:
    """uint8 (n, c, h, w) after a rung of LADDER or one of `library_edits`.

    Args:
        others: What halves are pasted into.
    """
    if attack in LADDER:
        return LADDER[attack](images, torch.Generator().manual_seed(seed), others)
    if attack in (library := library_edits(images.shape[1], images.shape[-1])):
        return edited_by_library(images, attack, seed)
    known = ", ".join([*LADDER, *library])
    raise InputError(f"no attack is called {attack!r}: choose from {known}")


def mirror(images: Tensor, *_: object) -> Tensor:
    return images.flip(-1)


def turn(images: Tensor, rng: torch.Generator, *_: object) -> Tensor:
    """By 90, 180 or 270 degrees; what is not square by 180."""
    square = images.shape[-1] == images.shape[-2]
    quarters = [q + 1 if square else 2 for q in _pick(len(images), 3, rng)]
    return torch.stack([x.rot90(q, (1, 2)) for x, q in zip(images, quarters, strict=True)])


def shift(images: Tensor, rng: torch.Generator, *_: object, share: float) -> Tensor:
    """By `share` of the side along one axis and up to that along the other."""
    n, reach = len(images), _pixels(images, share, least=1)
    offsets = torch.randint(-reach, reach + 1, (n, 2), generator=rng)
    signs, axes = 2 * torch.randint(0, 2, (2, n), generator=rng) - 1
    offsets[torch.arange(n), (axes + 1) // 2] = reach * signs
    borders = _pick(n, len(BORDERS), rng)
    h, w = images.shape[-2:]
    out = []
    for image, (dy, dx), border in zip(images, offsets.tolist(), borders, strict=True):
        padded = F.pad(image[None].float(), (reach,) * 4, BORDERS[border])[0]
        out.append(padded[:, reach - dy : reach - dy + h, reach - dx : reach - dx + w])
    return torch.stack(out).to(torch.uint8)


def crop(
    images: Tensor, rng: torch.Generator, *_: object, share: float, corner: bool = False
) -> Tensor:
    """A window of `share` of the side at a random place or corner, resized back."""
    h, w = images.shape[-2:]
    height, width = (max(1, round(side * share)) for side in (h, w))
    places = torch.rand(len(images), 2, generator=rng)
    places = places.round() if corner else places
    tops, lefts = (places * torch.tensor([h - height, w - width])).round().long().T.tolist()
    windows = torch.stack(
        [x[:, i : i + height, j : j + width] for x, i, j in zip(images, tops, lefts, strict=True)]
    )
    return _to_uint8(resize_antialiased(windows.float(), (h, w)))


def rotate(images: Tensor, rng: torch.Generator, *_: object, degrees: float) -> Tensor:
    """Either way about the centre; what comes from outside is black or the border's pixel."""
    n, (h, w) = len(images), images.shape[-2:]
    angles = torch.deg2rad((2 * torch.tensor(_pick(n, 2, rng)) - 1) * degrees)
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros(n)
    theta = torch.stack([cos, -sin * h / w, zero, sin * w / h, cos, zero], 1).view(n, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    black, border = (
        F.grid_sample(images.float(), grid, padding_mode=mode, align_corners=False)
        for mode in ("zeros", "border")
    )
    return _to_uint8(
        torch.where(torch.tensor(_pick(n, 2, rng)).view(-1, 1, 1, 1) > 0, black, border)
    )


def brightness(images: Tensor, rng: torch.Generator, *_: object, share: float) -> Tensor:
    return _to_uint8(images.float() * _factors(images, rng, share))


def contrast(images: Tensor, rng: torch.Generator, *_: object, share: float) -> Tensor:
    mean = images.float().mean((1, 2, 3), keepdim=True)
    return _to_uint8((images.float() - mean) * _factors(images, rng, share) + mean)


def noise(images: Tensor, rng: torch.Generator, *_: object, sigma: float) -> Tensor:
    return _to_uint8(images.float() + sigma * torch.randn(images.shape, generator=rng))


def jpeg(images: Tensor, *_: object, quality: int) -> Tensor:
    return torch.stack([_through_jpeg(image, quality) for image in images])


def blur(images: Tensor, *_: object) -> Tensor:
    """Mean of 3 x 3 pixels."""
    return _to_uint8(F.avg_pool2d(F.pad(images.float(), (1,) * 4, "replicate"), 3, 1))


def paste(
    images: Tensor, _: torch.Generator, others: Tensor | None, *, height: float, width: float
) -> Tensor:
    """The upper left part of each image over that of another."""
    if others is None or others.shape != images.shape:
        raise InputError(f"pasting needs {tuple(images.shape)} other images to paste into")
    rows, columns = (
        round(s * share) for s, share in zip(images.shape[-2:], (height, width), strict=True)
    )
    pasted = others.clone()
    pasted[..., :rows, :columns] = images[..., :rows, :columns]
    return pasted


def in_turn(images: Tensor, rng: torch.Generator, others: Tensor | None, attacks: tuple) -> Tensor:
    for attack in attacks:
        images = attack(images, rng, others)
    return images


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    """(c, h, w), gray or RGB with the encoder's own chroma subsampling."""
    array = image.permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array[..., 0] if len(image) == 1 else array).save(file, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(file)).reshape(array.shape)
    return torch.from_numpy(decoded.copy()).permute(2, 0, 1)


def _pixels(images: Tensor, share: float, least: int) -> int:
    return max(least, round(images.shape[-1] * share))


def _pick(n: int, choices: int, rng: torch.Generator) -> list[int]:
    return torch.randint(0, choices, (n,), generator=rng).tolist()


def _factors(images: Tensor, rng: torch.Generator, share: float) -> Tensor:
    signs = 2 * torch.tensor(_pick(len(images), 2, rng)) - 1
    return (1 + share * signs).view(-1, 1, 1, 1)


def _to_uint8(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


LADDER: dict[str, Attack] = {
    "identical": lambda images, *_: images.clone(),
    "mirrored": mirror,
    "turned 90° or more": turn,
    "shifted 10%": partial(shift, share=0.1),  # 3 of 32 px
    "shifted 20%": partial(shift, share=0.2),
    "cropped to 88%": partial(crop, share=7 / 8),
    "cropped to 75%": partial(crop, share=3 / 4),
    "corner of 75%": partial(crop, share=3 / 4, corner=True),
    "corner of 50%": partial(crop, share=1 / 2, corner=True),
    "brightness ±20%": partial(brightness, share=0.2),
    "contrast ±20%": partial(contrast, share=0.2),
    "noise 8": partial(noise, sigma=8),
    "noise 24": partial(noise, sigma=24),
    "JPEG 75": partial(jpeg, quality=75),
    "JPEG 50": partial(jpeg, quality=50),
    "JPEG 30": partial(jpeg, quality=30),
    "JPEG 10": partial(jpeg, quality=10),
    "blurred 3x3": blur,
    "rotated 5°": partial(rotate, degrees=5),
    "rotated 10°": partial(rotate, degrees=10),
    "rotated 15°": partial(rotate, degrees=15),
    "rotated 30°": partial(rotate, degrees=30),
    "left half pasted": partial(paste, height=1, width=1 / 2),
    "quarter pasted": partial(paste, height=1 / 2, width=1 / 2),
    "mirrored, cropped to 88%, JPEG 50": partial(
        in_turn, attacks=(mirror, partial(crop, share=7 / 8), partial(jpeg, quality=50))
    ),
    "rotated 5°, brightness ±20%, noise 8": partial(
        in_turn,
        attacks=(
            partial(rotate, degrees=5),
            partial(brightness, share=0.2),
            partial(noise, sigma=8),
        ),
    ),
}
