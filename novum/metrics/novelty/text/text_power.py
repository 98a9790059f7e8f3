"""Detection power: the share of planted, altered passages that are named with the right source.

Passages of this very training text are altered and set between stretches of held-out text; they are
named by the rule of the verdict.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core.vocabulary import code_points
from novum.metrics.functional.intervals import Interval, clopper_pearson_interval
from novum.metrics.novelty.text.chance import EXCESS_ERROR
from novum.metrics.novelty.text.near_copies import Passages, search
from novum.metrics.novelty.text.normal_form import fold, normalise
from novum.metrics.novelty.text.planted_edits import (
    ALTERATIONS,
    LOOKALIKE,
    LOOKALIKES,
    NAMES_REPLACED,
    UNTUNED,
    WORD,
)
from novum.metrics.novelty.text.readings import read_samples
from novum.metrics.novelty.text.references import TextReferences
from novum.metrics.novelty.text.texts import NAMED, TextJudgement, name_passages

COPIES = 20  # planted of each alteration
LENGTH = 300  # characters of each
AROUND = 500  # characters of held-out text before each
WORDS_READ = 300_000  # characters of training text that words are taken from
EVERY = ALTERATIONS | UNTUNED
CODE_SIGNS = "{}();=_"
CODE_SHARE = 0.03  # of these signs, from which a text is code
LATIN_SHARE = 0.2  # of letters that have a look-alike, from which that alteration is one


class _Planted(NamedTuple):
    text: str
    spans: list[tuple[int, int]]
    sources: list[int]


def text_power(
    references: TextReferences,
    judgement: TextJudgement,
    *,
    names: Iterable[str] | None = None,
    copies: int = COPIES,
    length: int = LENGTH,
    seed: int = 0,
    together: bool = False,
) -> dict[str, Interval]:
    """Recall of planted passages by alteration, with 95% Clopper-Pearson intervals.

    Args:
        judgement: Of the samples: as many are judged, at its thresholds.
        names: Of ALTERATIONS and UNTUNED; those that suit the text if not given.
    """
    if references.heldout is None or len(references.train) < 2 * length:
        return {}
    wanted = _suitable(references) if names is None else list(names)
    chance = np.random.default_rng(seed)
    planted = [_plant(references, name, copies, length, chance) for name in wanted]
    read = read_samples([part.text for part in planted], references.alphabets)
    folded = read.readings["folded"]
    found = search(
        references.pool, folded.tokens, read.ends["folded"], read.inner_stops, together=together
    ).passages
    origin = references.read_train.readings["folded"]
    edges = np.append(0, read.stops)
    start, stop = folded.place(found.start), folded.place(found.stop - 1) + 1
    place, place_stop = origin.place(found.place), origin.place(found.place_stop - 1) + 1
    recall = {}
    for number, (name, part) in enumerate(zip(wanted, planted, strict=True)):
        rows = np.flatnonzero((start >= edges[number]) & (start < edges[number + 1]))
        named = rows[_named(references, judgement, found.at(rows))]
        hits = 0
        for (first, last), source in zip(part.spans, part.sources, strict=True):
            own = np.minimum(stop[named] - edges[number], last) - np.maximum(
                start[named] - edges[number], first
            )
            inside = named[own > 0]
            hits += any(
                _is_source(references, (source, length), (int(place[i]), int(place_stop[i])))
                for i in inside.tolist()
            )
        recall[name] = clopper_pearson_interval(hits, len(part.sources))
    return recall


def _suitable(references: TextReferences) -> list[str]:
    text = references.train.text(0, WORDS_READ)
    needed = {
        NAMES_REPLACED: sum(map(text.count, CODE_SIGNS)) >= CODE_SHARE * max(len(text), 1),
        LOOKALIKE: sum(map(text.count, map(chr, LOOKALIKES))) >= LATIN_SHARE * len(text),
    }
    return [name for name in EVERY if needed.get(name, True)]


def _plant(
    references: TextReferences, name: str, copies: int, length: int, chance: np.random.Generator
) -> _Planted:
    train, heldout = references.train, references.heldout
    assert heldout is not None
    words = list(dict.fromkeys(WORD.findall(train.text(0, WORDS_READ)))) or ["word"]
    text, spans, sources = "", [], []
    for _ in range(copies):
        at = int(chance.integers(max(len(heldout) - AROUND, 1)))
        text += heldout.text(at, at + AROUND) + "\n"
        source = int(chance.integers(len(train) - length))
        altered = EVERY[name](train.text(source, source + length), chance, words)
        spans.append((len(text), len(text) + len(altered)))
        sources.append(source)
        text += altered + "\n"
    return _Planted(text, spans, sources)


def _named(
    references: TextReferences, judgement: TextJudgement, found: Passages
) -> NDArray[np.intp]:
    """Passages that the verdict would name in samples of so many tokens."""
    texts = np.zeros(len(found.start), np.int64)
    named = name_passages(references, found, texts, judgement.tokens)
    in_excess = named.excess_p is not None and named.excess_p <= EXCESS_ERROR
    return np.flatnonzero(named.is_fact | (in_excess & (named.q <= NAMED)))


def _is_source(
    references: TextReferences, planted: tuple[int, int], found: tuple[int, int]
) -> bool:
    """Tell whether what was found overlaps the source, or has its words elsewhere."""
    source, length = planted
    place, stop = found
    if place < source + length and stop > source:
        return True
    own, other = (
        fold(normalise(code_points(references.train.text(*span)))).codes.tobytes()
        for span in ((source, source + length), found)
    )
    return own in other or other in own
