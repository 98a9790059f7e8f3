"""Recall of altered copies at 1% false alarms, and the time it takes per image.

    python benchmarks/altered_copies.py --train cifar10/train.parquet --heldout cifar10/test.parquet
        [--features efficientnet_lite0] [--output FILE.json]

Near-duplicates of training images are first taken out of the held-out images. Of the rest, --fresh
are left aside: they are in neither set, so whatever is found for them is a false alarm. A copy
counts as found when its margin is above the threshold and the image it was made from is named.
"""

import argparse
import resource
import time
import warnings

import torch
from _tables import show
from torch import Tensor

from novum.datamodules.resolve_source import open_images
from novum.metrics.features import load_extractor
from novum.metrics.functional.intervals import clopper_pearson_interval
from novum.metrics.novelty.alterations import LADDER, alter
from novum.metrics.novelty.altered_copies import (
    NEAR_DUPLICATE,
    AlteredCopyDetector,
    near_duplicates,
)
from novum.metrics.novelty.power import Matcher, feature_matcher


def shuffled(where: str, side: str) -> Tensor:
    images = open_images(where, side).images[:]
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]


def without(images: Tensor, rows: Tensor) -> Tensor:
    kept = torch.ones(len(images), dtype=torch.bool)
    kept[rows] = False
    return images[kept]


def recall_table(match: Matcher, train: Tensor, fresh: Tensor, copies: int) -> list[dict]:
    """Halves are pasted into fresh images."""
    sources = torch.randperm(len(train), generator=torch.Generator().manual_seed(1))[:copies]
    planted = [alter(train[sources], attack, i, fresh[:copies]) for i, attack in enumerate(LADDER)]
    samples = torch.cat([*planted, fresh])
    matches = match(samples, torch.full((len(samples),), -1))
    alarms = matches.margin[-len(fresh) :]
    threshold = float(alarms.sort(descending=True).values[len(fresh) // 100])
    rows = []
    for i, attack in enumerate(LADDER):
        part = slice(i * copies, (i + 1) * copies)
        named, margin = matches.item[part] == sources, matches.margin[part]
        recall = clopper_pearson_interval(int((named & (margin > threshold)).sum()), copies)
        row = {"attack": attack, "recall": recall.value, "low": recall.low, "high": recall.high}
        row |= {"right item": float(named.double().mean()), "margin": float(margin.median())}
        rows.append(row)
    false = clopper_pearson_interval(int((alarms > threshold).sum()), len(fresh))
    rows.append(
        {"attack": "(fresh images)", "recall": false.value, "low": false.low, "high": false.high}
        | {"right item": "", "margin": threshold}
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True)
    parser.add_argument("--heldout", required=True)
    parser.add_argument("--fresh", type=int, default=2000)
    parser.add_argument("--copies", type=int, default=100)
    parser.add_argument("--features", help="an extractor, whose nearest neighbours are compared")
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    train, others = shuffled(args.train, "train"), shuffled(args.heldout, "heldout")

    start, cpu = time.perf_counter(), time.process_time()
    matches = AlteredCopyDetector(train, progress=False).match(others)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    copied = (matches.margin >= NEAR_DUPLICATE).nonzero()[:, 0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(others):,} images searched for in {len(train):,}: {seconds:.0f} s,"
        f" {1000 * seconds / len(others):.1f} ms each ({1000 * cpu / len(others):.1f} ms of CPU"
        f" time), {torch.get_num_threads()} threads, peak {peak:.1f} GiB.\n{len(copied)} are"
        " near-duplicates and are taken out; left in, they would put the threshold at"
        f" {float(matches.margin.quantile(0.99)):.2f}"
    )
    clean = without(others, copied)
    heldout, fresh = clean[args.fresh :], clean[: args.fresh]
    again = near_duplicates(heldout, fresh, progress=False)
    fresh = without(fresh, again[:, 0])
    print(f"{len(again)} fresh images are near-duplicates of held-out ones and are taken out too")

    detector = AlteredCopyDetector(train, heldout, progress=False)
    title = f"{len(train):,} training, {len(heldout):,} held-out, {len(fresh):,} fresh images"
    show(
        f"Altered copies: {title}",
        recall_table(detector.match, train, fresh, args.copies),
        args.output,
    )
    if args.features:
        match = feature_matcher(load_extractor(args.features), train, heldout, progress=False)
        rows = recall_table(match, train, fresh, args.copies)
        show(f"Nearest neighbours by {args.features}: {title}", rows, None)


if __name__ == "__main__":
    main()
