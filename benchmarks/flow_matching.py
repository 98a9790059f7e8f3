"""Our flow matching under Lightning against a bare PyTorch loop of the same network and data.

    python benchmarks/flow_matching.py [--steps 60] [--rounds 5] [--width 64] [--size 32]
                                       [--clock wall|cpu] [--torchcfm FOLDER] [--output FILE.json]

Rectified flow on a U-Net, RGB, batch 64, as in the CIFAR-10 example of torchcfm: noise, a time, the
squared error, Adam and an averaged network. Both read random images that lie in memory.

`--torchcfm` is where its wheel is unpacked (`pip download --no-deps torchcfm`): a third
loop is the bare one over its U-Net, of the same widths, blocks and attention.
"""

import argparse
import sys
import tempfile
import time
import warnings
from copy import deepcopy
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from _steps import Clock, fit, rows, steps_in_turn
from _tables import show
from pytorch_lightning import LightningDataModule
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from novum.lightning_modules import FlowMatching
from novum.lightning_modules.networks import UNet

BATCH = 64
OURS, BARE = "novum under Lightning", "bare PyTorch loop"
THEIRS = "bare loop, torchcfm's U-Net"


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


def unet_of(folder: str, size: int, width: int) -> nn.Module:
    """torchcfm's U-Net with the settings of ours, called as ours is."""
    package = ModuleType("torchcfm")
    package.__path__ = [str(Path(folder, "torchcfm"))]  # without its __init__, which needs solvers
    sys.modules["torchcfm"] = package
    network = import_module("torchcfm.models.unet.unet").UNetModelWrapper(
        (3, size, size),
        width,
        num_res_blocks=2,
        channel_mult=(1, 2, 2),
        attention_resolutions="16,8",
        num_head_channels=32,
        use_scale_shift_norm=True,
    )

    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.network(t, x)

    return Turned()


def bare(clock: Clock, images: Tensor, steps: int, network: nn.Module) -> None:
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
    parser.add_argument("--torchcfm", metavar="FOLDER")
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    images = torch.randint(0, 256, (1024, 3, args.size, args.size), dtype=torch.uint8)
    now = time.process_time if args.clock == "cpu" else time.perf_counter
    ours = partial(UNet, args.size, width=args.width)
    with tempfile.TemporaryDirectory() as folder:
        contestants = {
            OURS: lambda clock: lightning(clock, images, args.steps, args.width, folder),
            BARE: lambda clock: bare(clock, images, args.steps, ours()),
        }
        if args.torchcfm:
            theirs = partial(unet_of, args.torchcfm, args.size, args.width)
            sizes = [sum(x.numel() for x in make().parameters()) for make in (ours, theirs)]
            print(f"weights: ours {sizes[0]:,}, torchcfm's {sizes[1]:,}")
            contestants[THEIRS] = lambda clock: bare(clock, images, args.steps, theirs())
        seconds = steps_in_turn(contestants, args.rounds, now)
    title = f"Flow matching step, U-Net, {args.size} px, width {args.width}, batch {BATCH}"
    show(title, rows(seconds, OURS), args.output)


if __name__ == "__main__":
    main()
