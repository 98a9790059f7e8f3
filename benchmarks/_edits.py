"""Edits of single images that the product's ladder and power card were not written with.

Each takes a uint8 image (c, h, w), another image of its shape and a generator of random numbers,
and returns a uint8 image of the same shape. Lengths are shares of the side, so that an edit means
the same at 32 and at 256 px.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import functional as F

Edit = Callable[[Tensor, Tensor, np.random.Generator], Tensor]


def to_size(image: Tensor, height: int, width: int) -> Tensor:
    return F.resize(image, [max(1, height), max(1, width)], antialias=True)


def put(image: Tensor, background: Tensor, rng: np.random.Generator, *, share: float) -> Tensor:
    """The whole image, `share` of the side, at a random place of the background."""
    h, w = image.shape[-2:]
    small = to_size(image, round(h * share), round(w * share))
    top = int(rng.integers(0, h - small.shape[-2] + 1))
    left = int(rng.integers(0, w - small.shape[-1] + 1))
    out = background.clone()
    out[:, top : top + small.shape[-2], left : left + small.shape[-1]] = small
    return out


def framed(image: Tensor, _: Tensor, rng: np.random.Generator, *, share: float) -> Tensor:
    """In the middle of a field of one colour."""
    h, w = image.shape[-2:]
    small = to_size(image, round(h * share), round(w * share))
    colour = torch.from_numpy(rng.integers(0, 256, (image.shape[0], 1, 1), dtype=np.uint8))
    out = colour.expand(image.shape).clone()
    top, left = (h - small.shape[-2]) // 2, (w - small.shape[-1]) // 2
    out[:, top : top + small.shape[-2], left : left + small.shape[-1]] = small
    return out


def collage(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """One of two by two pictures; the others are parts of another image."""
    h, w = image.shape[-2] // 2, image.shape[-1] // 2
    tiles = [to_size(x, h, w) for x in (other, other.flip(-1), 255 - other)]
    tiles.insert(int(rng.integers(0, 4)), to_size(image, h, w))
    grid = torch.cat([torch.cat(tiles[:2], 2), torch.cat(tiles[2:], 2)], 1)
    return to_size(grid, *image.shape[-2:])


def cropped(image: Tensor, _: Tensor, rng: np.random.Generator, *, share: float) -> Tensor:
    h, w = image.shape[-2:]
    height, width = round(h * share), round(w * share)
    top, left = int(rng.integers(0, h - height + 1)), int(rng.integers(0, w - width + 1))
    return to_size(image[:, top : top + height, left : left + width], h, w)


def stretched(image: Tensor, _: Tensor, rng: np.random.Generator, *, factor: float) -> Tensor:
    """Wider (or higher) by the factor; what sticks out is cut off."""
    h, w = image.shape[-2:]
    wide = rng.random() < 0.5
    size = (h, round(w * factor)) if wide else (round(h * factor), w)
    return F.center_crop(to_size(image, *size), [h, w])


def perspective(image: Tensor, _: Tensor, rng: np.random.Generator, *, share: float) -> Tensor:
    h, w = image.shape[-2:]
    corners = np.array([[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]], float)
    inward = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * rng.random((4, 2)) * share * [w, h]
    ends = (corners + inward).round().astype(int).tolist()
    return F.perspective(image, corners.astype(int).tolist(), ends)


def turned(image: Tensor, _: Tensor, rng: np.random.Generator, *, degrees: float) -> Tensor:
    return F.rotate(image, degrees * rng.choice([-1, 1]), F.InterpolationMode.BILINEAR)


def stickers(image: Tensor, _: Tensor, rng: np.random.Generator) -> Tensor:
    """Five discs, each a fifth of the side wide."""
    drawing, draw = _drawn(image)
    side = image.shape[-1]
    for _i in range(5):
        x, y = rng.random(2) * side
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        r = side / 10
        draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)
    return _undrawn(drawing, image)


def text_over(image: Tensor, _: Tensor, rng: np.random.Generator) -> Tensor:
    """Three lines of large letters."""
    drawing, draw = _drawn(image)
    side = image.shape[-1]
    font = ImageFont.load_default(size=max(6, side / 7))
    for line in range(3):
        letters = "".join(rng.choice(list("ABCDEFGHKLMNPRSTUVXYZ"), 9))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        draw.text((side * 0.02, side * (0.1 + 0.3 * line)), letters, fill=colour, font=font)
    return _undrawn(drawing, image)


def cut_out(image: Tensor, _: Tensor, rng: np.random.Generator, *, share: float) -> Tensor:
    """A black square, `share` of the side, at a random place."""
    h, w = image.shape[-2:]
    height, width = round(h * share), round(w * share)
    top, left = int(rng.integers(0, h - height + 1)), int(rng.integers(0, w - width + 1))
    out = image.clone()
    out[:, top : top + height, left : left + width] = 0
    return out


def centre_swapped(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Another image in the middle half."""
    h, w = image.shape[-2:]
    out = image.clone()
    out[:, h // 4 : h - h // 4, w // 4 : w - w // 4] = to_size(
        other, h - h // 4 * 2, w - w // 4 * 2
    )
    return out


