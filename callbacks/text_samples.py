"""Samples, surprisal and loss by position of a character model."""

import io
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from matplotlib.figure import Figure
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from novum.callbacks.evaluation import EvaluationCallback, lacks, reference
from novum.callbacks.logging import log_picture, log_text
from novum.core.protocols import TextGenerator, TextScorer, seen
from novum.datamodules.sources.corpus import TextSource
from novum.report.passages import passage_picture, shades
from novum.report.pictures import encode

WHITE_TO_RED = (255, 255, 255), (235, 60, 40)
BITS_OF_RED = 8.0  # surprisal that is fully coloured


class TextSamples(EvaluationCallback):
    """samples/text: a text for each temperature, from the same random numbers at every evaluation.

    Args:
        temperatures: From careful to wild.
        length: Characters of each.
        prime: What they go on with.
        seed: Of the random numbers.
    """

    requires = ("sample_text",)

    def __init__(
        self,
        temperatures: Sequence[float] = (0.4, 0.7, 1.0),
        length: int = 500,
        prime: str = "",
        seed: int = 0,
    ) -> None:
        self.temperatures, self.length = tuple(temperatures), length
        self.prime, self.seed = prime, seed

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        parts = []
        for temperature in self.temperatures:
            (text,) = cast(TextGenerator, pl_module).sample_text(
                1, self.length, temperature=temperature, prime=self.prime, seed=self.seed
            )
            parts.append(f"#### Temperature {temperature:g}\n\n{verbatim(self.prime + text)}")
        log_text(trainer, "samples/text", "\n\n".join(parts), seen(pl_module))


def verbatim(text: str) -> str:
    """Text as Markdown that shows it as it is, whatever marks it holds."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # as Markdown parts them
    return "\n".join(f"    {line}" for line in lines)


class SurprisalText(EvaluationCallback):
    """samples/surprisal: held-out text, each character the redder the less it was expected.

    Args:
        length: Characters shown.
        offset: Where in the held-out text they start, as a share of it.
    """

    def __init__(self, length: int = 1500, offset: float = 0.5) -> None:
        self.length, self.offset = length, offset

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        scorer = _require_scorer(self, pl_module)
        source = reference(trainer, "heldout")
        start = int(self.offset * max(len(source) - self.length - 1, 0))
        tokens = source.tokens[start : start + self.length + 1]
        bits = scorer.surprisal(as_rows([tokens]))[0].cpu().numpy() / np.log(2)
        parts = characters(source, tokens[1:])
        text, sizes = "".join(parts), [len(part) for part in parts]
        name, offset = source.place(start + 1)
        mean = bits.sum() / len(text)
        title = f"{name} from {offset:,}: {mean:.2f} bits a character, red: {BITS_OF_RED:g}"
        # of a token of several characters each has its share
        colours = shades(np.repeat(bits / sizes, sizes) / BITS_OF_RED, *WHITE_TO_RED)
        log_picture(
            trainer,
            "samples/surprisal",
            lambda: encode(passage_picture(text, colours, title)),
            seen(pl_module),
        )


class LossByPosition(EvaluationCallback):
    """val/loss_by_position: nats a character against characters read since the state was empty.

    Where the curve is flat, more context no longer helps.

    Args:
        windows: Held-out windows that are averaged.
        length: Characters of each.
    """

    def __init__(self, windows: int = 500, length: int = 200) -> None:
        self.windows, self.length = windows, length

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        scorer = _require_scorer(self, pl_module)
        source = reference(trainer, "heldout")
        rows = spread(source, self.windows, self.length + 1)
        nats = scorer.surprisal(as_rows(rows)).double().mean(0).cpu().numpy()
        unit = source.vocabulary.unit
        log_picture(trainer, "val/loss_by_position", lambda: _curve(nats, unit), seen(pl_module))


def _curve(nats: np.ndarray, unit: str) -> bytes:
    figure = Figure(figsize=(6, 3.5), dpi=100, layout="constrained")
    axes = figure.add_subplot(
        xlabel=f"{unit} read since the state was empty",
        ylabel=f"nats a {unit.removesuffix('s')}",
        xscale="log",
    )
    axes.plot(*in_log_bins(nats), marker=".")
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def in_log_bins(values: np.ndarray, bins: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Mean position (from 1) and mean value of bins of equal ratio, each of one value at least."""
    edges = np.unique(np.geomspace(1, len(values) + 1, bins + 1).astype(int))
    parts = [slice(a - 1, b - 1) for a, b in zip(edges, edges[1:], strict=False)]
    positions = np.arange(1, len(values) + 1)
    means = [np.array([x[part].mean() for part in parts]) for x in (positions, values)]
    return means[0], means[1]


def spread(source: TextSource, n: int, length: int) -> list[np.ndarray]:
    """n windows (length,) of tokens at even distances, or fewer where there is less text."""
    length = min(length, len(source))
    starts = np.linspace(0, len(source) - length, num=n).astype(int)
    return [source.tokens[start : start + length] for start in dict.fromkeys(starts)]


def as_rows(rows: Sequence[np.ndarray]) -> Tensor:
    """Token arrays of one length as int64 (n, t)."""
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def characters(source: TextSource, tokens: np.ndarray) -> list[str]:
    """Text of each token, of one character or more; a byte beyond ASCII becomes U+FFFD."""
    return [source.vocabulary.decode([token]) for token in tokens]


def _require_scorer(callback: EvaluationCallback, pl_module: LightningModule) -> TextScorer:
    if not isinstance(pl_module, TextScorer):
        raise lacks(callback, pl_module, "surprisal")
    return pl_module
