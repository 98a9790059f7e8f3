"""Speed of the search for near copies of text in a large corpus.

    python benchmarks/text_copy_speed.py --text FOLDER [FOLDER ...] [--size 100] [--samples 1]

Text files of the folders, a seventh of them kept out, until there are `--size` MB of the others.
The samples are so many MB of the files kept out, and as many of passages of 3,000 characters of
the corpus, one after another. MB a second of wall time and of the CPU's, medians of rounds.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _tables import show

from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text import TextReferences
from novum.metrics.novelty.text.near_copies import search
from novum.metrics.novelty.text.readings import read_samples

MB = 1_000_000
PASSAGE = 3000
SUFFIXES = set(".c .css .h .html .js .md .pl .pm .py .rst .tcl .txt .xml".split())


def texts(folders: list[Path]) -> Iterator[str]:
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in SUFFIXES and path.is_file() and not path.is_symlink():
                text = path.read_text(errors="ignore")
                if text:
                    yield text


def corpus(folders: list[Path], size: int, kept_out: int) -> tuple[list[str], str]:
    """Documents that are searched, and text of others."""
    train: list[str] = []
    apart: list[str] = []
    have = out = 0
    for i, text in enumerate(texts(folders)):
        if i % 7 == 3:
            apart.append(text)
            out += len(text)
        elif have < size:
            train.append(text)
            have += len(text)
        if have >= size and out >= kept_out:
            return train, "".join(apart)[:kept_out]
    raise SystemExit(f"{have / MB:.1f} MB to search and {out / MB:.1f} kept out: add a folder")


def copied(text: str, size: int) -> str:
    starts = np.random.default_rng(0).integers(0, len(text) - PASSAGE, -(-size // PASSAGE))
    return "".join(text[start : start + PASSAGE] for start in starts.tolist())[:size]


def row(name: str, samples: str, references: TextReferences, rounds: int) -> dict[str, Any]:
    read = read_samples([samples], references.alphabets)
    folded = read.readings["folded"]
    walls, clocks, found = [], [], 0
    for _ in range(rounds):
        wall, clock = time.perf_counter(), time.process_time()
        found = len(search(references.pool, folded.tokens, read.ends["folded"]).passages.start)
        walls.append(time.perf_counter() - wall)
        clocks.append(time.process_time() - clock)
    size = len(samples) / MB
    return {
        "samples": name,
        "MB": size,
        "MB/s": size / statistics.median(walls),
        "MB/s of the CPU's time": size / statistics.median(clocks),
        "passages": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--size", type=float, default=100, help="MB of the corpus")
    parser.add_argument("--samples", type=float, default=1, help="MB of each kind of samples")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output")
    args = parser.parse_args()
    size = int(args.samples * MB)
    train, others = corpus(args.text, int(args.size * MB), size)
    start = time.perf_counter()
    references = TextReferences(TextSource.of_documents(train), None)
    _ = references.pool
    seconds = time.perf_counter() - start
    whole = "".join(train)
    kinds = {"other files": others, "copied passages": copied(whole, size)}
    rows = [row(name, text, references, args.rounds) for name, text in kinds.items()]
    title = f"near copies in {len(whole) / MB:.0f} MB, read and counted in {seconds:.0f} s"
    show(title, rows, args.output)


if __name__ == "__main__":
    main()
