"""Time and memory of judging samples against a reference far larger than them.

    python benchmarks/large_reference.py [--rows 1000000] [--width 768] [--samples 10000]

Synthetic features whose variances decay as those of networks do, read from a file as cached
reference features are. Peak memory counts the file's pages that the system keeps for us.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _tables import show

from novum.evaluation.space import judge
from novum.metrics.functional import Moments
from novum.metrics.record import FeatureSets


def draw(n: int, d: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator) / torch.arange(1, d + 1).sqrt()


def write(path: Path, n: int, d: int, block: int = 50_000) -> None:
    array = np.lib.format.open_memmap(path, "w+", dtype=np.float32, shape=(n, d))
    for start in range(0, n, block):
        size = min(block, n - start)
        array[start : start + size] = draw(size, d, start).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--output")
    args = parser.parse_args()
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
