"""Findings where held-out images were processed otherwise than training images.

    python benchmarks/held_out_shift.py cifar10/train.parquet [--seeds 48] [--output FILE.json]

Images of one data set are cut at random into training, held-out and fresh ones, the held-out ones
are processed, and the fresh ones are judged as samples, some of them replaced by noisy copies.
Spaces: pixels, and pixels at a quarter of the size.
"""

import argparse
import io
from collections import Counter
from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import torch
from _tables import show
from _views import pixels, pixels_at_a_quarter
from PIL import Image, ImageFilter
from torch import Tensor
from tqdm import tqdm

from novum.datamodules.resolve_source import open_images
from novum.datamodules.sources.image_sources import ImageArray, ImageSource
from novum.evaluation.audit import row_digests
from novum.evaluation.gate import conclude, pool_of_digests
from novum.evaluation.image_verdict import image_verdict
from novum.evaluation.space import match_space
from novum.metrics.novelty.facts import find_identical
from novum.metrics.record import FeatureSets
from novum.report.model import Report, SetSummary


def sharpen(share: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: Image.blend(image, image.filter(ImageFilter.UnsharpMask()), share)


def linear(gain: float, offset: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.point(lambda v: round(128 + gain * (v - 128) + offset))


def jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    def process(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return process


def resized(image: Image.Image) -> Image.Image:
    larger = image.resize((image.width + 1, image.height + 1), Image.Resampling.BICUBIC)
    return larger.resize(image.size, Image.Resampling.BICUBIC)


PROCESSES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "nothing": lambda image: image,
    "sharpened 0.1": sharpen(0.1),
    "sharpened 0.3": sharpen(0.3),
    "contrast +5%": linear(1.05, 0),
    "brightness +4": linear(1, 4),
    "resized twice": resized,
    "JPEG 90": jpeg(90),
}


def judge(images: Tensor, process: str, sizes: list[int], copies: int, seed: int) -> str:
    """Finding on fresh samples, the first `copies` of them copies with noise of 8 gray levels."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(images), generator=generator)[: sum(sizes)].split(sizes)
    train, heldout, fake = (images[part] for part in rows)
    heldout = torch.stack([_apply(PROCESSES[process], image) for image in heldout])
    noise = 8 * torch.randn(copies, *fake.shape[1:], generator=generator)
    fake[:copies] = (train[:copies] + noise).round().clamp(0, 255).byte()
    sets = {"samples": ImageArray(fake), "train": ImageArray(train), "heldout": ImageArray(heldout)}
    keys = {name: row_digests(cast(ImageSource, side))[0] for name, side in sets.items()}
    pool = pool_of_digests(keys["train"], keys["heldout"], seed)
    spaces = {
        name: match_space(FeatureSets(*(view(x) for x in (train, heldout, fake)), seed=seed), pool)
        for name, view in (("pixels", pixels), ("pixels at a quarter", pixels_at_a_quarter))
    }
    report = Report(*(SetSummary(n=len(x)) for x in (fake, train, heldout)))
    same = find_identical(keys["samples"], keys["train"], keys["heldout"])
    conclude(report, same, spaces, cast(Mapping[str, ImageSource], sets), seed)
    return image_verdict(report).finding.value


def _apply(process: Callable[[Image.Image], Image.Image], image: Tensor) -> Tensor:
    processed = process(Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()))
    return torch.from_numpy(np.array(processed)).view(*image.shape[1:], -1).permute(2, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", help="of one data set")
    parser.add_argument("--seeds", type=int, default=48)
    parser.add_argument("--sizes", type=int, nargs=3, default=[3000, 2000, 1000])
    parser.add_argument("--copies", type=int, default=50)
    parser.add_argument("--processes", nargs="+", default=list(PROCESSES), choices=PROCESSES)
    parser.add_argument("--output")
    options = parser.parse_args()
    images = torch.cat([open_images(where).images[:] for where in options.images])
    table = []
    for process in options.processes:
        for copies in (0, options.copies):
            seeds = tqdm(range(options.seeds), desc=f"{process}, {copies} copies", leave=False)
            found = Counter(judge(images, process, options.sizes, copies, s) for s in seeds)
            table.append({"held-out images": process, "copies": copies, **found})
            print(table[-1], flush=True)
    names = dict.fromkeys(key for row in table for key in row)
    rows = [{name: row.get(name, 0) for name in names} for row in table]
    show("findings, by what was done to held-out images", rows, options.output)


if __name__ == "__main__":
    main()
