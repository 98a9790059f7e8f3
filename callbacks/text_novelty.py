"""Is it copying? What a generator writes, with the passages that training text has too."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning import LightningModule, Trainer

from novum.callbacks.evaluation import EvaluationCallback
from novum.callbacks.logging import literal, log_metrics, log_picture, log_text
from novum.core import distributed
from novum.core.errors import InputError
from novum.core.protocols import TextGenerator, seen
from novum.datamodules.text import TextSource
from novum.metrics.novelty.text import JudgedTexts, TextReferences, judge_text
from novum.metrics.novelty.text.judging import Queries
from novum.report.evaluation import scalars
from novum.report.passages import passage_picture
from novum.report.pictures import encode
from novum.report.text import copy_records, kind, text_report

COLOURS = {"verbatim": (247, 170, 165), "near": (249, 213, 155), "common": (205, 212, 222)}
DRAWN = 4000  # characters of a picture
LISTED = 10  # copies beside their sources
SHOWN = 400  # characters of each


class TextNovelty(EvaluationCallback):
    """novelty/copies, and scalars that say whether passages are copied from training text.

    The picture colours what stands in the training text word for word, or but for case and white
    space; the Text tab has the longest passages beside their sources. docs/novelty.md explains the
    scalars, novelty/<metric>/verbatim and novelty/<metric>/folded.

    Args:
        num_texts: Texts to write and judge.
        length: Characters of each.
        temperature: At which they are drawn.
        seed: Of the texts.
    """

    def __init__(
        self, num_texts: int = 64, length: int = 1000, temperature: float = 1.0, seed: int = 0
    ) -> None:
        if num_texts < 1 or length < 50:
            raise InputError(
                f"{num_texts} texts of {length} characters are too little: a copy has 50 characters"
            )
        self.num_texts, self.length = num_texts, length
        self.temperature, self.seed = temperature, seed
        self._references: TextReferences | None = None

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, TextGenerator):
            raise InputError(
                f"TextNovelty needs a generator with sample_text and tokens_seen, which"
                f" {type(pl_module).__name__} has not; take it out of trainer.callbacks"
            )
        texts = pl_module.sample_text(
            self.num_texts, self.length, temperature=self.temperature, seed=self.seed
        )
        judged = judge_text(self._indexed(trainer), texts, seed=self.seed, together=True)
        log_metrics(trainer, pl_module, scalars(text_report(judged)))
        if trainer.is_global_zero:
            train = self._references.train
            copies = copy_records(judged, texts, train)
            log_picture(
                trainer,
                "novelty/copies",
                lambda: encode(copies_picture(copies, judged.queries, train)),
                seen(pl_module),
            )
            markdown = copies_markdown(copies, judged, train)
            log_text(trainer, "novelty/copies", markdown, seen(pl_module))

    def _indexed(self, trainer: Trainer) -> TextReferences:
        """Made by one rank of each host; the others then find it in the cache."""
        if self._references is None:
            data = trainer.datamodule
            references = TextReferences(data.train_reference(), data.heldout_reference())
            with distributed.local_rank_zero_first("indices of text"):
                references.prepare()
            self._references = references
        return self._references


def copies_picture(
    copies: Sequence[Mapping[str, Any]], queries: Queries, train: TextSource
) -> Image.Image:
    """The samples from the longest copy on, coloured where they were copied."""
    longest = max(copies, key=lambda c: c["length"], default={"sample": 0})
    first = max(0, min(longest["sample"] - 200, len(queries.tokens) - DRAWN))
    text = train.vocabulary.decode(queries.tokens[first : first + DRAWN])
    colours = np.full((len(text), 3), 255, np.uint8)
    for copy in copies:
        at = copy["sample"] - first
        colours[max(at, 0) : max(at + copy["length"], 0)] = COLOURS[kind(copy)]
    title = (
        f"{len(copies)} passages of 50 or more characters stand in the training text\n"
        "red: verbatim; yellow: but for case and white space; grey: in held-out text too"
    )
    return passage_picture(text, colours, title)


def copies_markdown(
    copies: Sequence[Mapping[str, Any]], judged: JudgedTexts, train: TextSource
) -> str:
    """The first copies beside their sources, as a table."""
    if not copies:
        return "No passage of 50 characters stands in the training text."
    rows = ["| sample | training text | where | characters | q |", "|---|---|---|---|---|"]
    for copy in copies[:LISTED]:
        start, place = copy["sample"], copy["train"]
        own = train.vocabulary.decode(judged.queries.tokens[start : start + copy["length"]])
        source = train.text(place, place + copy["train_length"])
        where = f"{_cell(copy['file'])}, {copy['file_offset']:,}"
        rows.append(
            f"| {_cell(own)} | {_cell(source)} | {where} | {copy['length']:,} | {copy['q']:.3g} |"
        )
    return "\n".join(rows)


def _cell(text: str) -> str:
    """Text in a cell of Markdown, no character of which means anything."""
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]} …"
    return literal(text).replace("\n", " ↵ ")
