"""Splits and validation of published character models, so that figures compare."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from novum.core.errors import InputError
from novum.datamodules.sources.corpus import Span

Parts = tuple[list[Span], list[Span], list[Span]]  # training, validation, test


class Protocol(NamedTuple):
    """A split and the rule of its validation loss.

    stateful: long streams side by side, the state carried from chunk to chunk. windowed: windows
    that each start from an empty state.
    """

    cut: Callable[[int], Parts]
    validation: Literal["stateful", "windowed"]


def nanogpt(size: int) -> Parts:
    """The first 90% and the rest (nanoGPT, data/shakespeare_char/prepare.py)."""
    train = int(size * 0.9)
    return [(0, train)], [(train, size)], [(size, size)]


def torch_rnn(size: int) -> Parts:
    """80%, 10%, 10% in this order (torch-rnn, scripts/preprocess.py)."""
    heldout = test = int(size * 0.1)
    train = size - heldout - test
    return [(0, train)], [(train, train + heldout)], [(train + heldout, size)]


def char_rnn(size: int, streams: int = 50, chunk: int = 50) -> Parts:
    """The last 5% of each of 50 streams is validated on (char-rnn's loader, at its defaults).

    What does not fill a chunk of all streams is left out, as it is there.
    """
    chunks = size // (streams * chunk)
    train = int(chunks * 0.95)
    begins = [i * chunks * chunk for i in range(streams)]
    return (
        [(at, at + train * chunk) for at in begins],
        [(at + train * chunk, at + chunks * chunk) for at in begins],
        [(size, size)],
    )


PROTOCOLS = {
    "char_rnn": Protocol(char_rnn, "stateful"),
    "nanogpt": Protocol(nanogpt, "windowed"),
    "torch_rnn": Protocol(torch_rnn, "stateful"),
}


def protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise InputError(f"unknown protocol {name!r}: there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
