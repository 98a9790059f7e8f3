"""Two style images made by rule, free of anybody's rights: `strokes.png` and `glass.png`.

    python benchmarks/painted_styles.py FOLDER [--size 512]

Strokes: short curved brush marks that follow a smooth flow field, as in a late impressionist's sky.
Glass: flat cells of a Voronoi diagram with dark leads, as in a church window.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import KDTree

BLUES_AND_GOLD = ["#0b1d51", "#16418f", "#2f6fbf", "#7fb3d5", "#d9e6e8", "#f4c542", "#e08e1b"]
WINDOW = ["#b3202a", "#1f4fa3", "#e8b52a", "#2b7a4b", "#6b2d7d", "#e9e4d0", "#d9662b"]


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """(size, size) in about [-1, 1], with about `cells` bumps a side."""
    coarse = rng.standard_normal((cells, cells))
    field = zoom(coarse, size / cells, order=3)[:size, :size]
    return field / np.abs(field).max()


def strokes(size: int, seed: int = 0) -> Image.Image:
    """Layers of brush marks from broad to fine."""
    rng = np.random.default_rng(seed)
    potential = gaussian_filter(smooth_noise(rng, size, 6), size / 60)
    down, right = np.gradient(potential)
    angle = np.arctan2(-right, down)  # along the lines of equal height: whirls
    tone = smooth_noise(rng, size, 5)
    image = Image.new("RGB", (size, size), BLUES_AND_GOLD[1])
    draw = ImageDraw.Draw(image)
    for width, count in ((0.022, 5000), (0.014, 9000), (0.008, 7000)):
        for y, x in rng.uniform(0, size - 1, (count, 2)):
            place = tone[int(y), int(x)] + 0.35 * rng.standard_normal()
            color = BLUES_AND_GOLD[int(np.clip((place + 1) * 3.5, 0, 6))]
            path = [(x, y)]
            for _ in range(6):
                a = angle[int(np.clip(y, 0, size - 1)), int(np.clip(x, 0, size - 1))]
                x, y = x + np.cos(a) * width * size * 0.9, y + np.sin(a) * width * size * 0.9
                path.append((x, y))
            draw.line(path, fill=color, width=max(1, round(width * size * 0.55)), joint="curve")
    return image.filter(ImageFilter.SMOOTH)


def glass(size: int, seed: int = 0, cells: int = 220) -> Image.Image:
    """Cells of equal rights, each of one colour with a little light in it."""
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, size, (cells, 2))
    grid = np.stack(np.mgrid[:size, :size], -1).reshape(-1, 2)
    distance, nearest = KDTree(seeds).query(grid, k=2)
    palette = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in WINDOW], dtype=float)
    colors = palette[rng.integers(len(WINDOW), size=cells)] * rng.uniform(0.75, 1.15, (cells, 1))
    light = 1 + 0.12 * smooth_noise(rng, size, 40).reshape(-1, 1)
    pixels = colors[nearest[:, 0]] * light
    lead = (distance[:, 1] - distance[:, 0]) < size / 130
    pixels[lead] = 22
    picture = pixels.clip(0, 255).astype(np.uint8).reshape(size, size, 3)
    return Image.fromarray(picture).filter(ImageFilter.SMOOTH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=512)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, draw in (("strokes", strokes), ("glass", glass)):
        draw(args.size).save(args.folder / f"{name}.png")
        print(args.folder / f"{name}.png")


if __name__ == "__main__":
    main()
