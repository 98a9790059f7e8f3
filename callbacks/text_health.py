"""Health figures of a character model."""

from typing import cast

from pytorch_lightning import LightningModule, Trainer

from novum.callbacks.evaluation import reference
from novum.callbacks.text_samples import as_rows, spread
from novum.core.protocols import TextGenerator, TextScorer

WINDOWS, LENGTH = 64, 256  # of training and of held-out text
TEXTS, WORDS = 8, 10


def text_figures(trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
    """heldout_gap and repetition, as TrainingHealth explains them; the same on every rank."""
    figures = {
        "repetition": repetition(cast(TextGenerator, pl_module).sample_text(TEXTS, 500, seed=0))
    }
    if isinstance(pl_module, TextScorer):
        sources = (reference(trainer, split) for split in ("train", "heldout"))
        train, heldout = (
            float(pl_module.surprisal(as_rows(spread(source, WINDOWS, LENGTH))).mean())
            for source in sources
        )
        figures["heldout_gap"] = heldout - train
    return figures


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
