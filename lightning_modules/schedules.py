"""Learning-rate factors as functions of the passes over the data and of the share of the run."""

import math


def constant(epochs: float, progress: float) -> float:
    """1 throughout."""
    return 1.0


def cosine(epochs: float, progress: float) -> float:
    """From 1 to 0 along half a cosine (Loshchilov & Hutter, 2017, arXiv:1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def warmup_cosine(epochs: float, progress: float, warmup: float = 0.02) -> float:
    """From 0 to 1 in a line over the first 2% of the run, then to 0 along half a cosine."""
    if progress < warmup:
        return progress / warmup
    return cosine(epochs, (progress - warmup) / (1 - warmup))


def char_rnn_decay(epochs: float, progress: float) -> float:
    """Times .97 after each epoch from the tenth on (char-rnn's train.lua at its defaults)."""
    return 0.97 ** max(0, math.floor(epochs) - 9)


def torch_rnn_decay(epochs: float, progress: float) -> float:
    """Halved as each fifth epoch begins (torch-rnn's train.lua at its defaults)."""
    return 0.5 ** ((math.floor(epochs) + 1) // 5)
