"""Peak memory of a corpus larger than it: made, opened, trained on; and what an index would take.

    python benchmarks/text_memory.py --text input.txt [--gigabytes 10] [--output FILE.json]

The text is repeated until it is that large, in a temporary folder, which needs twice the space.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from _steps import bare_trainer
from _tables import show

from novum.datamodules import TextDataModule
from novum.lightning_modules import CharLSTM
from novum.lightning_modules.networks import CharRNN
from novum.metrics.novelty.text import build_index


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def train(data: TextDataModule, steps: int) -> None:
    model = CharLSTM(CharRNN(data.vocab_size), data.alphabet)
    bare_trainer(max_steps=steps).fit(model, data)


def index(data: TextDataModule) -> str:
    """Size of an index of the training text."""
    try:
        return f"index of {len(build_index(data.train.tokens)):,} characters"
    except ValueError as error:
        return str(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--output")
    args = parser.parse_args()
    before = peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NOVUM_CACHE"] = folder
        content = args.text.read_bytes()
        large = Path(folder, "large.txt")
        with open(large, "wb") as file:
            for _ in range(int(args.gigabytes * 1e9) // len(content)):
                file.write(content)
        rows = []
        for what in ("tokens made", "opened again"):
            start = time.perf_counter()
            data = TextDataModule("files", files=str(large))
            seconds = time.perf_counter() - start
            rows.append({"what": what, "seconds": seconds, "peak MB": peak_mb()})
        start = time.perf_counter()
        train(data, args.steps)
        seconds = time.perf_counter() - start
        rows.append(
            {"what": f"{args.steps} training steps", "seconds": seconds, "peak MB": peak_mb()}
        )
        start = time.perf_counter()
        what = index(data)
        seconds = time.perf_counter() - start
        rows.append({"what": what, "seconds": seconds, "peak MB": peak_mb()})
        size = large.stat().st_size / 1e9
    rows.append({"what": "after the imports alone", "seconds": 0.0, "peak MB": before})
    show(f"A text of {size:.3g} GB", rows, args.output)


if __name__ == "__main__":
    main()
