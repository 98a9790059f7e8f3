"""One process against two: training and all-reduces, one thread each, and what to expect of more.

    python benchmarks/scaling.py [--steps 20] [--output FILE.json] [--picture FILE.png]

Each process has a batch of its own (weak scaling). The model of docs/scaling.md takes a step's time
and bytes from here, and the network's latency and bandwidth from its table.
"""

import argparse
import itertools
import math
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
import torch.distributed as dist
from _steps import bare_trainer
from _tables import show
from pytorch_lightning import Callback, LightningDataModule, LightningModule

from novum.lightning_modules import GAN, CharLSTM
from novum.lightning_modules.networks import CharRNN, DCGANDiscriminator, DCGANGenerator

SIZES = (4 * 2**10, 256 * 2**10, 4 * 2**20, 32 * 2**20)  # bytes of an all-reduce
WORLDS = (1, 8, 64, 512)
STEPS, MEGABYTES = (0.01, 0.1), (8, 120, 500)  # seconds, and what is reduced: of predictions


class Network(NamedTuple):
    """Seconds of an all-reduce: latency + 2 (n - 1) / n bytes / bandwidth (a ring)."""

    latency: float  # seconds for each doubling of the ranks
    bandwidth: float  # bytes a second and rank

    def all_reduce(self, bytes_: float, ranks: int) -> float:
        wire = 2 * (ranks - 1) / ranks * bytes_ / self.bandwidth
        return self.latency * math.log2(max(ranks, 1)) + wire


ASSUMED = {"NVLink": Network(10e-6, 200e9), "InfiniBand": Network(10e-6, 20e9)}


class Batches(LightningDataModule):
    def __init__(self, batch: dict[str, Any]) -> None:
        super().__init__()
        self.batch = batch

    def train_dataloader(self) -> Iterator[dict[str, Any]]:
        return itertools.repeat(self.batch)


class Clock(Callback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(time.perf_counter())


def techniques() -> Iterator[tuple[str, LightningModule, dict[str, Any]]]:
    networks = DCGANGenerator(32, width=64), DCGANDiscriminator(32, width=64)
    yield "GAN, DCGAN 32 px, batch 64", GAN(*networks), {"image": torch.rand(64, 3, 32, 32) * 2 - 1}
    lstm = CharLSTM(CharRNN(96, hidden_size=256))
    lstm.vocabulary.alphabet = None
    tokens = torch.randint(1, 96, (32, 101))
    yield "char-LSTM 2 x 256, batch 32", lstm, {"tokens": tokens, "restart": True, "epoch": 0.0}


def measure(rank: int, world: int, port: int, steps: int, folder: str) -> None:
    torch.set_num_threads(1)  # Lightning sets others where OMP_NUM_THREADS does not forbid it
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank),
                   "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "GROUP_RANK": "0",
                   "LOCAL_WORLD_SIZE": str(world), "TORCHELASTIC_RUN_ID": "x",
                   "OMP_NUM_THREADS": "1"}  # fmt: skip
    found: dict[str, Any] = {}
    for name, module, batch in techniques():
        clock = Clock()
        trainer = bare_trainer(devices=world, strategy="ddp", max_steps=steps, callbacks=[clock])
        trainer.fit(module, Batches(batch))
        seconds = statistics.median(b - a for a, b in itertools.pairwise(clock.times[2:]))
        learnt = sum(p.numel() * 4 for p in module.parameters() if p.requires_grad)
        found[name] = seconds, learnt
    found["all_reduce"] = {size: _all_reduce(size) for size in SIZES} if world > 1 else {}
    if rank == 0:
        torch.save(found, f"{folder}/{world}.pt")


def _all_reduce(size: int, rounds: int = 15) -> float:
    values, seconds = torch.zeros(size // 4), []
    for _ in range(rounds):
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(values)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def launch(world: int, steps: int, folder: str) -> dict[str, Any]:
    fork = multiprocessing.get_context("fork")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    given = [(rank, world, port, steps, folder) for rank in range(world)]
    ranks = [fork.Process(target=measure, args=arguments) for arguments in given]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return torch.load(f"{folder}/{world}.pt", weights_only=True)


def efficiency(step: float, bytes_: float, ranks: int) -> float:
    """Predicted; of 8 ranks within a machine, then over the network between machines."""
    network = ASSUMED["NVLink" if ranks <= 8 else "InfiniBand"]
    return step / (step + network.all_reduce(bytes_, ranks))


def draw(path: str) -> None:
    """Predicted efficiency against ranks, for each step's length and bytes."""
    ranks = [2**power for power in range(10)]
    figure, axes = plt.subplots(1, len(STEPS), figsize=(9, 3.4), sharey=True, layout="constrained")
    for axis, step in zip(axes, STEPS, strict=True):
        for megabytes in MEGABYTES:
            line = [100 * efficiency(step, megabytes * 1e6, n) for n in ranks]
            axis.plot(ranks, line, marker=".", label=f"{megabytes} MB")
        axis.axvline(8, color="0.7", linestyle=":", linewidth=1)
        axis.annotate("one machine", (8, 2), (-3, 0), textcoords="offset points", ha="right")
        axis.set_xscale("log", base=2)
        axis.set_xticks(ranks, ranks)
        axis.set(title=f"a step of {1000 * step:g} ms", xlabel="GPUs", ylim=(0, 103))
        axis.grid(color="0.9")
    axes[0].set_ylabel("efficiency, %")
    axes[1].legend(title="reduced a step", loc="lower right", fontsize="small")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--picture", help="a PNG of what is predicted, alone")
    parser.add_argument("--output")
    options = parser.parse_args()
    if options.picture:
        return draw(options.picture)
    with tempfile.TemporaryDirectory() as folder:
        one, two = (launch(world, options.steps, folder) for world in (1, 2))
    rows = []
    for name in (name for name in one if name != "all_reduce"):
        (alone, bytes_), (both, _) = one[name], two[name]
        rows.append({"technique": name, "1 process, s/step": alone, "2 processes": both,
                     "efficiency": alone / both, "MB a step": bytes_ / 1e6})  # fmt: skip
    show("Training, one thread a process, gloo", rows, options.output)
    show(
        "All-reduce over two processes (gloo, loopback)",
        [
            {"KiB": size // 1024, "ms": 1e3 * seconds, "MB/s": size / seconds / 1e6}
            for size, seconds in two["all_reduce"].items()
        ],
        None,
    )
    predicted = [
        {"step, s": step, "MB": megabytes}
        | {f"{n} ranks": efficiency(step, megabytes * 1e6, n) for n in WORLDS}
        for step, megabytes in itertools.product(STEPS, MEGABYTES)
    ]
    show("Predicted efficiency", predicted, None)


if __name__ == "__main__":
    main()
