"""A whole evaluation, quality and novelty, against torch-fidelity's FID, KID and precision alone.

    python benchmarks/whole_evaluation.py --train train.parquet --heldout test.parquet

Each side is a process of its own: seconds from start to exit, and its peak memory. Both embed with
the features named; nothing is cached. Ours also embeds and searches held-out
images, as many as there are samples.
Without a file of the published weights both Inceptions get the same random ones.

`--controls` measures two evaluations of ours with the same references instead, and what of each the
two controls of the verdict take: training and held-out images searched for in each other, the
negative control's test, and the power card. Ratios of one process hold on a busy machine too.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _tables import show
from altered_copies import shuffled
from feature_extraction import random_weights
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

ROOT = Path(__file__).resolve().parents[1]


PEERS_NAMES = {"inception": "inception-v3-compat"}  # others are ours, registered there


class Array(Dataset):
    def __init__(self, path: Path) -> None:
        self.images = torch.from_numpy(np.load(path))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.images[row]


def peer(folder: Path, features: str, weights: str | None) -> None:
    """Run in the peer's process."""
    import torch_fidelity

    import novum.metrics.features  # noqa: F401 it registers our extractors

    found = torch_fidelity.calculate_metrics(
        input1=Array(folder / "samples.npy"),
        input2=Array(folder / "train.npy"),
        fid=True,
        kid=True,
        prc=True,
        cuda=torch.cuda.is_available(),
        feature_extractor=PEERS_NAMES.get(features, f"novum-{features}"),
        feature_extractor_weights_path=weights,
        cache=False,
        verbose=False,
    )
    print(found)


def measured(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak GiB of a process that must end well."""
    start = time.perf_counter()
    environment = os.environ | {"NOVUM_CACHE": str(folder / "cache")}
    process = subprocess.Popen(command, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


def timed(where: Any, name: str, part: str, seconds: dict[str, float]) -> None:
    """Let a function of the product note the seconds that it takes."""
    inner = getattr(where, name)

    @wraps(inner)
    def noting(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        found = inner(*args, **kwargs)
        seconds[part] += time.perf_counter() - start
        return found

    setattr(where, name, noting)


def controls(arguments: list[str]) -> list[dict[str, Any]]:
    """Seconds of the parts of one evaluation, and each as a share of what is no control."""
    from novum.cli.evaluate import parse
    from novum.evaluation import images, space

    seconds: dict[str, float] = defaultdict(float)
    for where in (space, images):
        timed(where, "negative_control", "negative control, its test", seconds)
    search = "negative control, its search"
    timed(space, "match_within_pool", search, seconds)
    for detector in (images.AlteredCopyDetector, images.LocalCopyDetector):
        timed(detector, "match_within", search, seconds)
    timed(images, "add_power", "power card", seconds)
    timed(images, "reference_floor", "floor of quality, once a data set", seconds)
    rows = []
    for references in ("new", "known"):
        seconds.clear()
        start = time.perf_counter()
        images.run(parse(arguments))
        rest = time.perf_counter() - start - sum(seconds.values())
        for part, took in {"all else": rest, **seconds}.items():
            row = {"references": references, "part": part, "seconds": took}
            rows.append(row | {"of all else": took / rest})
    return rows


def write_sets(folder: Path, train: str, heldout: str, images: int) -> None:
    """Training images; others of them as samples; held-out images."""
    trained, others = (shuffled(*side) for side in ((train, "train"), (heldout, "heldout")))
    np.save(folder / "train.npy", trained[:images])
    np.save(folder / "samples.npy", trained[images : 2 * images])
    np.save(folder / "heldout.npy", others[:images])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train")
    parser.add_argument("--heldout")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--features", default="inception")
    parser.add_argument("--weights")
    parser.add_argument("--controls", action="store_true")
    parser.add_argument("--output")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if args.peer:
        return peer(args.peer, args.features, args.weights)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sets(folder, args.train, args.heldout, args.images)
        weights = folder / "cache" / "weights" / Path(URL_INCEPTION_V3).name
        weights.parent.mkdir(parents=True)
        shutil.copy(args.weights or random_weights(name), weights)
        path = ["--weights", str(weights)] if args.features == "inception" else []
        sides = [f"--{side}={folder / side}.npy" for side in ("samples", "train", "heldout")]
        output = f"--output={folder / 'evaluation'}"
        evaluate = [str(ROOT / "evaluate.py"), *sides, output]
        title = f"{args.images:,} samples against {args.images:,} images, {args.features}"
        if args.controls:
            os.environ["NOVUM_CACHE"] = str(folder / "cache")
            rows = controls([*sides, output, "--features", args.features])
            return show(title, rows, args.output)
        races = {
            "torch-fidelity: FID, KID, precision": [__file__, "--peer", name, *path],
            "ours: all of quality and novelty": evaluate,
        }
        rows = []
        for title, command in races.items():
            command = [sys.executable, *command, "--features", args.features]
            seconds, peak = measured(command, folder)
            rows.append({"what": title, "seconds": seconds, "peak GiB": peak})
            rows[-1]["times as fast"] = rows[0]["seconds"] / seconds
    show(title, rows, args.output)


if __name__ == "__main__":
    main()
