"""Diversity of text: how much a generator repeats itself."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from novum.metrics.record import Measure, Metric

WORDS = re.compile(r"\w+|[^\w\s]")
ORDER = 4
EPSILON = 0.1  # an n-gram count of 0 counts as this: Chen & Cherry (2014), method 1

Document = Sequence[str]  # words


def documents(texts: Sequence[str], words: int = 100, most: int = 200) -> list[list[str]]:
    """The first passages of so many words, punctuation marks among them."""
    found: list[list[str]] = []
    for text in texts:
        row: list[str] = []
        for word in WORDS.finditer(text):
            row.append(word.group())
            if len(row) == words:
                found.append(row)
                row = []
                if len(found) == most:
                    return found
    return found


def distinct_n(found: Sequence[Document], n: int) -> float:
    """Distinct n-grams over all n-grams (Li et al., 2016): compare equal amounts of text only."""
    every = Counter(gram for document in found for gram in _ngrams(document, n))
    return len(every) / every.total() if every else float("nan")


def self_bleu(found: Sequence[Document], order: int = ORDER) -> float:
    """Mean BLEU of each document against all others (Zhu et al., 2018): 1 repeats itself.

    Equal weights up to `order`, smoothing by method 1, closest length as reference. Time is linear
    in the words: of each n-gram the two largest counts are kept.
    """
    if len(found) < 2:
        return float("nan")
    logs = np.zeros(len(found))
    for n in range(1, order + 1):
        counts = [Counter(_ngrams(document, n)) for document in found]
        largest = _two_largest(counts)
        for i, own in enumerate(counts):
            clipped = sum(min(c, _other(largest[gram], i)) for gram, c in own.items())
            logs[i] += np.log(max(clipped, EPSILON) / max(own.total(), 1)) / order
    lengths = np.array([len(document) for document in found])
    return float(np.mean(np.exp(logs + [_brevity(lengths, i) for i in range(len(found))])))


def _ngrams(document: Document, n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(document[i:] for i in range(n)), strict=False)


def _two_largest(counts: Sequence[Counter]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """n-gram -> (largest count in a document, that document, largest count in another one)."""
    found: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for i, own in enumerate(counts):
        for gram, count in own.items():
            first, where, second = found.get(gram, (0, -1, 0))
            found[gram] = (count, i, first) if count > first else (first, where, max(second, count))
    return found


def _other(largest: tuple[int, int, int], i: int) -> int:
    first, where, second = largest
    return second if where == i else first


def _brevity(lengths: np.ndarray, i: int) -> float:
    """Log of the penalty against the reference of the closest length, the shorter of two."""
    others = np.delete(lengths, i)
    closest = min(others.tolist(), key=lambda length: (abs(length - lengths[i]), length))
    return min(0.0, 1 - closest / max(lengths[i], 1))


MEASURES = (
    Measure(
        (
            Metric(
                "self_bleu",
                "Self-BLEU",
                "How like each passage of 100 words is to the others; 1 repeats itself.",
                better="as in held-out text",
            ),
            Metric("self_bleu_heldout", "Self-BLEU of held-out text", "From as many words."),
            Metric(
                "distinct_2", "Distinct word pairs", "Of all pairs of words in a row.", unit="share"
            ),
            Metric("distinct_2_heldout", "Distinct word pairs of held-out text", unit="share"),
            Metric(
                "distinct_3", "Distinct word triples", "Of all three words in a row.", unit="share"
            ),
            Metric("distinct_3_heldout", "Distinct word triples of held-out text", unit="share"),
        ),
        position=130,
    ),
)
