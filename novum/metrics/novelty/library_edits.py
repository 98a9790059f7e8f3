"""Edits that the detectors were not made for: torchvision's augmentations (BSD-3), which others
chose for training networks, and chains of three of them at random.
"""

from collections.abc import Callable

import torch
from torch import Tensor

LIBRARY = "torchvision"
CHAIN = "three of these in turn"
IN_A_CHAIN = 3


def library_edits(channels: int, side: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """torchvision's edits of uint8 images (c, h, w), by name; strengths in shares of the side."""
    from torchvision.transforms import v2  # takes a second to import

    blur = 2 * round(side / 40) + 3
    edits: dict[str, Callable[[Tensor], Tensor]] = {
        "perspective 0.4": v2.RandomPerspective(0.4, p=1),
        "affine 20°, sheared 15°": v2.RandomAffine((-20, 20), (0.1, 0.1), (0.8, 1.2), (-15, 15)),
        "rotated up to 180°": v2.RandomRotation((-180, 180)),
        "elastic": v2.ElasticTransform(side * 0.6, max(side / 64, 0.5)),
        "crop of 20 to 60% of the area": v2.RandomResizedCrop(side, (0.2, 0.6), (0.6, 1.6)),
        "zoomed out to 50 to 75%": v2.Compose(
            [v2.RandomZoomOut(127, (1.3, 2.0), p=1), v2.Resize((side, side), antialias=True)]
        ),
        "10 to 30% erased": v2.RandomErasing(1, (0.1, 0.3)),
        "brightness, contrast, saturation, hue": v2.ColorJitter(0.5, 0.5, 0.5, 0.3),
        "inverted": v2.RandomInvert(1),
        "solarised": v2.RandomSolarize(128, 1),
        "posterised to 2 bits": v2.RandomPosterize(2, 1),
        "equalised": v2.RandomEqualize(1),
        "sharpened": v2.RandomAdjustSharpness(5, 1),
        "Gaussian blur": v2.GaussianBlur(blur, (side / 100, side / 50)),
    }
    if channels == 3:
        edits |= {"gray": v2.Grayscale(3), "channels permuted": v2.RandomChannelPermutation()}
    every = list(edits.values())

    def chain(image: Tensor) -> Tensor:
        for number in torch.randperm(len(every))[:IN_A_CHAIN].tolist():
            image = every[number](image)
        return image

    return edits | {CHAIN: chain}


def edited_by_library(images: Tensor, edit: str, seed: int = 0) -> Tensor:
    """uint8 (n, c, h, w), 1 or 3 channels, after one of `library_edits`."""
    from torchvision.transforms.v2.functional import resize

    *_, channels, height, width = images.shape
    apply = library_edits(channels, max(height, width))[edit]
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return torch.stack([resize(apply(x), [height, width], antialias=True) for x in images])
