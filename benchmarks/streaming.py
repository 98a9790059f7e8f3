"""Training on streamed shards against the same images in memory, and what the readers give alone.

    python benchmarks/streaming.py [--steps 80] [--rounds 3] [--path FOLDER] [--output FILE.json]

DCGAN, 32 px, RGB, batch 64 on the CPU, as `configs/dcgan_fashion_mnist.yaml` trains it.
Without --path the images are noise, which no codec makes small: 20,000 PNGs in four parquet files.
"""

import argparse
import itertools
import statistics
import tempfile
import time
import warnings
from pathlib import Path

from _shards import write_shards
from _steps import bare_trainer
from _tables import show
from pytorch_lightning import Callback

from novum.datamodules import ImageDataModule
from novum.lightning_modules import GAN
from novum.lightning_modules.networks import DCGANDiscriminator, DCGANGenerator

BATCH = 64
WARM_UP = 10  # steps that are not timed: processes start, buffers fill


class Clock(Callback):
    """Seconds from the end of the warm-up to the end of training."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == WARM_UP - 1:
            self.start = time.perf_counter()
        self.seconds = time.perf_counter() - getattr(self, "start", 0)


def train(data: ImageDataModule, steps: int) -> float:
    """Images per second."""
    clock = Clock()
    trainer = bare_trainer(max_steps=WARM_UP + steps, callbacks=[clock])
    trainer.fit(GAN(DCGANGenerator(32), DCGANDiscriminator(32)), data)
    return BATCH * steps / clock.seconds


def read(data: ImageDataModule, batches: int = 150) -> float:
    """Images per second with nothing to train."""
    found = iter(data.train_dataloader())
    for _ in itertools.islice(found, WARM_UP):
        pass
    start = time.perf_counter()
    for _ in itertools.islice(found, batches):
        pass
    return BATCH * batches / (time.perf_counter() - start)


def measure(path: str, steps: int, rounds: int) -> list[dict]:
    def module(**options) -> ImageDataModule:
        return ImageDataModule("huggingface", path, batch_size=BATCH, **options)

    contestants = {
        "in memory": {},
        "streamed, two workers": {"streaming": True, "num_workers": 2},
        "streamed, no worker": {"streaming": True},
    }
    trained = {name: [] for name in contestants}
    for _ in range(rounds):  # in turn, so that a slow spell hits all alike
        for name, options in contestants.items():
            trained[name].append(train(module(**options), steps))
    resident = trained["in memory"]
    return [
        {
            "images": name,
            "training, images/s": statistics.median(speeds),
            "of that in memory (median of rounds)": statistics.median(
                speed / there for speed, there in zip(speeds, resident, strict=True)
            ),
            "reading alone, images/s": read(module(**contestants[name])),
        }
        for name, speeds in trained.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--path")
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        if not args.path:
            write_shards(Path(folder) / "data", "parquet", args.images, 32, 5_000)
        rows = measure(args.path or f"{folder}/data", args.steps, args.rounds)
    show(f"DCGAN 32 px, batch {BATCH}: {args.path or 'noise PNGs'}", rows, args.output)


if __name__ == "__main__":
    main()
