"""Metrics of texts: novelty in each reading, and diversity."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text.judging import (
    READINGS,
    Queries,
    Reference,
    TextJudgement,
    judge_reading,
    prepare,
)
from novum.metrics.novelty.text.repetition import Document, distinct_n, documents, self_bleu
from novum.metrics.novelty.text.spans import Spans

WORDS_READ = 400_000  # characters of held-out text that words are taken from
NEW = 0.5  # share of a near-copy that no verbatim copy covers


class TextReferences:
    """Training and held-out text, indexed once for any number of evaluations."""

    def __init__(self, train: TextSource, heldout: TextSource | None) -> None:
        self.train, self.heldout = train, heldout
        self._prepared: dict[str, Reference] = {}

    def reading(self, name: str) -> Reference:
        if name not in self._prepared:
            self._prepared[name] = prepare(name, self.train, self.heldout)
        return self._prepared[name]

    def prepare(self) -> None:
        """All readings, now."""
        for name in READINGS:
            self.reading(name)

    @cached_property
    def documents(self) -> list[Document]:
        """Passages of held-out text for figures of diversity."""
        if self.heldout is None:
            return []
        return [*documents([self.heldout.text(0, WORDS_READ)])]


class JudgedTexts(NamedTuple):
    """Metrics of some texts."""

    readings: dict[str, TextJudgement]
    quality: dict[str, float | None]
    queries: Queries


def judge_text(
    references: TextReferences, texts: Sequence[str], seed: int = 0, *, together: bool = False
) -> JudgedTexts:
    """Novelty and diversity of texts, in the vocabulary of the references.

    `together`: all ranks ask for the same at once, and search in parts.
    """
    vocabulary = references.train.vocabulary
    queries = Queries.of([vocabulary.encode(text) for text in texts], vocabulary)
    readings = {
        name: judge_reading(references.reading(name), queries, seed, together=together)
        for name in READINGS
    }
    near = readings["folded"]
    readings["folded"] = near.keep(_not_covered(near.copies, readings["verbatim"].copies))
    return JudgedTexts(readings, diversity(texts, references.documents), queries)


def diversity(texts: Sequence[str], heldout: Sequence[Document]) -> dict[str, float | None]:
    """Diversity of the samples and, from as many words, of held-out text."""
    own = documents(texts)
    if heldout:
        own, heldout = own[: len(heldout)], heldout[: len(own)]
    sets = {"": own, "_heldout": heldout} if heldout else {"": own}
    found = {}
    for measure in (self_bleu, distinct_2, distinct_3):
        for end, of in sets.items():
            value = measure(of)
            found[f"{measure.__name__}{end}"] = value if math.isfinite(value) else None
    return found


def distinct_2(found: Sequence[Document]) -> float:
    return distinct_n(found, 2)


def distinct_3(found: Sequence[Document]) -> float:
    return distinct_n(found, 3)


def _not_covered(spans: Spans, by: Spans) -> np.ndarray:
    """Mask of spans that are mostly outside of others; neither set overlaps within itself."""

    def before(places: np.ndarray) -> np.ndarray:
        """Positions inside `by` up to there."""
        last = np.searchsorted(by.start, places, "right") - 1
        whole = np.append(0, np.cumsum(by.length))[np.maximum(last, 0)]
        if not len(by.start):
            return np.zeros(len(places))
        inside = np.clip(places - by.start[last], 0, by.length[last])
        return np.where(last < 0, 0, whole + inside)

    return before(spans.stop) - before(spans.start) <= (1 - NEW) * spans.length
