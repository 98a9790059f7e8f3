"""Exact nearest neighbours: ours against faiss-cpu's IndexFlatL2, in seconds.

    pip install faiss-cpu
    python benchmarks/neighbours.py [--rows 50000] [--neighbours 5] [--threads 2]
    python benchmarks/neighbours.py --train train.parquet --heldout test.parquet

With images the data are their features, held-out ones searched among those of training; without,
random numbers. --clock cpu counts each process's own seconds, for a machine that others use; run
it with --threads 1.

Each contender lives in a process of its own, since faiss brings its own OpenMP, and they are timed
in turn. faiss is timed with and without adding the reference to its index; we keep no index. `same`
is the share of all indices on which both agree: faiss sums in float32, we rank in float64.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from _tables import median_ratio, show


class Problem(NamedTuple):
    data: str
    d: int
    queries: int
    rows: int
    neighbours: int
    folder: str | None = None  # of features; else they are drawn
    clock: str = "wall"

    def now(self) -> float:
        return time.process_time() if self.clock == "cpu" else time.perf_counter()

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries and reference, the same in every process."""
        if self.folder is not None:
            sides = (np.load(Path(self.folder) / f"{x}.npy") for x in ("heldout", "train"))
            queries, reference = map(torch.from_numpy, sides)
            return queries[: self.queries], reference[: self.rows]
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.queries + self.rows, self.d, generator=generator)
        if self.data == "decaying":  # variances like 1 / i^2 in a random basis, as features have
            basis = torch.linalg.qr(torch.randn(self.d, self.d, generator=generator)).Q
            x = (x / torch.arange(1, self.d + 1)) @ basis
        return x[: self.queries].contiguous(), x[self.queries :].contiguous()


def ours(pipe: Connection, problem: Problem, threads: int) -> None:
    from novum.metrics.neighbours import knn

    torch.set_num_threads(threads)
    queries, reference = problem.draw()
    for _ in iter(pipe.recv, None):
        start = problem.now()
        found = knn(queries, reference, problem.neighbours)
        pipe.send(((problem.now() - start,), found.indices.numpy()))


def faiss(pipe: Connection, problem: Problem, threads: int) -> None:
    import faiss

    queries, reference = (x.numpy() for x in problem.draw())
    faiss.omp_set_num_threads(threads)
    for _ in iter(pipe.recv, None):
        start = problem.now()
        index = faiss.IndexFlatL2(problem.d)
        index.add(reference)
        added = problem.now()
        _, indices = index.search(queries, problem.neighbours)
        end = problem.now()
        pipe.send(((end - added, end - start), indices))


def race(problem: Problem, threads: int, rounds: int) -> dict[str, object]:
    """A row of the table: medians over rounds, after one to warm up."""
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for contender in (ours, faiss):
        here, there = spawn.Pipe()
        processes.append(spawn.Process(target=contender, args=(there, problem, threads)))
        processes[-1].start()
        there.close()
        pipes.append(here)
    seconds: list[list[float]] = []
    for _ in range(rounds + 1):
        for pipe in pipes:
            pipe.send("go")
            pipe.poll(None)
            seconds.append(pipe.recv())
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join()
    us = [times[0] for times, _ in seconds[2::2]]
    search, with_add = zip(*(times for times, _ in seconds[3::2]), strict=True)
    return {
        "data": problem.data,
        "d": problem.d,
        "queries": problem.queries,
        "us": statistics.median(us),
        "faiss": statistics.median(search),
        "with add": statistics.median(with_add),
        "times": median_ratio(us, search),
        "times with add": median_ratio(us, with_add),
        "same": float(np.mean(seconds[-2][1] == seconds[-1][1])),
        "load": os.getloadavg()[0],
    }


def features_of(folder: str, train: str, heldout: str, name: str) -> int:
    """Writes both sides' features to the folder; their width."""
    from altered_copies import shuffled

    from novum.metrics.features import extract_features, load_extractor

    extractor = load_extractor(name)
    for side, images in (("train", train), ("heldout", heldout)):
        found = extract_features(extractor, shuffled(images, side))
        np.save(Path(folder) / f"{side}.npy", found.numpy())
    return found.shape[1]


def problems(args: argparse.Namespace, folder: str) -> list[Problem]:
    def problem(data: str, d: int, queries: int, where: str | None = None) -> Problem:
        return Problem(data, d, queries, args.rows, args.neighbours, where, args.clock)

    if args.train:
        d = features_of(folder, args.train, args.heldout, args.features)
        return [problem(args.features, d, m, folder) for m in (2_000, 10_000)]
    shapes = [(d, m) for d in args.widths for m in ([2_000, 10_000] if d == 64 else [2_000])]
    return [problem(data, d, m) for d, m in shapes for data in ("normal", "decaying")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--neighbours", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 768, 2048])
    parser.add_argument("--train", help="images, whose features are searched")
    parser.add_argument("--heldout", help="images, whose features are searched for")
    parser.add_argument("--features", default="efficientnet_lite0")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--output")
    args = parser.parse_args()
    try:
        import faiss  # noqa: F401
    except ModuleNotFoundError:
        sys.exit("faiss is not installed: pip install faiss-cpu")
    with tempfile.TemporaryDirectory() as folder:
        rows = [race(x, args.threads, args.rounds) for x in problems(args, folder)]
    title = f"{args.neighbours} nearest of {args.rows} rows, {args.threads} threads: seconds"
    show(title, rows, args.output)


if __name__ == "__main__":
    main()
