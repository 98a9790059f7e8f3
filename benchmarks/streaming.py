"""Training on streamed shards against the same images in memory, and what the readers give alone.

    python benchmarks/streaming.py [--steps 80] [--rounds 3] [--path FOLDER] [--output FILE.json]
    python benchmarks/streaming.py --ranks 2 --clock cpu     # DDP over gloo, one thread a process

DCGAN, 32 px, RGB, batch 64 a process on the CPU, as `configs/dcgan_fashion_mnist.yaml` trains it.
Without --path the images are noise, which no codec makes small: 20,000 PNGs in four parquet files.
The CPU's clock counts what all threads and workers of a process compute: on a machine with other
work it says what streaming costs, and where every core computes that is what it delays.
"""

import argparse
import itertools
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from _shards import write_shards
from _steps import bare_trainer
from _tables import show
from pytorch_lightning import Callback

from novum.datamodules import ImageDataModule
from novum.lightning_modules import GAN
from novum.lightning_modules.networks import DCGANDiscriminator, DCGANGenerator

BATCH = 64
CONTESTANTS = {
    "in memory": {},
    "streamed, two workers": {"streaming": True, "num_workers": 2},
    "streamed, no worker": {"streaming": True},
}


def cpu_seconds() -> float:
    """CPU time of this process and of the worker processes that it has now."""
    own, ticks = os.getpid(), os.sysconf("SC_CLK_TCK")
    total = time.process_time()
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            fields = Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == own:
                total += (int(fields[11]) + int(fields[12])) / ticks
    return total


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": cpu_seconds}


class Clock(Callback):
    """Seconds from the end of the warm-up to the end of training."""

    def __init__(self, now: Callable[[], float], warm_up: int, steps: int) -> None:
        self.now, self.warm_up, self.steps = now, warm_up, steps

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == self.warm_up - 1:
            self.start = self.now()
        if batch_idx == self.warm_up + self.steps - 1:
            self.seconds = self.now() - self.start


def train(path: str, options: dict, warm_up: int, steps: int, clock: str, ranks: int = 1) -> float:
    """Images per second and process."""
    counter = Clock(CLOCKS[clock], warm_up, steps)
    strategy = {"devices": ranks, "strategy": "ddp"} if ranks > 1 else {}
    trainer = bare_trainer(max_steps=warm_up + steps, callbacks=[counter], **strategy)
    data = ImageDataModule("huggingface", path, batch_size=BATCH, **options)
    trainer.fit(GAN(DCGANGenerator(32), DCGANDiscriminator(32)), data)
    return BATCH * steps / counter.seconds


def of_rank(rank: int, ranks: int, port: int, file: str, *work) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank),
                   "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank), "GROUP_RANK": "0",
                   "LOCAL_WORLD_SIZE": str(ranks), "TORCHELASTIC_RUN_ID": "x",
                   "OMP_NUM_THREADS": "1"}  # fmt: skip
    Path(f"{file}.{rank}").write_text(str(train(*work, ranks)))


def train_together(ranks: int, *work) -> float:
    """The mean over processes that train one model."""
    fork = multiprocessing.get_context("fork")
    with socket.socket() as found, tempfile.TemporaryDirectory() as folder:
        found.bind(("127.0.0.1", 0))
        port, file = found.getsockname()[1], f"{folder}/speed"
        found.close()
        processes = [
            fork.Process(target=of_rank, args=(rank, ranks, port, file, *work))
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return statistics.mean(float(Path(f"{file}.{r}").read_text()) for r in range(ranks))


def read(path: str, options: dict, clock: str, warm_up: int, batches: int = 150) -> float:
    """Images per second with nothing to train."""
    data = ImageDataModule("huggingface", path, batch_size=BATCH, **options)
    found = iter(data.train_dataloader())
    for _ in itertools.islice(found, warm_up):
        pass
    start = CLOCKS[clock]()
    for _ in itertools.islice(found, batches):
        pass
    return BATCH * batches / (CLOCKS[clock]() - start)


def measure(path: str, args: argparse.Namespace) -> list[dict]:
    ranks, clock = args.ranks, args.clock
    trained: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(args.rounds):  # in turn, so that a slow spell hits all alike
        for name, options in CONTESTANTS.items():
            work = path, options, args.warm_up, args.steps, clock
            trained[name].append(train_together(ranks, *work) if ranks > 1 else train(*work))
    resident = trained["in memory"]
    rows = []
    for name, speeds in trained.items():
        ratios = sorted(speed / there for speed, there in zip(speeds, resident, strict=True))
        quartiles = statistics.quantiles(ratios, n=4, method="inclusive")
        rows.append(
            {
                "images": name,
                f"training, images/s and process ({clock})": statistics.median(speeds),
                "of that in memory (median of rounds)": statistics.median(ratios),
                "quartiles": f"{quartiles[0]:.3g} to {quartiles[2]:.3g}",
                f"reading alone, images/s ({clock})": read(
                    path, CONTESTANTS[name], clock, args.warm_up
                ),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=10, help="steps before: buffers fill")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument("--path")
    parser.add_argument("--output")
    args = parser.parse_args()
    if args.rounds < 2 or args.warm_up < 1:
        parser.error("--rounds: at least 2, --warm-up: at least 1")
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        if not args.path:
            write_shards(Path(folder) / "data", "parquet", args.images, 32, 5_000)
        path = args.path or f"{folder}/data"
        rows = measure(path, args)
    title = f"DCGAN 32 px, batch {BATCH}, {args.ranks} processes: {args.path or 'noise PNGs'}"
    show(title, rows, args.output)


if __name__ == "__main__":
    main()
