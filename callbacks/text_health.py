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
COUNTED = 2_000_000  # tokens of training text whose neighbours are counted
ORDER = 3  # of them at a time


def text_figures(trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
    """The figures that TrainingHealth explains, the same on every rank."""
    figures = {
        "repetition": repetition(cast(TextGenerator, pl_module).sample_text(TEXTS, 500, seed=0))
    }
    if isinstance(pl_module, TextScorer):
        sources = {split: reference(trainer, split) for split in ("train", "heldout")}
        rows = {split: as_rows(spread(x, WINDOWS, LENGTH)) for split, x in sources.items()}
        nats = {split: pl_module.surprisal(x).double().cpu() for split, x in rows.items()}
        figures["heldout_gap"] = float(nats["heldout"].mean() - nats["train"].mean())
        if rows["heldout"].shape[1] > ORDER:
            table = ngram_nats(sources["train"].tokens[:COUNTED], rows["heldout"].numpy()).mean()
            own = nats["heldout"][:, ORDER - 2 :].mean()  # of the same tokens
            figures["gain_over_triples"] = float(table - own)
    return figures


def ngram_nats(
    train: NDArray[np.integer], rows: NDArray[np.integer], order: int = ORDER
) -> NDArray[np.float64]:
    """Nats of tokens of rows (n, t) from the `order`th on, by counts in training text.

    Counts of what follows the last order - 1 tokens, mixed with those of shorter contexts (Witten &
    Bell, 1991), so that nothing is impossible.
    """
    base = int(max(train.max(), rows.max())) + 1
    single = np.bincount(train, minlength=base)
    p = (single[rows[:, order - 1 :]] + 1) / (len(train) + base)
    for n in range(2, order + 1):
        grams, counts = np.unique(_codes(train, n, base), return_counts=True)
        contexts, before = np.unique(_codes(train, n - 1, base)[:-1], return_counts=True)
        kinds = np.bincount(np.searchsorted(contexts, grams // base), minlength=len(contexts))
        seen = _look_up(grams, counts, _codes(rows, n, base)[:, order - n :])
        context = _codes(rows, n - 1, base)[:, order - n : -1]
        total, room = (_look_up(contexts, x, context) for x in (before, kinds))
        p = np.where(total > 0, (seen + room * p) / np.maximum(total + room, 1), p)
    return -np.log(p)


def _codes(tokens: NDArray[np.integer], n: int, base: int) -> NDArray[np.int64]:
    """One number for each n tokens in a row (..., t) -> (..., t - n + 1)."""
    length = tokens.shape[-1] - n + 1
    return sum(
        (tokens[..., i : i + length].astype(np.int64) * base ** (n - 1 - i) for i in range(n)),
        start=np.zeros(1, np.int64),
    )


def _look_up(
    known: NDArray[np.int64], values: NDArray[np.integer], asked: NDArray[np.int64]
) -> NDArray[np.integer]:
    """Values of those asked for that are known, in ascending order; else 0."""
    place = np.searchsorted(known, asked).clip(max=len(known) - 1)
    return np.where(known[place] == asked, values[place], 0)


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
