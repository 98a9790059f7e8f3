"""CharTransformer under Lightning against a bare loop.

    python benchmarks/char_transformer.py [--steps 200] [--rounds 3] [--output FILE.json]

Processor time of one thread, so that other processes matter little. Random tokens: the text does
not matter to the speed. text_sampling.py times sampling.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from _steps import bare_trainer
from _tables import in_turn, median_ratio, show
from pytorch_lightning import LightningDataModule
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from novum.callbacks import ProgressBar
from novum.lightning_modules import CharTransformer
from novum.lightning_modules.networks import CausalTransformer

VOCABULARY = 66
ALPHABET = "".join(map(chr, range(97, 97 + VOCABULARY - 1)))
TOKENS = np.random.default_rng(0).integers(1, VOCABULARY, 1_000_000).astype(np.uint8)
BATCH, CONTEXT = 12, 64  # nanoGPT's on a CPU, as the network's defaults


def windows() -> Iterator[dict[str, Tensor | bool | float]]:
    """As TextDataModule draws them."""
    for step in range(10**9):
        starts = np.random.default_rng([0, step]).integers(len(TOKENS) - CONTEXT, size=BATCH)
        rows = TOKENS[starts[:, None] + np.arange(CONTEXT + 1)]
        tokens = torch.from_numpy(rows.astype(np.int64))
        yield {"tokens": tokens, "restart": True, "epoch": 0.0}


class Data(LightningDataModule):
    def train_dataloader(self) -> Iterator[dict]:
        return windows()


def lightning(steps: int, folder: str) -> None:
    """Logger and progress bar on, as a user runs it."""
    trainer = bare_trainer(
        max_steps=steps,
        logger=TensorBoardLogger(folder),
        callbacks=[ProgressBar()],
        enable_progress_bar=True,
        gradient_clip_val=1.0,
    )
    trainer.fit(CharTransformer(CausalTransformer(VOCABULARY), ALPHABET), Data())


def bare(steps: int) -> None:
    """The same network, optimizer and windows without Lightning, logger or bar."""
    net = CausalTransformer(VOCABULARY)
    groups = [
        {"params": [p for p in net.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in net.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    for _, batch in zip(range(steps), windows(), strict=False):
        tokens = batch["tokens"].T.contiguous()
        logits, _ = net(tokens[:-1])
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), tokens[1:].flatten()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()


def training_rows(steps: int, rounds: int) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        seconds = in_turn(
            {
                "novum under Lightning": lambda: lightning(steps, folder),
                "bare loop": lambda: bare(steps),
            },
            rounds,
            clock=time.process_time,
        )
    ours = seconds["novum under Lightning"]
    return [
        {
            "contestant": name,
            "characters/s (median)": BATCH * CONTEXT * steps / statistics.median(times),
            "ms/step": 1000 * statistics.median(times) / steps,
            "novum is faster by (median of rounds)": median_ratio(ours, times),
        }
        for name, times in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = training_rows(args.steps, args.rounds)
    show(f"Training, batch {BATCH}, windows of {CONTEXT}", rows, args.output)


if __name__ == "__main__":
    main()
