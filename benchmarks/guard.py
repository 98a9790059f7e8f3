"""Measures a guard: how many fresh items it refuses, and how many planted copies it lets pass.

python benchmarks/guard.py --images cifar10/train.parquet --text tinyshakespeare.txt
"""

import argparse
import json
from pathlib import Path

import torch

from novum.datamodules.resolve_source import open_images
from novum.datamodules.sources.corpus import TextSource
from novum.datamodules.sources.image_sources import ImageArray
from novum.evaluation.guarded import ImageGuard, TextGuard
from novum.metrics.functional.intervals import clopper_pearson_interval
from novum.metrics.novelty.alterations import alter

TRAIN, HELDOUT, FRESH, COPIES = 4000, 1000, 1000, 200
EDITS = ("identical", "mirrored", "shifted 10%", "cropped to 75%", "brightness ±20%", "noise 8",
         "JPEG 30", "blurred 3x3")  # fmt: skip
LENGTH, TEXTS = 1000, 100
PASSAGES = (40, 60, 80, 120, 200)


def of_images(path: str) -> dict[str, tuple[int, int]]:
    """Images refused of fresh ones, and of training images altered by each edit."""
    source = open_images(path).images
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
    train, heldout, fresh = (
        source[rows] for rows in order[: TRAIN + HELDOUT + FRESH].split([TRAIN, HELDOUT, FRESH])
    )
    guard = ImageGuard(ImageArray(train), ImageArray(heldout))
    rows = {"fresh images": fresh} | {
        edit: alter(train[:COPIES], edit, 0, fresh[:COPIES]) for edit in EDITS
    }
    return {name: _refused(guard.sources(list(x))) for name, x in rows.items()}


def of_text(path: str) -> dict[str, tuple[int, int]]:
    """Texts refused of fresh ones, and of such with a passage of training text planted."""
    text = Path(path).read_text(encoding="utf-8")
    size = len(text) - TEXTS * LENGTH
    fresh = [text[size + i * LENGTH : size + (i + 1) * LENGTH] for i in range(TEXTS)]
    train, heldout = text[: size * 9 // 10], text[size * 9 // 10 : size]
    guard = TextGuard(TextSource.of(train, "train"), TextSource.of(heldout, "heldout"))
    found = {"fresh texts": _refused(guard.sources(fresh))}
    for length in PASSAGES:
        step = (len(train) - length) // TEXTS
        planted = [
            own[:400] + train[i * step : i * step + length] + own[400 + length :]
            for i, own in enumerate(fresh)
        ]
        found[f"{length} characters of training text"] = _refused(guard.sources(planted))
    return found


def _refused(sources: list[str | None]) -> tuple[int, int]:
    return sum(source is not None for source in sources), len(sources)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", help="a place of 6,000 images or more")
    parser.add_argument("--text", help="a file")
    parser.add_argument("--output", type=Path, default=Path("guard.json"))
    options = parser.parse_args()
    found = {}
    if options.images:
        found |= of_images(options.images)
    if options.text:
        found |= of_text(options.text)
    for name, (refused, of) in found.items():
        rate = clopper_pearson_interval(refused, of)
        print(f"{name:40} refused {refused:4} of {of:4}  {rate.low:.1%} to {rate.high:.1%}")
    options.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
