"""CharLSTM under Lightning against bare loops.

    python benchmarks/char_lstm.py [--steps 200] [--rounds 3] [--threads 2] [--output FILE.json]

The peers: a loop over time steps in Python, one character of each row at a time through nn.LSTM and
its loss added up, as char-rnn.pytorch trains; and a bare loop over the same fused nn.LSTM and the
same chunks. Random tokens: the text does not matter to the speed. Where the processor multiplies
bfloat16, ours also runs at trainer.precision bf16-mixed. --clock cpu counts the process's own
seconds, for a machine that others use; run it with --threads 1.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from _steps import bare_trainer
from _tables import in_turn, median_ratio, show
from pytorch_lightning import LightningDataModule
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from novum.callbacks import ProgressBar
from novum.core.precision import multiplies_bfloat16
from novum.lightning_modules import CharLSTM
from novum.lightning_modules.networks import CharRNN

VOCABULARY = 66
ALPHABET = "".join(map(chr, range(97, 97 + VOCABULARY - 1)))
TOKENS = np.random.default_rng(0).integers(1, VOCABULARY, 1_000_000).astype(np.uint8)
SIZES = [(128, 2), (256, 2), (512, 3)]  # hidden units, layers
BATCH = CHUNK = 50


def chunks() -> Iterator[dict[str, Tensor | bool | float]]:
    """As TextDataModule cuts them."""
    apart = len(TOKENS) // BATCH
    starts = np.arange(BATCH) * apart
    for at in range(0, apart - CHUNK, CHUNK):
        rows = TOKENS[starts[:, None] + at + np.arange(CHUNK + 1)]
        tokens = torch.from_numpy(rows.astype(np.int64))
        yield {"tokens": tokens, "restart": at == 0, "epoch": 0.0}


class Data(LightningDataModule):
    def train_dataloader(self) -> list[dict]:
        return chunks()


def lightning(
    steps: int, folder: str, hidden: int, layers: int, precision: str = "32-true"
) -> None:
    """Logger and progress bar on, as a user runs it."""
    model = CharLSTM(CharRNN(VOCABULARY, hidden, layers), ALPHABET)
    trainer = bare_trainer(
        max_steps=steps,
        logger=TensorBoardLogger(folder),
        callbacks=[ProgressBar()],
        enable_progress_bar=True,
        gradient_clip_val=5.0,
        gradient_clip_algorithm="value",
        precision=precision,
    )
    trainer.fit(model, Data())


def bare(steps: int, hidden: int, layers: int) -> None:
    """The same network and chunks without Lightning, logger or bar."""
    net = CharRNN(VOCABULARY, hidden, layers)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    state = None
    for _, batch in zip(range(steps), chunks(), strict=False):
        tokens = batch["tokens"].T.contiguous()
        logits, state = net(tokens[:-1], state)
        state = tuple(part.detach() for part in state)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(net.parameters(), 5.0)
        optimizer.step()


def by_time_step(steps: int, hidden: int, layers: int) -> None:
    """One character at a time through the network, its loss added up, as char-rnn.pytorch does."""
    encoder = nn.Embedding(VOCABULARY, hidden)
    recurrent = nn.LSTM(hidden, hidden, layers)
    decoder = nn.Linear(hidden, VOCABULARY)
    parameters = [p for part in (encoder, recurrent, decoder) for p in part.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=2e-3)
    for _, batch in zip(range(steps), chunks(), strict=False):
        inputs, targets = batch["tokens"][:, :-1], batch["tokens"][:, 1:]
        state = tuple(torch.zeros(layers, BATCH, hidden) for _ in range(2))
        optimizer.zero_grad()
        loss = torch.zeros(())
        for t in range(CHUNK):
            embedded = encoder(inputs[:, t])
            output, state = recurrent(embedded.view(1, BATCH, -1), state)
            loss = loss + F.cross_entropy(decoder(output.view(BATCH, -1)), targets[:, t])
        loss.backward()
        optimizer.step()
        loss.item()


def contestants(n: int, folder: str, hidden: int, layers: int) -> dict[str, Callable[[], None]]:
    found = {
        "novum under Lightning": lambda: lightning(n, folder, hidden, layers),
        "bare loop, fused": lambda: bare(n, hidden, layers),
        "loop over time steps": lambda: by_time_step(n, hidden, layers),
    }
    if multiplies_bfloat16(torch.device("cpu")):
        found["novum, bf16-mixed"] = lambda: lightning(n, folder, hidden, layers, "bf16-mixed")
    return found


def training_rows(steps: int, rounds: int, now: Callable[[], float]) -> list[dict]:
    rows = []
    for hidden, layers in SIZES:
        n = max(steps // {128: 1, 256: 4, 512: 20}[hidden], 10)
        with tempfile.TemporaryDirectory() as folder:
            seconds = in_turn(contestants(n, folder, hidden, layers), rounds, clock=now)
        ours = seconds["novum under Lightning"]
        of_size = [
            {
                "contestant": f"{name}, {layers} x {hidden}",
                "characters/s (median)": BATCH * CHUNK * n / statistics.median(times),
                "ms/step": 1000 * statistics.median(times) / n,
                "novum is faster by (median of rounds)": median_ratio(ours, times),
            }
            for name, times in seconds.items()
        ]
        show(f"Training, batch {BATCH}, chunks of {CHUNK}", of_size, None)  # large ones take long
        rows += of_size
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    now = time.process_time if args.clock == "cpu" else time.perf_counter
    rows = training_rows(args.steps, args.rounds, now)
    show(f"Training, batch {BATCH}, chunks of {CHUNK}", rows, args.output)


if __name__ == "__main__":
    main()