def quadrants(image: Tensor, _: Tensor, rng: np.random.Generator) -> Tensor:
    """The four quarters in another order."""
    h, w = image.shape[-2] // 2, image.shape[-1] // 2
    tiles = [image[:, i * h : (i + 1) * h, j * w : (j + 1) * w] for i in (0, 1) for j in (0, 1)]
    tiles = [tiles[i] for i in ((1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0))[int(rng.integers(3))]]
    grid = torch.cat([torch.cat(tiles[:2], 2), torch.cat(tiles[2:], 2)], 1)
    return to_size(grid, *image.shape[-2:])


def blended(image: Tensor, other: Tensor, _: np.random.Generator, *, share: float) -> Tensor:
    return (share * image.float() + (1 - share) * other.float()).round().to(torch.uint8)


def gray(image: Tensor, *_: object) -> Tensor:
    return image if len(image) == 1 else F.rgb_to_grayscale(image, num_output_channels=3)


def hue(image: Tensor, _: Tensor, rng: np.random.Generator, *, degrees: float) -> Tensor:
    if len(image) == 1:
        return image
    return F.adjust_hue(image, float(degrees / 360 * rng.choice([-1, 1])))


def saturated(image: Tensor, _: Tensor, rng: np.random.Generator) -> Tensor:
    return image if len(image) == 1 else F.adjust_saturation(image, float(rng.choice([0.2, 3.0])))


def gamma(image: Tensor, _: Tensor, rng: np.random.Generator) -> Tensor:
    return F.adjust_gamma(image, float(rng.choice([0.45, 2.2])))


def inverted(image: Tensor, *_: object) -> Tensor:
    return 255 - image


def vignette(image: Tensor, *_: object) -> Tensor:
    """Falling to nothing in the corners."""
    y, x = (torch.linspace(-1, 1, s) for s in image.shape[-2:])
    light = (1 - (x[None] ** 2 + y[:, None] ** 2) / 2).clamp(0, 1)
    return (image * light).round().to(torch.uint8)


def gradient_light(image: Tensor, _: Tensor, rng: np.random.Generator) -> Tensor:
    """From a third of the light on one side to all of it on the other."""
    light = torch.linspace(0.3, 1, image.shape[-1])
    light = light.flip(0) if rng.random() < 0.5 else light
    return (image * light).round().to(torch.uint8)


def pixelated(image: Tensor, _: Tensor, __: np.random.Generator, *, share: float) -> Tensor:
    h, w = image.shape[-2:]
    small = to_size(image, round(h * share), round(w * share))
    return F.resize(small, [h, w], F.InterpolationMode.NEAREST)


