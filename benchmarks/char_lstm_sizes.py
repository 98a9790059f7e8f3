"""Held-out loss of CharLSTM by size and depth, after as many characters for each.

    python benchmarks/char_lstm_sizes.py --text input.txt [--epochs 5] --output FILE.json

nanoGPT's 90/10 split, the state carried, all of the held-out text after each pass over the training
text; the best is printed. Cells run from small to large and are written as they end: started again,
it goes on with those that FILE.json lacks. Seconds include the evaluations. `--hidden` and
`--layers` choose cells.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from _steps import bare_trainer
from _tables import show
from pytorch_lightning import Callback, Trainer, seed_everything

from novum.datamodules import TextDataModule
from novum.lightning_modules import CharLSTM
from novum.lightning_modules.networks import CharRNN
from novum.lightning_modules.schedules import cosine

DROPOUT = {256: 0.1, 512: 0.3}  # of the sizes that would learn the text by heart
LR = {64: 8e-3, 128: 4e-3, 256: 3e-3, 512: 2e-3}


class Losses(Callback):
    """Held-out nats a character at each evaluation."""

    def __init__(self) -> None:
        self.nats: list[float] = []

    def on_validation_end(self, trainer: Trainer, pl_module: CharLSTM) -> None:
        self.nats.append(trainer.callback_metrics["val/nats_per_char"].item())


def cell(data: TextDataModule, hidden: int, layers: int, epochs: int) -> dict[str, Any]:
    """A row of the table."""
    seed_everything(0, verbose=False)
    dropout, lr = DROPOUT.get(hidden, 0.0), LR.get(hidden, 2e-3)
    network = CharRNN(data.vocab_size, hidden, layers, dropout=dropout)
    model = CharLSTM(network, data.alphabet, lr=lr, schedule=cosine)
    per_epoch = len(data.train) // (data.batch_size * data.chunk_length)
    losses = Losses()
    trainer = bare_trainer(
        max_steps=epochs * per_epoch,
        limit_val_batches=1.0,
        val_check_interval=per_epoch,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        gradient_clip_val=5.0,
        gradient_clip_algorithm="value",
        callbacks=[losses],
    )
    start = time.perf_counter()
    trainer.fit(model, data)
    best = min(losses.nats)
    return {
        "layers x hidden": f"{layers} x {hidden}",
        "parameters": sum(p.numel() for p in network.parameters()),
        "characters": model.tokens_seen,
        "dropout": dropout,
        "lr": lr,
        "nats/char": best,
        "after pass": 1 + losses.nats.index(best),
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", required=True)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    data = TextDataModule("files", args.text, validation="stateful")
    rows = json.loads(args.output.read_text())["rows"] if args.output.is_file() else []
    done = {row["layers x hidden"] for row in rows}
    for hidden in args.hidden:
        for layers in args.layers:
            if f"{layers} x {hidden}" not in done:
                rows.append(cell(data, hidden, layers, args.epochs))
                show(f"Held-out loss, {args.epochs} passes", rows, str(args.output))


if __name__ == "__main__":
    main()
