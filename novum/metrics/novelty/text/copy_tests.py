"""Two tests, with different assumptions, of whether copied passages are chance.

`pooled_matches` asks what any generator may be asked: of the passages of training and held-out text
together, does it prefer those it was trained on? `copy_q_values` asks whether long copies are more
frequent than in held-out text, and so sees few of them.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from novum.metrics.novelty.nearest_matches import HELDOUT, TRAIN, Matches
from novum.metrics.novelty.text.index import TextIndex, Words, occurrences
from novum.metrics.novelty.text.matching import FAR, Matching
from novum.metrics.novelty.text.spans import Spans, covering

ITEM = 1000  # tokens of the corpus that are one item of the pool
PASSAGE = 100  # tokens of the samples that are one passage


class Side(NamedTuple):
    """Training or held-out text, and what the samples have in common with it."""

    text: TextIndex
    found: Matching

    @property
    def items(self) -> int:
        return max(1, len(self.text) // ITEM)

    def item(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.minimum(places // ITEM, self.items - 1)


def passage_centres(stops: NDArray[np.int64]) -> NDArray[np.int64]:
    """The middle of each passage of texts that end there; half a passage left over is one too."""
    starts = np.append(0, stops[:-1])
    counts = np.maximum((stops - starts + PASSAGE // 2) // PASSAGE, 1)
    first = np.repeat(starts, counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    begin = first + PASSAGE * number
    return (begin + np.minimum(begin + PASSAGE, np.repeat(stops, counts))) // 2


def pooled_matches(
    train: Side, heldout: Side, queries: Words, centres: NDArray[np.int64], seed: int = 0
) -> Matches:
    """Each passage's longest match in training and held-out text together, found without labels.

    The match covers the middle of the passage; where its words stand in several places, chance
    (seeded) picks one of them. The thousand tokens where it begins are the item, and the next
    thousand where the passage lies so far on. Margins are log lengths: ratios are tokens.
    """
    random = np.random.default_rng(seed)
    spans = [covering(side.found, centres) for side in (train, heldout)]
    ranges = [
        occurrences(side.text, queries, span.start, np.minimum(span.length, FAR), FAR)
        for side, span in zip((train, heldout), spans, strict=True)
    ]
    counts = [np.maximum(high - low, 1) for low, high in ranges]
    by_chance = random.random(len(centres)) * (counts[0] + counts[1]) < counts[0]
    lengths = [span.length for span in spans]
    trained = np.where(lengths[0] == lengths[1], by_chance, lengths[0] > lengths[1])
    length = np.maximum(*lengths)
    items = []
    for side, span, (low, _), count in zip((train, heldout), spans, ranges, counts, strict=True):
        rank = low + (random.random(len(centres)) * count).astype(np.int64)
        rank = np.minimum(rank, len(side.text) - 1)
        anywhere = side.text.order[rank].astype(np.int64)
        place = np.where(span.length >= FAR, span.place, anywhere)
        items.append(side.item(place + (centres - span.start) // ITEM * ITEM))
    item = np.where(trained, items[0], items[1] + train.items)
    side = np.where(length == 0, 0, np.where(trained, TRAIN, HELDOUT)).astype(np.int8)
    margin = np.log(np.maximum(length, 1))
    item, side, margin = map(torch.from_numpy, (item, side, margin))
    return Matches(item, side, margin, train.items, heldout.items)


def copy_q_values(
    train: Side,
    heldout: Side,
    copies: Spans,
    usual: Spans,
    elsewhere: Spans,
    heldout_length: int,
) -> NDArray[np.float64]:
    """For each copy the smallest false discovery rate at which it is named as one.

    Of all that is as long, as much is expected by chance as held-out text of the samples' length
    has in common with training text (target-decoy competition; Elias & Gygi, 2007, +1: Barber &
    Candès, 2015), or, if that is more, as the samples have in common with held-out text, for
    training text's size. Copies of one item count once. Passages of held-out text are no copies.

    Args:
        copies: Of training text in the samples.
        usual: Of training text in held-out text.
        elsewhere: Of held-out text in the samples.
        heldout_length: Tokens in which `usual` was found.
    """
    common = heldout.found.length[copies.start] >= copies.length
    own = _longest(copies.at(~common), train)
    chance, mixed = _longest(usual, train), _longest(elsewhere, heldout)
    thresholds, wins = np.unique(own, return_counts=True)
    wins = wins[::-1].cumsum()[::-1]
    per_text = len(train.found.length) / max(heldout_length, 1)
    per_corpus = len(train.text) / len(heldout.text)
    expected = np.maximum(
        per_text * (1 + _as_long(chance, thresholds)), per_corpus * _as_long(mixed, thresholds)
    )
    best = np.minimum.accumulate(np.append(1, expected / np.maximum(wins, 1)))
    q = best[np.searchsorted(thresholds, copies.length, "right")]
    return np.where(common, 1.0, q)


def _longest(spans: Spans, side: Side) -> NDArray[np.int64]:
    """Length of the longest span in each item of the corpus, ascending.

    A span of several thousand tokens is in as many items.
    """
    counts = -(-spans.length // ITEM)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    items = side.item(np.repeat(spans.place, counts) + ITEM * number)
    longest = np.zeros(side.items, np.int64)
    np.maximum.at(longest, items, np.repeat(spans.length, counts))
    return np.sort(longest[longest > 0])


def _as_long(ascending: NDArray[np.int64], thresholds: NDArray[np.int64]) -> NDArray[np.int64]:
    return len(ascending) - np.searchsorted(ascending, thresholds)
