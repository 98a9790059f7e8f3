"""Memory and speed of a corpus larger than memory: made, trained on, indexed and searched.

    python benchmarks/text_memory.py --text input.txt [--gigabytes 10] [--limit 6]

The words of the text, each drawn again at random, until the corpus is that large, in a folder of
its own that needs thirty times the space; samples are such words too, with passages of the corpus.
The limit (GB) is what the kernel lets the process have beside what it imports (RLIMIT_DATA): files
that are mapped into memory do not count, as the kernel takes their pages back. Each row has the
most memory of its own that the process has had so far, and seconds of the clock and of the CPU.
"""

import argparse
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _steps import bare_trainer
from _tables import show

from novum.datamodules import TextDataModule
from novum.lightning_modules import CharLSTM
from novum.lightning_modules.networks import CharRNN
from novum.metrics.novelty.text import TextReferences, match, references, search
from novum.metrics.novelty.text.readings import read_samples

MB = 1_000_000
COPIED = 300  # characters of a passage of the corpus in the samples, one in ten


def own_bytes() -> int:
    """Bytes of memory of this process that no file has."""
    status = Path("/proc/self/status").read_text().split("RssAnon:")[1]
    return int(status.split()[0]) * 1024


class Peak:
    """The most of `own_bytes`, as far as it is looked at."""

    def __init__(self) -> None:
        self.bytes = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, own_bytes())
            time.sleep(0.02)


def limit_memory(gigabytes: float) -> None:
    status = Path("/proc/self/status").read_text().split("VmData:")[1]
    size = int(status.split()[0]) * 1024 + int(gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def written(words: np.ndarray, size: int, random: np.random.Generator) -> str:
    """So many characters of words, in lines."""
    drawn = words[random.integers(0, len(words), size // 4)]
    drawn[::12] += "\n"
    return " ".join(drawn.tolist())[:size]


def write_corpus(file: Path, words: np.ndarray, size: int) -> None:
    random = np.random.default_rng(0)
    with file.open("w") as out:
        for start in range(0, size, MB):
            out.write(written(words, min(MB, size - start), random))


def samples(words: np.ndarray, corpus: Path, size: int) -> str:
    """Fresh text, with a passage of the corpus in each ten of as many characters."""
    random, parts = np.random.default_rng(1), []
    with corpus.open() as file:
        for _ in range(0, size, 10 * COPIED):
            file.seek(int(random.integers(corpus.stat().st_size - COPIED)))
            parts += [written(words, 9 * COPIED, random), file.read(COPIED)]
    return "".join(parts)


class Table:
    """Rows of what was done, in seconds and memory."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.peak = Peak()

    def add(self, what: str, size: int, do: Callable[[], object]) -> None:
        clock, cpu = time.perf_counter(), time.process_time()
        do()
        seconds, used = time.perf_counter() - clock, time.process_time() - cpu
        self.rows.append(
            {
                "what": what,
                "seconds": seconds,
                "CPU seconds": used,
                "MB/s": size / MB / seconds if size else "",
                "MB/s of a CPU": size / MB / used if size else "",
                "own MB at the peak": max(self.peak.bytes, own_bytes()) / MB,
            }
        )
        print(self.rows[-1], flush=True)


def measure(folder: Path, args: argparse.Namespace) -> tuple[list[dict], str]:
    words = np.array(sorted(set(args.text.read_text(encoding="utf-8").split())), dtype=object)
    large = folder / "large.txt"
    size = int(args.gigabytes * 1e9)
    write_corpus(large, words, size)
    queries = samples(words, large, args.queries)
    limit_memory(args.limit)
    table, made = Table(), []
    table.add("imports", 0, lambda: None)
    table.add("tokens made", size, lambda: made.append(TextDataModule("files", files=str(large))))
    if args.steps:
        model = CharLSTM(CharRNN(made[0].vocab_size), made[0].alphabet)
        trainer = bare_trainer(max_steps=args.steps)
        table.add(f"{args.steps} training steps", 0, lambda: trainer.fit(model, made[0]))
    known = TextReferences(made[0].train, None)
    table.add("index written", size, lambda: (known.index, known.pool))
    again = TextReferences(made[0].train, None)
    table.add("opened again", 0, lambda: (again.index, again.pool))
    read = read_samples([queries], known.alphabets)
    exact, folded = read.readings["verbatim"].tokens, read.readings["folded"].tokens
    table.add("what is usual", 0, again.prepare)
    table.add("exact matches", len(queries), lambda: match(known.index, exact))
    table.add("near copies", len(queries), lambda: search(known.pool, folded))
    index = sum(file.stat().st_size for file in folder.glob("text_indices/*/*"))
    shards = len(known.index.shards)
    return (
        table.rows,
        f"{size / 1e9:.3g} GB in {shards} shards, {index / size:.1f} bytes a character",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--limit", type=float, default=6, help="GB beside what is imported")
    parser.add_argument("--shard", type=int, help="MB of a shard; else what suits the memory")
    parser.add_argument("--queries", type=int, default=10 * MB, help="characters of samples")
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--folder", help="where all is written for a while")
    parser.add_argument("--output")
    args = parser.parse_args()
    if args.shard:
        references.shard_size = lambda: args.shard * MB
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        os.environ["NOVUM_CACHE"] = folder
        rows, about = measure(Path(folder), args)
    show(f"A text of {about}", rows, args.output)


if __name__ == "__main__":
    main()
