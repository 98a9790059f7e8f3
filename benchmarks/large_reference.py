"""Time and memory of judging samples against a reference far larger than them.

    python benchmarks/large_reference.py [--rows 1000000] [--width 768] [--samples 10000]
    python benchmarks/large_reference.py --copies PHOTOS [--rows 100000] [--detector local]

Synthetic features whose variances decay as those of networks do, read from a file as cached
reference features are. Peak memory counts the file's pages that the system keeps for us.

With --copies altered copies are searched for by a detector. The reference is the images of PHOTOS,
and from then on blends of two of them, one mirrored; the samples are its first images, each altered
by a rung of the power card's ladder in turn. What is found is compared with what is found where one
block of images is the whole reference, in memory. Caches are new.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from _tables import show

from novum.datamodules.resolve_source import open_images
from novum.evaluation.space import judge
from novum.metrics.features.extraction import as_uint8
from novum.metrics.functional import Moments
from novum.metrics.novelty.alterations import LADDER, alter
from novum.metrics.novelty.altered_copies import AlteredCopyDetector
from novum.metrics.novelty.local_copies import LocalCopyDetector
from novum.metrics.novelty.pool import pool_of_items
from novum.metrics.record import FeatureSets


def draw(n: int, d: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator) / torch.arange(1, d + 1).sqrt()


def write(path: Path, n: int, d: int, block: int = 50_000) -> None:
    array = np.lib.format.open_memmap(path, "w+", dtype=np.float32, shape=(n, d))
    for start in range(0, n, block):
        size = min(block, n - start)
        array[start : start + size] = draw(size, d, start).numpy()


class ImageFile(NamedTuple):
    """Images of a file, mapped while a slice is read."""

    path: Path
    fingerprint: str

    def __len__(self) -> int:
        return len(np.load(self.path, mmap_mode="r"))

    def __getitem__(self, rows: slice) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.from_numpy(np.load(self.path, mmap_mode="r")[rows].copy())


def write_images(path: Path, photos: str, n: int) -> ImageFile:
    """The images of a set, then blends of two of them."""
    source = open_images(photos, "train").images
    generator = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (n, *source[:1].shape[1:]))
    known = min(n, len(source))
    for start in range(0, known, 4096):
        stop = min(start + 4096, known)
        array[start:stop] = as_uint8(source[start:stop]).numpy()
    for start in range(known, n, 4096):
        first, second = generator.integers(0, known, (2, min(4096, n - start)))
        both = array[first].astype(np.uint16) + array[second][..., ::-1]
        array[start : start + len(first)] = both // 2
    return ImageFile(path, f"{photos} {n}")


def planted(source: ImageFile, count: int) -> torch.Tensor:
    """The first images, in a random pasting or degrading of the ladder each."""
    images, rungs = source[:count], list(LADDER)
    others = source[count : 2 * count]
    copies = images.clone()
    for i, rung in enumerate(rungs):
        copies[i :: len(rungs)] = alter(images[i :: len(rungs)], rung, i, others[i :: len(rungs)])
    return copies


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


DETECTORS = {"alignment": AlteredCopyDetector, "local": LocalCopyDetector}


def search_copies(args: argparse.Namespace) -> None:
    rows: list[dict[str, str | float]] = []
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        source = write_images(Path(folder) / "images.npy", args.copies, args.rows)
        copies = planted(source, args.samples)
        pool = pool_of_items(torch.arange(args.rows), args.rows)
        for title, size in (("blocks", None), ("one block", -(-args.rows // 512) * 512)):
            os.environ["NOVUM_CACHE"] = f"{folder}/{title}"
            before, start = peak(), time.perf_counter()
            detector = DETECTORS[args.detector](source, None, pool=pool, block_rows=size)
            made = time.perf_counter()
            answers.append(found := detector.match(copies))
            right = found.item == torch.arange(len(copies))
            files = Path(folder, title, "references").iterdir()
            rows.append(
                {
                    "reference in": title,
                    "s to read": made - start,
                    "s to search": time.perf_counter() - made,
                    "GiB before": before,
                    "peak GiB": peak(),
                    "GiB on disk": sum(x.stat().st_size for x in files) / 2**30,
                    "sources right": float(right.double().mean()),
                }
            )
            print(rows[-1], flush=True)
    same = all(torch.equal(x, y) for x, y in zip(*(a[:3] for a in answers), strict=True))
    title = f"{args.samples:,} altered copies among {args.rows:,} images, by {args.detector}"
    show(f"{title}; the same to the last digit: {same}", rows, args.output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--copies", metavar="PHOTOS")
    parser.add_argument("--detector", choices=DETECTORS, default="alignment")
    parser.add_argument("--output")
    args = parser.parse_args()
    if args.copies:
        search_copies(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.npy"
        write(path, args.rows, args.width)
        train = torch.from_numpy(np.load(path, mmap_mode="c"))
        heldout, fake = (draw(args.samples, args.width, 2**40 + seed) for seed in (1, 2))
        start = time.perf_counter()
        found = judge(FeatureSets(train, heldout, fake, Moments().update(train)))
        row = {
            "reference": args.rows,
            "samples": args.samples,
            "seconds": time.perf_counter() - start,
            "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "of them the file's": path.stat().st_size / 2**30,
            "copy rate at most": found.novelty["copy_rate"]["high"],
        }
    show(f"A reference of {args.rows:,} x {args.width}", [row], args.output)
    print("\n".join(found.missing))


if __name__ == "__main__":
    main()
