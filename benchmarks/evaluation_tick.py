"""Time and memory of one whole evaluation during training: 10,000 samples, every callback.

    python benchmarks/evaluation_tick.py [--dataset fashion_mnist] [--samples 10000]

A DCGAN at 32 px with fresh weights is judged; the reference features are cached first, as they
are after the first evaluation of a run. The last rows are what the training thread waits for when
pictures go out, against TensorBoard's add_image.
"""

import argparse
import resource
import tempfile
import time
import warnings

import torch
from _tables import show
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torchvision.utils import make_grid

from novum import callbacks
from novum.callbacks.logging import log_picture, wait_for_pictures
from novum.datamodules import ImageDataModule
from novum.lightning_modules import GAN
from novum.lightning_modules.networks import DCGANDiscriminator, DCGANGenerator
from novum.report.pictures import encode, tile, to_rgb


class Timed(callbacks.EvaluationCallback):
    """Runs a callback's evaluation and notes the seconds it took."""

    def __init__(self, inner: callbacks.EvaluationCallback, seconds: dict[str, float]) -> None:
        self.inner, self.seconds = inner, seconds

    def evaluate(self, trainer, pl_module) -> None:
        start = time.perf_counter()
        self.inner.evaluate(trainer, pl_module)
        self.seconds[type(self.inner).__name__] = time.perf_counter() - start


class Samples(callbacks.EvaluationCallback):
    """Draws the samples and their features first, so that the rows after it are metrics alone."""

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def evaluate(self, trainer, pl_module) -> None:
        evaluation = callbacks.Evaluation.of(trainer, pl_module)
        for split in ("train", "heldout"):
            for name in ("pixels", "efficientnet_lite0"):
                evaluation.reference(name, split)
        evaluation.reference_moments("efficientnet_lite0", "train")
        start = time.perf_counter()
        evaluation.samples(self.num_samples)
        self.sampling = time.perf_counter() - start
        start = time.perf_counter()
        evaluation.features("efficientnet_lite0", self.num_samples)
        self.extraction = time.perf_counter() - start


def picture_seconds(trainer: Trainer, size: int) -> tuple[float, float]:
    """Seconds the caller waits for a grid of 64 images: ours, and TensorBoard's add_image."""
    images = torch.randint(0, 256, (64, 3, size, size), dtype=torch.uint8)
    start = time.perf_counter()
    log_picture(trainer, "ours", lambda: encode(tile(to_rgb(images), 8)), 0)
    ours = time.perf_counter() - start
    wait_for_pictures()
    start = time.perf_counter()
    trainer.logger.experiment.add_image("theirs", make_grid(images), 0)
    return ours, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    n, seconds = args.samples, {}
    samples = Samples(n)
    judged = [
        callbacks.FrechetDistanceCallback(num_samples=n),
        callbacks.KernelDistance(num_samples=n),
        callbacks.PrecisionRecall(num_samples=n),
        callbacks.DensityCoverage(num_samples=n),
        callbacks.NearestNeighbours(num_samples=n),
        callbacks.TrainingHealth(num_samples=n),
        callbacks.SampleGrid(),
        callbacks.FilmStrip(),
        callbacks.Interpolation(),
    ]
    data = ImageDataModule(args.dataset)
    gan = GAN(DCGANGenerator(32, data.channels), DCGANDiscriminator(32, data.channels))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="auto",
            devices=1,
            max_steps=1,
            val_check_interval=1,
            check_val_every_n_epoch=None,
            limit_val_batches=1,
            num_sanity_val_steps=0,
            logger=TensorBoardLogger(folder),
            callbacks=[samples, *(Timed(c, seconds) for c in judged)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(gan, data)
        fresh = Trainer(logger=TensorBoardLogger(folder, "pictures"), accelerator="cpu", devices=1)
        grids = {size: picture_seconds(fresh, size) for size in (64, 256)}
    rows = [
        {"part": "sampling", "seconds": samples.sampling},
        {"part": "features", "seconds": samples.extraction},
        *({"part": name, "seconds": s} for name, s in seconds.items()),
    ]
    rows.append({"part": "all of it", "seconds": sum(row["seconds"] for row in rows)})
    for size, (ours, theirs) in grids.items():
        rows.append({"part": f"64 pictures of {size} px, ours", "seconds": ours})
        rows.append({"part": f"64 pictures of {size} px, add_image", "seconds": theirs})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    show(f"Evaluation of {n:,} samples, {args.dataset}: peak {peak:.2f} GiB", rows, args.output)


if __name__ == "__main__":
    main()
