"""Matching statistics of text: ours against a bisection in Python and against `in`, and the index.

    python benchmarks/text_matching.py [--text input.txt] [--sizes 1.1 100]

The corpus is the given text (by default the standard library's source), its words shuffled until
there are this many MB; the text that is matched is the same words in another order, or passages of
the corpus of 3,000 characters one after another ("copied"). The peers walk
through a part of it, character by character: one bisects the suffix array with Python's bisect (64
characters deep, so it stops where we go on), the other asks whether a longer passage is `in` the
corpus. Memory is what a process of its own has more at its peak than before the index is built.
"""

import argparse
import bisect
import multiprocessing
import resource
import statistics
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import numpy as np
from _tables import in_turn, median_ratio, show

from novum.metrics.novelty.text import build_index, match

MB = 1_000_000
FAR = 64
COPIED = 3000  # characters of a passage


def shuffled_words(text: bytes, size: int, seed: int) -> np.ndarray:
    """`size` bytes of the text's words, reshuffled each time they run out."""
    words = np.array(text.split(b" "), dtype=object)
    random = np.random.default_rng(seed)
    parts, have = [], 0
    while have < size:
        parts.append(b" ".join(words[random.permutation(len(words))].tolist()))
        have += len(parts[-1])
    return np.frombuffer(b"".join(parts)[:size], np.uint8)


def copied_passages(corpus: np.ndarray, size: int, seed: int) -> np.ndarray:
    starts = np.random.default_rng(seed).integers(0, len(corpus) - COPIED, -(-size // COPIED))
    return np.concatenate([corpus[start : start + COPIED] for start in starts.tolist()])[:size]


def by_bisection(corpus: bytes, order: list[int], text: bytes) -> list[int]:
    """Matching statistics, FAR at the most."""
    ranks, lengths = range(len(order)), []
    for i in range(len(text) - FAR):
        wanted = text[i : i + FAR]
        rank = bisect.bisect_left(ranks, wanted, key=lambda r: corpus[order[r] : order[r] + FAR])
        near = [order[r] for r in (rank - 1, rank) if 0 <= r < len(order)]
        lengths.append(max(_common(corpus[at : at + FAR], wanted) for at in near))
    return lengths


def _common(a: bytes, b: bytes) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def by_search(corpus: bytes, text: bytes) -> list[int]:
    """Matching statistics: a passage is at most one character shorter than the one before."""
    length, lengths = 0, []
    for i in range(len(text) - FAR):
        length = max(length - 1, 0)
        while length < FAR and text[i : i + length + 1] in corpus:
            length += 1
        lengths.append(length)
    return lengths


def index_cost(pipe: Any, corpus: np.ndarray) -> None:
    """Seconds, and bytes of memory a character at the peak."""
    np.array(corpus[:1000]).sum()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    index = build_index(corpus)
    seconds = time.perf_counter() - start
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    pipe.send((seconds, more / len(index)))


def build_elsewhere(corpus: np.ndarray) -> tuple[float, float]:
    here, there = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=index_cost, args=(there, corpus))
    process.start()
    found = here.recv()
    process.join()
    return found


def costs(text: bytes, megabytes: float) -> list[tuple[float, float]]:
    corpus = shuffled_words(text, int(megabytes * MB), seed=0)
    return [build_elsewhere(corpus) for _ in range(3 if megabytes < 10 else 1)]


def race(text: bytes, megabytes: float, queries: int, slow: int, rounds: int) -> dict[str, Any]:
    """Speed, for a row of the table."""
    corpus = shuffled_words(text, int(megabytes * MB), seed=0)
    index = build_index(corpus)
    written = shuffled_words(text, queries, seed=1)
    few = max(10, int(slow / (20 * max(1.0, megabytes))))  # each asks for a scan of the corpus
    copied = copied_passages(corpus, queries, seed=2)
    parts = [written[: slow + FAR].tobytes(), written[: few + FAR].tobytes()]
    (shard,) = index.shards
    known, order = corpus.tobytes(), shard.order.tolist() if megabytes < 10 else shard.order
    seconds = in_turn(
        {
            "ours": lambda: match(index, written),
            "copied": lambda: match(index, copied),
            "bisection": lambda: by_bisection(known, order, parts[0]),
            "search": lambda: by_search(known, parts[1]),
        },
        rounds,
    )
    sizes = {"ours": len(written), "copied": len(copied), "bisection": slow, "search": few}
    each = {name: [s / sizes[name] for s in times] for name, times in seconds.items()}
    speeds = {name: 1 / statistics.median(times) / MB for name, times in each.items()}
    ours = np.minimum(match(index, written).length, FAR)
    same = [np.mean(ours[:slow] == by_bisection(known, order, parts[0])),
            np.mean(ours[:few] == by_search(known, parts[1]))]  # fmt: skip
    return {
        "ours MB/s": speeds["ours"],
        "copied MB/s": speeds["copied"],
        "bisect MB/s": speeds["bisection"],
        "in MB/s": speeds["search"],
        "times bisect": median_ratio(each["ours"], each["bisection"]),
        "times in": median_ratio(each["ours"], each["search"]),
        "same": float(min(same)),
    }


def library_source() -> bytes:
    root = Path(sysconfig.get_path("stdlib"))
    return b"".join(file.read_bytes() for file in sorted(root.glob("*.py")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1.1, 100.0], help="MB")
    parser.add_argument("--queries", type=int, default=1_000_000, help="characters matched")
    parser.add_argument("--slow", type=int, default=20_000, help="characters the peers go through")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output")
    args = parser.parse_args()
    if args.text and not args.text.is_file():
        sys.exit(f"there is no file {args.text}")
    text = args.text.read_bytes() if args.text else library_source()
    built = [costs(text, size) for size in args.sizes]  # first: a fork has no OpenMP threads
    rows = [
        {
            "corpus MB": size,
            "index s": statistics.median(seconds for seconds, _ in found),
            "bytes/char": max(memory for _, memory in found),
            **race(text, size, args.queries, args.slow, args.rounds),
        }
        for size, found in zip(args.sizes, built, strict=True)
    ]
    show(f"Matching statistics of {args.queries / MB:g} MB of text", rows, args.output)


if __name__ == "__main__":
    main()
