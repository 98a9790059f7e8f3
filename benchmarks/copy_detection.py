"""Recall of copies of photographs by our detectors, over edits that they were not made for.

    python benchmarks/copy_detection.py PHOTOS [--images N] [--side 64] [--sscd PYTHON]

PYTHON is an interpreter that has SSCD's networks (see _sscd.py), the peer: images at 288 px, the
training or held-out image of the largest cosine.

Half of the images are training, a fifth held-out and the rest fresh. Copies of training images go
through the ladder of the power card and through the edits of _edits.py; others that an edit needs
are fresh images. A copy counts as found when its margin, combined over the detectors as in a
verdict, is above that of all but a share of the fresh images (1%), and the right image is named.
muAP is the micro-averaged precision over all copies and fresh images, ordered by margin.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from _edits import EDITS, UNFOUND, edited
from _sscd import MODELS, descriptors
from _tables import show
from torch import Tensor

from novum.datamodules.resolve_source import open_images
from novum.metrics.features.extraction import resize
from novum.metrics.functional.intervals import clopper_pearson_interval
from novum.metrics.novelty.alterations import LADDER, alter
from novum.metrics.novelty.altered_copies import AlteredCopyDetector
from novum.metrics.novelty.combined import combine_matches
from novum.metrics.novelty.local_copies import LocalCopyDetector
from novum.metrics.novelty.nearest_matches import Matches
from novum.metrics.novelty.pool import pool_of_items
from novum.metrics.novelty.power import pick

SIDE = 288  # px, of what the networks see


def micro_average_precision(margin: Tensor, right: Tensor, positives: int) -> float:
    """Area under precision and recall of answers in the order of their margins."""
    right = right[margin.argsort(descending=True)].double()
    precision = right.cumsum(0) / torch.arange(1, len(right) + 1)
    return float((precision * right).sum()) / positives


def planted(train: Tensor, fresh: Tensor, copies: int) -> tuple[list[str], Tensor, Tensor]:
    """Edits, their copies one after the other, and the training rows that these are of."""
    generator = torch.Generator().manual_seed(1)
    names, images, sources = [*LADDER, *EDITS], [], []
    for i, name in enumerate(names):
        rows = torch.randperm(len(train), generator=generator)[:copies]
        others = fresh[torch.randint(len(fresh), (copies,), generator=generator)]
        if name in LADDER:
            images.append(alter(train[rows], name, i, others))
        else:
            images.append(edited(train[rows], others, name, i))
        sources.append(rows)
    return names, torch.cat(images), torch.cat(sources)


def nearest_by_network(python: str, model: str, queries: Tensor, pool: Tensor) -> Matches:
    """The item of the largest cosine, which is the margin."""

    def described(images: Tensor) -> Tensor:
        blocks = torch.split(images.expand(-1, 3, -1, -1), 500)
        sized = torch.cat([_sized(x, SIDE) for x in blocks])
        array = np.ascontiguousarray(sized.permute(0, 2, 3, 1).numpy())
        return torch.from_numpy(descriptors(python, model, array))

    best = (described(queries) @ described(pool).T).max(1)
    return Matches(best.indices, torch.zeros_like(best.indices), best.values, len(pool), 0)


def _sized(images: Tensor, side: int) -> Tensor:
    return resize(images.float(), side).round().to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos")
    parser.add_argument("--images", type=int, help="use as many of them, drawn at random")
    parser.add_argument("--side", type=int, help="resize the images to this")
    parser.add_argument("--copies", type=int, default=40)
    parser.add_argument("--false-alarms", type=float, default=0.01)
    parser.add_argument("--sscd", metavar="PYTHON")
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    source = open_images(args.photos, "train").images
    drawn = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
    images = pick(source, drawn[: args.images])
    if args.side:
        images = _sized(images, args.side)
    sizes = [len(images) // 2, len(images) // 5]
    if sizes[0] < args.copies:
        parser.error(f"--copies {args.copies} of {sizes[0]} training images: give more images")
    train, heldout, fresh = images.split([*sizes, len(images) - sum(sizes)])
    pool = pool_of_items(torch.arange(sum(sizes)), len(train))
    detectors = {
        "alignment": AlteredCopyDetector(train, heldout, pool=pool, progress=False),
        "local": LocalCopyDetector(train, heldout, pool=pool, progress=False),
    }
    usual = {name: detector.match_within(1500) for name, detector in detectors.items()}
    names, copies, sources = planted(train, fresh, args.copies)
    asked = torch.cat([copies, fresh])
    found: dict[str, Matches] = {}
    for name, detector in detectors.items():
        start = time.perf_counter()
        found[name] = detector.match(asked)
        each = 1000 * (time.perf_counter() - start) / len(asked)
        print(f"{name}: {each:.0f} ms an image, {torch.get_num_threads()} threads")
    found["together"] = combine_matches(list(found.values()), list(usual.values())).matches
    for model in MODELS if args.sscd else ():
        found[model] = nearest_by_network(args.sscd, model, asked, torch.cat([train, heldout]))
    rows: list[dict[str, str | float]] = []
    for i, name in enumerate(names):
        row: dict[str, str | float] = {"edit": name}
        part = slice(i * args.copies, (i + 1) * args.copies)
        for title, matches in found.items():
            alarms = matches.margin[len(copies) :].sort(descending=True).values
            hit = matches.item[part] == sources[part]
            hit &= matches.margin[part] > alarms[int(args.false_alarms * len(fresh))]
            row[title] = float(hit.double().mean())
            if title == "together":
                row["low"] = clopper_pearson_interval(int(hit.sum()), args.copies).low
        rows.append(row)
    summary: list[dict[str, str | float]] = []
    counted = {
        "all": [n for n in names if n not in UNFOUND],
        "ladder": list(LADDER),
        "others": [n for n in EDITS if n not in UNFOUND],
    }
    for title, kept in counted.items():
        known = [row for row in rows if row["edit"] in kept]
        chosen = torch.tensor([name in kept for name in names]).repeat_interleave(args.copies)
        ranked = torch.cat([chosen, torch.ones(len(fresh), dtype=torch.bool)])
        mean: dict[str, str | float] = {"edit": f"mean recall: {title}"}
        ap: dict[str, str | float] = {"edit": f"muAP: {title}"}
        for name, matches in found.items():
            mean[name] = sum(float(row[name]) for row in known) / len(known)
            right = matches.item[: len(copies)] == sources
            right = torch.cat([right, torch.zeros(len(fresh), dtype=torch.bool)])
            ap[name] = micro_average_precision(
                matches.margin[ranked], right[ranked], int(chosen.sum())
            )
        summary += [mean, ap]
    rows += summary
    title = f"{len(train)} training, {len(heldout)} held-out, {len(fresh)} fresh images of"
    show(f"{title} {images.shape[-1]} px", rows, args.output)


if __name__ == "__main__":
    main()
