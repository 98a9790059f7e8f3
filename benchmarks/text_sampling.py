"""Sampling of the text models against plain loops over the same networks, in turn.

    python benchmarks/text_sampling.py [--rounds 5] [--clock cpu] [--output FILE.json]

The peer of a transformer reads the whole window again for each token, as nanoGPT's `generate` does;
that of an LSTM goes on character by character from its state, as char-rnn.pytorch's. Both draw by
`torch.multinomial`; ours draws by a seed, the same text for any number of streams beside it. One
thread. Untrained weights: what is written does not matter to the speed.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from _tables import in_turn, median_ratio, show
from torch import Tensor, nn

from novum.lightning_modules import CharLSTM, CharTransformer
from novum.lightning_modules.networks import CausalTransformer, CharRNN

VOCABULARY = 66
ALPHABET = "".join(map(chr, range(97, 97 + VOCABULARY - 1)))


class Contest(NamedTuple):
    """A model, its peer (streams, characters), and how much both write."""

    name: str
    model: CharLSTM | CharTransformer
    peer: Callable[[int, int], None]
    streams: tuple[int, ...]
    length: int


def drawn(logits: Tensor) -> Tensor:
    """Tokens (b,) by logits (b, v)."""
    return torch.multinomial(logits.softmax(-1), 1)[:, 0]


@torch.inference_mode()
def read_anew(network: nn.Module, context: int, n: int, length: int) -> None:
    """Draw each token after the last `context` ones, which are all read again."""
    network.train()  # in which it keeps nothing; there is no dropout
    tokens = torch.ones(1, n, dtype=torch.int64)
    for _ in range(length):
        logits, _ = network(tokens[-context:])  # (t, b, v)
        tokens = torch.cat([tokens, drawn(logits[-1])[None]])


@torch.inference_mode()
def go_on(network: nn.Module, n: int, length: int) -> None:
    """Draw each token from the state after the last one."""
    network.eval()
    token, state = torch.ones(n, dtype=torch.int64), None
    written = []
    for _ in range(length):
        logits, state = network(token[None], state)  # (1, b, v)
        token = drawn(logits[0])
        written.append(token)


def transformer(
    width: int, layers: int, heads: int, context: int, streams: tuple[int, ...], length: int
) -> Contest:
    network = CausalTransformer(VOCABULARY, width, layers, heads, context)
    model = CharTransformer(network, ALPHABET).eval()
    name = f"transformer, {layers} blocks of {width}, windows of {context}"
    return Contest(name, model, lambda n, t: read_anew(network, context, n, t), streams, length)


def lstm(hidden: int, layers: int, length: int) -> Contest:
    network = CharRNN(VOCABULARY, hidden, layers)
    model = CharLSTM(network, ALPHABET).eval()
    name = f"LSTM, {layers} x {hidden}"
    return Contest(name, model, lambda n, t: go_on(network, n, t), (1, 64), length)


def rows_of(contest: Contest, rounds: int, clock: Callable[[], float]) -> list[dict]:
    """Characters a second of both, and the ratio, for each number of streams."""
    rows = []
    for n in contest.streams:
        ours, peers = in_turn(
            {
                "novum": lambda: contest.model.sample_text(n, contest.length, seed=0),  # noqa: B023
                "peer": lambda: contest.peer(n, contest.length),  # noqa: B023
            },
            rounds,
            clock=clock,
        ).values()
        quartiles = statistics.quantiles([t / o for o, t in zip(ours, peers, strict=True)], n=4)
        written = n * contest.length
        rows.append(
            {
                "model": contest.name,
                "streams": n,
                "novum, characters/s": written / statistics.median(ours),
                "peer, characters/s": written / statistics.median(peers),
                "times as fast": median_ratio(ours, peers),
                "quartiles": f"{quartiles[0]:.3g} to {quartiles[2]:.3g}",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--output")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    contests = [
        transformer(128, 4, 4, 64, streams=(1, 64), length=256),
        transformer(384, 6, 6, 256, streams=(1,), length=384),  # 64 would take the peer minutes
        lstm(128, 2, length=256),
        lstm(512, 3, length=128),
    ]
    rows = []
    for contest in contests:
        rows += rows_of(contest, options.rounds, clock)
        show("Sampling, one thread", rows, options.output)


if __name__ == "__main__":
    main()
