"""Pictures of many overlapping shapes, which have corners at every scale as photographs do."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor


def scenes(n: int, side: int, seed: int = 0, shapes: int = 60) -> Tensor:
    """uint8 (n, 3, side, side)."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(n):
        picture = Image.new("RGB", (2 * side, 2 * side), tuple(rng.integers(0, 256, 3).tolist()))
        draw = ImageDraw.Draw(picture)
        for _ in range(shapes):
            centre, reach = rng.random(2) * 2 * side, side * rng.uniform(0.03, 0.4)
            corners = centre + reach * rng.uniform(-1, 1, (int(rng.integers(3, 7)), 2))
            colour = tuple(rng.integers(0, 256, 3).tolist())
            draw.polygon([tuple(corner) for corner in corners.tolist()], fill=colour)
        small = picture.resize((side, side), Image.Resampling.LANCZOS)
        pictures.append(torch.from_numpy(np.array(small)).permute(2, 0, 1))
    return torch.stack(pictures)
