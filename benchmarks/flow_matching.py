"""Our flow matching under Lightning against a bare PyTorch loop of the same network and data.

    python benchmarks/flow_matching.py [--steps 60] [--rounds 5] [--width 64] [--size 32]
                                       [--clock wall|cpu] [--output FILE.json]

Rectified flow on a U-Net, RGB, batch 64, as in the CIFAR-10 example of torchcfm: noise, a time, the
squared error, Adam and an averaged network. Both read random images that lie in memory.
"""

import argparse
import tempfile
import time
import warnings
from copy import deepcopy

import torch
from _steps import Clock, fit, rows, steps_in_turn
from _tables import show
from pytorch_lightning import LightningDataModule
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from novum.lightning_modules import FlowMatching
from novum.lightning_modules.networks import UNet

BATCH = 64
OURS, BARE = "novum under Lightning", "bare PyTorch loop"


class Data(LightningDataModule):
    def __init__(self, images: Tensor, steps: int) -> None:
        super().__init__()
        self.images, self.steps = images, steps

    def train_dataloader(self) -> list[dict[str, Tensor]]:
        return ({"image": batch(self.images, step)} for step in range(self.steps + 1))


def batch(images: Tensor, step: int) -> Tensor:
    rows = torch.arange(step * BATCH, (step + 1) * BATCH) % len(images)
    return images[rows].float() / 127.5 - 1


def lightning(clock: Clock, images: Tensor, steps: int, width: int, folder: str) -> None:
    """Logger and progress bar on, as a user runs it."""
    module = FlowMatching(UNet(images.shape[-1], width=width))
    logger = TensorBoardLogger(folder)
    fit(module, Data(images, steps), clock, max_steps=steps, logger=logger)


def bare(clock: Clock, images: Tensor, steps: int, width: int) -> None:
    network = UNet(images.shape[-1], width=width)
    average = deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for step in range(steps):
        real = batch(images, step)
        noise, t = torch.randn_like(real), torch.rand(len(real))
        x = torch.lerp(noise, real, t[:, None, None, None])
        loss = (network(x, t) - (real - noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for a, w in zip(average.parameters(), network.parameters(), strict=True):
                a.lerp_(w, 1e-3)
        clock.tick()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    images = torch.randint(0, 256, (1024, 3, args.size, args.size), dtype=torch.uint8)
    now = time.process_time if args.clock == "cpu" else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        contestants = {
            OURS: lambda clock: lightning(clock, images, args.steps, args.width, folder),
            BARE: lambda clock: bare(clock, images, args.steps, args.width),
        }
        seconds = steps_in_turn(contestants, args.rounds, now)
    title = f"Flow matching step, U-Net, {args.size} px, width {args.width}, batch {BATCH}"
    show(title, rows(seconds, OURS), args.output)


if __name__ == "__main__":
    main()
