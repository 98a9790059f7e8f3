"""Text that can be drawn in any amount, and copies planted in it."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from novum.core.vocabulary import Vocabulary
from novum.datamodules.sources.corpus import TextSource

LETTERS = "abcdefghijklmnopqrstuvwxyz ABCDEF.\n"
VOCABULARY = Vocabulary("|#" + LETTERS)  # | and # are never drawn


def chain(n: int, seed: int, world: int = 0) -> str:
    """n characters of a Markov chain of order 1, the same one for each world."""
    weights = np.random.default_rng([7, world]).dirichlet([0.25] * len(LETTERS), len(LETTERS))
    steps = weights.cumsum(1)
    at, drawn = 0, []
    for u in np.random.default_rng(seed).random(n):
        at = min(int(np.searchsorted(steps[at], u)), len(LETTERS) - 1)
        drawn.append(LETTERS[at])
    return "".join(drawn)


def ngram_model(text: str, order: int, n: int, seed: int) -> str:
    """n characters that follow each other as they do in `text` after `order` others."""
    after = defaultdict(list)
    for i in range(len(text) - order):
        after[text[i : i + order]].append(text[i + order])
    random = np.random.default_rng(seed)
    drawn = text[:order]
    while len(drawn) < n:
        following = after.get(drawn[-order:])
        start = int(random.integers(len(text) - order))
        drawn += (
            following[random.integers(len(following))] if following else text[start : start + order]
        )
    return drawn[:n]


class Planted(NamedTuple):
    text: str
    copies: list[tuple[int, int, int]]  # start in the text, length, start in the training text


def plant(into: str, train: str, lengths: list[int], seed: int, around: str = "|") -> Planted:
    """Copies of `train` at equal distances; `around` each, a character absent from `train`."""
    random = np.random.default_rng(seed)
    step = len(into) // len(lengths)
    text, copies = "", []
    for i, length in enumerate(lengths):
        place = int(random.integers(len(train) - length))
        text += into[i * step : (i + 1) * step] + around
        copies.append((len(text), length, place))
        text += train[place : place + length] + around
    return Planted(text, copies)


def source(text: str, name: str = "train.txt") -> TextSource:
    return TextSource.of(text, name, VOCABULARY)
