"""Health figures of a character model."""

from typing import cast

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer

from novum.callbacks.evaluation import reference
from novum.callbacks.text_samples import as_rows, spread
from novum.core.protocols import TextGenerator, TextScorer

WINDOWS, LENGTH = 64, 256  # of training and of held-out text
TEXTS, WORDS = 8, 10
COUNTED = 2_000_000  # tokens of training text whose pairs are counted


def text_figures(trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
    """The figures that TrainingHealth explains, the same on every rank."""
    figures = {
        "repetition": repetition(cast(TextGenerator, pl_module).sample_text(TEXTS, 500, seed=0))
    }
    if isinstance(pl_module, TextScorer):
        sources = {split: reference(trainer, split) for split in ("train", "heldout")}
        rows = {split: as_rows(spread(x, WINDOWS, LENGTH)) for split, x in sources.items()}
        train, heldout = (float(pl_module.surprisal(x).mean()) for x in rows.values())
        figures["heldout_gap"] = heldout - train
        pairs = pair_nats(sources["train"].tokens[:COUNTED], rows["heldout"].numpy())
        figures["gain_over_pairs"] = pairs - heldout
    return figures


def pair_nats(train: NDArray[np.integer], rows: NDArray[np.integer]) -> float:
    """Nats a token of rows (n, t) but the first of each, by how often pairs stand in training text.

    What follows a token is mixed from the counts of pairs and of single tokens (Witten & Bell,
    1991), so that no pair is impossible.
    """
    base = int(max(train.max(), rows.max())) + 1
    train, rows = train.astype(np.int64), rows.astype(np.int64)
    single = np.bincount(train, minlength=base)
    pairs, counts = np.unique(train[:-1] * base + train[1:], return_counts=True)
    before = np.bincount(train[:-1], minlength=base)  # occurrences that something follows
    kinds = np.bincount(pairs // base, minlength=base)  # different tokens that follow
    asked = rows[:, :-1] * base + rows[:, 1:]
    place = np.searchsorted(pairs, asked).clip(max=len(pairs) - 1)
    seen = np.where(pairs[place] == asked, counts[place], 0)
    first, second = rows[:, :-1], rows[:, 1:]
    alone = (single[second] + 1) / (len(train) + base)
    room = np.maximum(kinds[first], 1)
    p = (seen + room * alone) / (before[first] + room)
    return float(-np.log(p).mean())


def repetition(texts: list[str]) -> float:
    """Share of words of at least four characters that stood among the ten words before them."""
    repeated = total = 0
    for text in texts:
        words = text.split()
        for i, word in enumerate(words):
            if len(word) >= 4:
                total += 1
                repeated += word in words[max(i - WORDS, 0) : i]
    return repeated / total if total else 0.0
