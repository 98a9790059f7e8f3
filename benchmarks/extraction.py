"""Errors and power of `explore.py extract` on scikit-learn's digits, over random splits.

    python benchmarks/extraction.py --splits 10 --json extraction.json

Of each split a part is trained on, one is held out, and one is seen by nobody. Returned again and
again are fresh digits, as by a generator that makes few images but copies none; or these and five
training digits, with noise. How often is anything named in error, and how many of the five are?
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from novum.datamodules.sources.image_sources import ImageArray
from novum.evaluation.image_extraction import NAMED, Control, Judged
from novum.metrics.functional.intervals import clopper_pearson_interval

TRAIN, HELDOUT, FRESH, PLANTED = 1000, 360, 60, 5
NOISES = (0, 6, 12)  # grey levels


def named(judged: Judged) -> list[bool]:
    """True for each image that is said to be extracted."""
    pairs = zip(judged.facts, judged.q.tolist(), strict=True)
    return [fact is not None or q <= NAMED for fact, q in pairs]


def noisy(images: torch.Tensor, sigma: float, seed: int) -> torch.Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + sigma * noise).round().clamp(0, 255).to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    known: Any = load_digits()
    digits = torch.from_numpy((known.images * 15).astype(np.uint8))[:, None]
    small = alarms = 0
    found = dict.fromkeys(NOISES, 0)
    wrong = dict.fromkeys(NOISES, 0)
    for seed in range(options.splits):
        order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(seed))
        train = digits[order[:TRAIN]]
        heldout = digits[order[TRAIN : TRAIN + HELDOUT]]
        fresh = digits[order[TRAIN + HELDOUT :]][:FRESH]
        control = Control(ImageArray(train), ImageArray(heldout))
        alone = control.judge(fresh)
        small += int((alone.p <= NAMED).sum())
        alarms += any(named(alone))
        for sigma in NOISES:
            both = named(control.judge(torch.cat([noisy(train[:PLANTED], sigma, seed), fresh])))
            found[sigma] += sum(both[:PLANTED])
            wrong[sigma] += sum(both[PLANTED:])
        print(f"split {seed + 1} of {options.splits}", flush=True)
    n = options.splits
    rows = {
        "fresh digits with p <= 0.1": clopper_pearson_interval(small, n * FRESH),
        "splits with one of them named": clopper_pearson_interval(alarms, n),
    }
    for sigma in NOISES:
        rows[f"planted digits named, noise {sigma}"] = clopper_pearson_interval(
            found[sigma], n * PLANTED
        )
        total = found[sigma] + wrong[sigma]
        if total:
            share = clopper_pearson_interval(wrong[sigma], total)
            rows[f"of those named in error, noise {sigma}"] = share
    for name, row in rows.items():
        print(f"{name:<40} {row.value:.1%} ({row.low:.1%} to {row.high:.1%})")
    if options.json:
        options.json.write_text(json.dumps({k: v._asdict() for k, v in rows.items()}, indent=2))


if __name__ == "__main__":
    main()