def equalised(image: Tensor, *_: object) -> Tensor:
    return F.equalize(image)


def posterised(image: Tensor, *_: object) -> Tensor:
    return F.posterize(image, 2)


def solarised(image: Tensor, *_: object) -> Tensor:
    return F.solarize(image, 128)


def contours(image: Tensor, *_: object) -> Tensor:
    """The gradient's size, dark on white."""
    light = F.rgb_to_grayscale(image).float() if len(image) == 3 else image.float()
    dy, dx = torch.gradient(light[0])
    edges = (255 - 3 * (dx**2 + dy**2).sqrt()).clamp(0, 255)
    return edges.round().to(torch.uint8)[None].expand(image.shape).clone()


def sketch(image: Tensor, *_: object) -> Tensor:
    """Divided by its own blur, as pencil filters do."""
    light = F.rgb_to_grayscale(image) if len(image) == 3 else image
    size = 2 * (image.shape[-1] // 24) + 3
    blurred = 255 - F.gaussian_blur(255 - light, [size, size]).float()
    drawn = (light.float() * 255 / blurred.clamp(min=1)).clamp(0, 255)
    return drawn.round().to(torch.uint8).expand(image.shape).clone()


def chain(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Seven edits in a row, as the DISC challenge makes them."""
    image = cropped(image, other, rng, share=0.8)
    image = turned(image, other, rng, degrees=10)
    image = hue(image, other, rng, degrees=30)
    image = put(image, other, rng, share=0.75)
    image = text_over(image, other, rng)
    image = image.flip(-1)
    return F.jpeg(image, 40) if len(image) == 3 else image


def _drawn(image: Tensor) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    array = image.permute(1, 2, 0).expand(-1, -1, 3).numpy()
    picture = Image.fromarray(np.ascontiguousarray(array))
    return picture, ImageDraw.Draw(picture)


def _undrawn(picture: Image.Image, image: Tensor) -> Tensor:
    drawn = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)
    return drawn if len(image) == 3 else drawn.float().mean(0, keepdim=True).to(torch.uint8)


EDITS: dict[str, Edit] = {
    "framed at 60%": partial(framed, share=0.6),
    "laid over another at 70%": partial(put, share=0.7),
    "laid over another at 50%": partial(put, share=0.5),
    "laid over another at 33%": partial(put, share=0.33),
    "2x2 collage": collage,
    "cropped to 60%": partial(cropped, share=0.6),
    "cropped to 40%": partial(cropped, share=0.4),
    "cropped to 30%": partial(cropped, share=0.3),
    "stretched 1.7": partial(stretched, factor=1.7),
    "perspective": partial(perspective, share=0.25),
    "rotated 45°": partial(turned, degrees=45),
    "stickers": stickers,
    "text over it": text_over,
    "45% cut out": partial(cut_out, share=0.45),
    "centre swapped": centre_swapped,
    "quadrants permuted": quadrants,
    "blended 70%": partial(blended, share=0.7),
    "blended 60%": partial(blended, share=0.6),
    "gray": gray,
    "hue ±60°": partial(hue, degrees=60),
    "saturation": saturated,
    "gamma": gamma,
    "inverted": inverted,
    "vignette": vignette,
    "gradient of light": gradient_light,
    "pixelated to 1/12": partial(pixelated, share=1 / 12),
    "equalised": equalised,
    "posterised to 2 bits": posterised,
    "solarised": solarised,
    "contours": contours,
    "sketch": sketch,
    "chain of seven": chain,
}
UNFOUND = ("contours", "sketch")  # nobody finds anything: reported apart


def edited(images: Tensor, others: Tensor, edit: str, seed: int) -> Tensor:
    """uint8 (n, c, h, w) after one of EDITS."""
    rng = np.random.default_rng(seed)
    apply = EDITS[edit]
    return torch.stack([apply(x, o, rng) for x, o in zip(images, others, strict=True)])
