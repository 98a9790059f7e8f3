"""Our GAN under Lightning against bare PyTorch loops of the same networks and data.

    python benchmarks/training_step.py [--steps 150] [--rounds 5] [--output FILE.json]
    python benchmarks/training_step.py --clock cpu      # where other work keeps the machine busy

DCGAN, 32 px, RGB, batch 64, as in PyTorch's own DCGAN example: one Adam step of each network a
batch, the fakes made once. All read random images that lie in memory. One loop is that example's;
the other, the fair one, freezes the discriminator in the generator's step as ours does, which
saves the gradients of its weights.
"""

import argparse
import statistics
import tempfile
import time
import warnings

import torch
import torch.nn.functional as F
from _steps import bare_trainer
from _tables import in_turn, median_ratio, show
from pytorch_lightning import LightningDataModule
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from novum.callbacks import ProgressBar
from novum.lightning_modules import GAN
from novum.lightning_modules.networks import DCGANDiscriminator, DCGANGenerator

BATCH = 64
FAIR, PLAIN = "bare PyTorch loop, freezing", "bare PyTorch loop, plain"
IMAGES = torch.randint(0, 256, (4096, 3, 32, 32), dtype=torch.uint8)


def batch(step: int) -> Tensor:
    rows = torch.arange(step * BATCH, (step + 1) * BATCH) % len(IMAGES)
    return IMAGES[rows].float() / 127.5 - 1


class Data(LightningDataModule):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def train_dataloader(self) -> list[dict[str, Tensor]]:
        return ({"image": batch(step)} for step in range(self.steps + 1))


def lightning(steps: int, folder: str, width: int) -> None:
    """Logger, progress bar and EMA on, as a user runs it."""
    gan = GAN(DCGANGenerator(32, width=width), DCGANDiscriminator(32, width=width))
    trainer = bare_trainer(
        max_steps=steps,
        logger=TensorBoardLogger(folder),
        callbacks=[ProgressBar()],
        enable_progress_bar=True,
    )
    trainer.fit(gan, Data(steps))


def bare(steps: int, width: int, freezing: bool) -> None:
    """The loop of PyTorch's DCGAN example, on logits; it has no EMA, logger or bar.

    Args:
        freezing: The discriminator takes no gradients in the generator's step, as in ours.
    """
    generator, discriminator = DCGANGenerator(32, width=width), DCGANDiscriminator(32, width=width)
    g_opt = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    d_opt = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    for step in range(steps):
        real = batch(step)
        d_opt.zero_grad()
        F.softplus(-discriminator(real)).mean().backward()
        fake = generator(torch.randn(BATCH, 128))
        F.softplus(discriminator(fake.detach())).mean().backward()
        d_opt.step()
        g_opt.zero_grad()
        discriminator.requires_grad_(not freezing)
        F.softplus(-discriminator(fake)).mean().backward()
        discriminator.requires_grad_(True)
        g_opt.step()


def quartiles(ours: list[float], theirs: list[float]) -> str:
    ratios = [t / o for o, t in zip(ours, theirs, strict=True)]
    if len(ratios) < 2:
        return ""
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{low:.3g} to {high:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        seconds = in_turn(
            {
                "novum under Lightning": lambda: lightning(args.steps, folder, args.width),
                FAIR: lambda: bare(args.steps, args.width, freezing=True),
                PLAIN: lambda: bare(args.steps, args.width, freezing=False),
            },
            args.rounds,
            clock=time.process_time if args.clock == "cpu" else time.perf_counter,
        )
    rows = [
        {
            "contestant": name,
            "images/s (median)": BATCH * args.steps / statistics.median(times),
            "ms/step": 1000 * statistics.median(times) / args.steps,
            "ratio to the fair loop": median_ratio(times, seconds[FAIR]),
            "quartiles": quartiles(times, seconds[FAIR]),
            "ratio to the plain loop": median_ratio(times, seconds[PLAIN]),
        }
        for name, times in seconds.items()
    ]
    show(f"GAN training step, DCGAN 32 px, batch {BATCH}", rows, args.output)


if __name__ == "__main__":
    main()
