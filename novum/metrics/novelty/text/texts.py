"""Metrics of texts: what they share with training text, how much of that is chance, diversity."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from novum.core.errors import NotComputable
from novum.core.vocabulary import code_points
from novum.metrics.novelty.copying import copy_rate_from_matches, drawn_to_training
from novum.metrics.novelty.nearest_matches import HELDOUT, TRAIN, Matches
from novum.metrics.novelty.permutation import permutation_test_from_matches
from novum.metrics.novelty.text.chance import (
    EXCESS_ERROR,
    ITEM,
    are_facts,
    excess_p,
    fact_threshold,
    items_of,
    model_threshold,
    own_units,
    q_values,
)
from novum.metrics.novelty.text.differences import differences
from novum.metrics.novelty.text.matching import Matching, first_places, match
from novum.metrics.novelty.text.near_copies import BOILERPLATE, Found, Passages, Pool, search
from novum.metrics.novelty.text.normal_form import fold, normalise
from novum.metrics.novelty.text.readings import Reading, ReadTexts, read_samples
from novum.metrics.novelty.text.references import TextReferences
from novum.metrics.novelty.text.repetition import Document, distinct_n, documents, self_bleu
from novum.metrics.novelty.text.spans import inside_of, novel_ngrams
from novum.metrics.record import Measure, Metric

NAMED = 0.1  # false discovery rate of the copies said to be some
COPY_BITS = 100.0  # of a passage word for word from which it counts as copied
SHOWN_NGRAM = 10
EXTENDED = 200  # characters that a passage grows by at each end
MOSTLY = 0.85  # share of a passage that is word for word the same, to which it is then cut


class TextCopy(NamedTuple):
    """A passage of the samples and its source in training text.

    Offsets count characters of the samples one after another, and of training text, as they are.
    """

    start: int
    length: int
    place: int
    source_length: int
    kind: str  # verbatim, folded (but for case, spaces and punctuation) or near
    bits: float  # beyond what many documents or held-out text have
    q: float  # 1 without held-out text
    is_fact: bool
    common: bool  # held-out text has it too
    documents: int  # of training text that share it, if they are BOILERPLATE or more; else 0
    identity: float  # share that is the same
    edits: int
    sources: int  # documents that have it, of which the place is in one


class TextJudgement(NamedTuple):
    """Chance's passages, and those beyond it."""

    fact_bits: float  # from which a passage is a fact, or less if training text repeats it
    named_bits: float  # below which none is named
    excess_p: float | None  # of "held-out text shares as much"
    tokens: int  # of the samples, in the folded reading
    heldout_shared: float  # share of held-out text that stands in training text
    train_repeated: float  # share of training text that stands elsewhere in it


class JudgedTexts(NamedTuple):
    """Metrics of some texts."""

    novelty: dict[str, dict[str, Any]]  # of each reading
    quality: dict[str, float | None]
    copies: list[TextCopy]  # most bits first
    judgement: TextJudgement
    novel: NDArray[np.float64]  # (50,) share of n-grams that training text lacks
    usually_novel: NDArray[np.float64] | None  # of held-out text
    text: str  # the samples, one after another
    stops: NDArray[np.int64]  # (t,) where each ends


def judge_text(
    references: TextReferences, texts: Sequence[str], seed: int = 0, *, together: bool = False
) -> JudgedTexts:
    """Novelty and diversity of texts.

    `together`: all ranks ask for the same at once, and search in parts.

    Raises:
        NotComputable: The texts hold no letter or digit, by which passages are compared.
    """
    read = read_samples(texts, references.alphabets)
    folded = read.readings["folded"]
    if not len(folded.tokens):
        raise NotComputable(
            f"samples hold {sum(map(len, texts))} characters, no letter or digit among them: give"
            " texts that have some, by which passages are compared"
        )
    exact = match(
        references.index,
        read.readings["verbatim"].tokens,
        read.ends["verbatim"],
        together=together,
    )
    verbatim, novel = _word_for_word(references, read, exact)
    found = search(
        references.pool, folded.tokens, read.ends["folded"], read.inner_stops, together=together
    )
    judgement, named = _judge(references, found.passages, read.inner_stops)
    copies = _copies(references, read, found.passages, exact, named, judgement)
    figures = _folded_figures(references, read, found, copies, judgement, seed)
    return JudgedTexts(
        {"verbatim": verbatim, "folded": figures},
        diversity(texts, references.documents),
        copies,
        judgement,
        novel,
        references.usually_novel,
        read.text,
        read.stops,
    )


def _word_for_word(
    references: TextReferences, read: ReadTexts, found: Matching
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Figures of the verbatim reading, and the share of n-grams that training text lacks."""
    tokens = read.readings["verbatim"].tokens
    stops = read.readings["verbatim"].inside(read.stops)
    novel = novel_ngrams(found, np.repeat(stops, np.diff(stops, prepend=0)))
    figures = _account(references, found, tokens, novel)
    usual, usually = references.usual_matching, references.usually_novel
    other = references.usual_text
    if usual is not None and usually is not None and other is not None:
        of_heldout = _account(references, usual, other, usually, "_heldout")
        pairs = zip(figures.items(), of_heldout.items(), strict=True)
        figures = dict(figure for both in pairs for figure in both)
    return figures, novel


def _account(
    references: TextReferences, found: Matching, tokens: NDArray, novel: NDArray, end: str = ""
) -> dict[str, Any]:
    """Figures of what a text shares with training text; `end` is a suffix of their names."""
    share = float(novel[SHOWN_NGRAM - 1])
    sums = np.append(0, np.cumsum(references.information.bits(tokens), dtype=np.float64))
    places = np.arange(len(tokens))
    long = sums[places + found.length] - sums[places] >= COPY_BITS
    copied = inside_of(places[long], found.length[long], len(tokens))
    return {
        f"longest_copy{end}": int(found.length.max(initial=0)),
        f"copied_share{end}": float(copied.mean()) if len(tokens) else 0.0,
        f"novel_{SHOWN_NGRAM}grams{end}": share if np.isfinite(share) else None,
    }


class Named(NamedTuple):
    """Passages that are copies: facts, and others by the false discovery rate."""

    is_fact: NDArray[np.bool_]
    q: NDArray[np.float64]  # 1 without held-out text
    excess_p: float | None


def _judge(
    references: TextReferences, found: Passages, stops: NDArray[np.int64]
) -> tuple[TextJudgement, Named]:
    """Thresholds, and which passages are named. `stops`: where each text ends, in tokens."""
    tokens = int(stops[-1]) if len(stops) else 0
    training, heldout = references.usual_training, references.usual_heldout
    least = model_threshold(tokens)
    named = name_passages(references, found, np.searchsorted(stops, found.start, "right"), tokens)
    return TextJudgement(
        fact_threshold(training.null, heldout and heldout.null, tokens),
        least,
        named.excess_p,
        tokens,
        0.0 if heldout is None else _shared(heldout.passages, heldout.looked_at, least),
        _shared(training.passages, training.looked_at, least),
    ), named


def name_passages(
    references: TextReferences, found: Passages, texts: NDArray[np.int64], tokens: int
) -> Named:
    """Name passages of samples of so many tokens. `texts`: which sample each passage is in."""
    pool, heldout = references.pool, references.usual_heldout
    facts = are_facts(found, references.usual_training.null, heldout and heldout.null, tokens)
    if heldout is None:
        return Named(facts, np.ones(len(facts)), None)
    items = items_of(found.place, pool)
    size = tokens, heldout.null, model_threshold(tokens)
    p = excess_p(found.score, items, own_units(found.start, texts), *size)
    added = 0.5 if p <= EXCESS_ERROR else 1.0
    return Named(facts, q_values(found.score, items, *size, added), p)


def _shared(found: Passages, tokens: int, least: float) -> float:
    """Share of some text that stands in training text."""
    rows = found.whole_score >= least
    return float(np.minimum(found.matched[rows].sum() / max(tokens, 1), 1))


def _copies(
    references: TextReferences,
    read: ReadTexts,
    found: Passages,
    exact: Matching,
    named: Named,
    judgement: TextJudgement,
) -> list[TextCopy]:
    rows = np.flatnonzero(found.whole_score >= judgement.named_bits)
    if not len(rows):
        return []
    found, q, is_fact = found.at(rows), named.q[rows], named.is_fact[rows]
    own, source = _places(references, read, found, exact)
    train = references.train
    copies = []
    for i in range(len(rows)):
        start, stop = (int(x[i]) for x in own)
        place, place_stop = (int(x[i]) for x in source)
        passage = read.text[start:stop], train.text(place, place_stop)
        kind, identity, edits = _compared(*passage, int(found.matched[i]))
        score, documents = float(found.score[i]), int(found.documents[i])
        beyond = score >= judgement.named_bits
        boilerplate = not beyond and documents >= BOILERPLATE
        copies.append(
            TextCopy(
                start,
                stop - start,
                place,
                place_stop - place,
                kind,
                score if beyond else float(found.whole_score[i]),
                float(q[i]) if beyond else 1.0,
                bool(is_fact[i]),
                bool(not beyond and found.common[i] and not boilerplate),
                documents if boilerplate else 0,
                identity,
                edits,
                documents,
            )
        )
    return sorted(copies, key=lambda c: (not c.is_fact, c.q > NAMED, -c.bits))


def _compared(own: str, source: str, matched: int) -> tuple[str, float, int]:
    """Kind, identity and edits of a passage."""
    a, b = (normalise(code_points(x)) for x in (own, source))
    if np.array_equal(a.codes, b.codes):
        return "verbatim", 1.0, 0
    letters = [fold(x).codes for x in (a, b)]
    found = differences(own, source)
    if np.array_equal(letters[0], letters[1]):
        return "folded", found.identity, found.edits
    shared = matched / max(len(letters[0]), len(letters[1]), 1)  # in another order, too
    return "near", min(max(found.identity, shared), 1.0), found.edits


def _places(
    references: TextReferences, read: ReadTexts, found: Passages, exact: Matching
) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
    """Starts and stops, in the originals, of passages and their sources.

    Both grow at each end by what is word for word the same, such as punctuation. A passage that is
    nearly all of it word for word the same is cut to that.
    """
    texts, train = read.readings, references.read_train.readings
    sides = []
    for reading, start, stop in (
        (texts, found.start, found.stop),
        (train, found.place, found.place_stop),
    ):
        first = reading["verbatim"].inside(reading["folded"].place(start))
        last = reading["verbatim"].inside(reading["folded"].place(stop - 1)) + 1
        sides.append((first, last))
    (start, stop), (place, place_stop) = sides
    own, source = texts["verbatim"].tokens, train["verbatim"].tokens
    stops = texts["verbatim"].inside(read.stops)
    text = np.searchsorted(stops, start, "right")
    last = stops[text]
    first = np.append(0, stops)[text]
    for _ in range(EXTENDED):
        more = (start > first) & (place > 0)
        more &= own[start - 1] == source[place - 1]
        more &= own[start - 1] != 0
        if not more.any():
            break
        start, place = start - more, place - more
    for _ in range(EXTENDED):
        more = (stop < last) & (place_stop < len(source))
        at, at_source = np.minimum(stop, len(own) - 1), np.minimum(place_stop, len(source) - 1)
        more &= (own[at] == source[at_source]) & (own[at] != 0)
        if not more.any():
            break
        stop, place_stop = stop + more, place_stop + more
    spans = zip(start.tolist(), stop.tolist(), strict=True)
    best = np.array([low + int(np.argmax(exact.length[low:high])) for low, high in spans])
    length = exact.length[best]
    mostly = np.flatnonzero(length >= MOSTLY * (stop - start))
    best, length = best[mostly], length[mostly]
    first = first_places(references.index, own, best, length)
    start[mostly], stop[mostly], place[mostly], place_stop[mostly] = (
        best, best + length, first, first + length
    )  # fmt: skip
    return (
        _original(texts["verbatim"], start, stop, int(read.stops[-1])),
        _original(train["verbatim"], place, place_stop, len(references.train)),
    )


def _original(
    reading: Reading, start: NDArray, stop: NDArray, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in the original; what follows a character, as a combining mark does, goes with it."""
    last = stop >= len(reading.tokens)
    after = reading.place(np.where(last, 0, stop))
    return reading.place(start), np.where(last, end, after)


def _folded_figures(
    references: TextReferences,
    read: ReadTexts,
    found: Found,
    copies: Sequence[TextCopy],
    judgement: TextJudgement,
    seed: int,
) -> dict[str, Any]:
    """Figures of passages, altered or not."""
    size = int(read.stops[-1]) if len(read.stops) else 0
    starts, lengths = (np.array([c[i] for c in copies], np.int64) for i in (0, 1))
    figures: dict[str, Any] = {
        "copies_found": sum(not (c.common or c.documents) for c in copies),
        "facts_found": sum(c.is_fact for c in copies),
        "copied_share": float(inside_of(starts, lengths, size).mean()) if size else 0.0,
    }
    if references.heldout is None:
        return figures
    matches = window_matches(references.pool, found)
    return figures | {
        "copied_share_heldout": judgement.heldout_shared,
        "excess_p": judgement.excess_p,
        "copies_flagged": sum(c.q <= NAMED for c in copies),
        "copy_rate": copy_rate_from_matches(matches, judgement.named_bits)._asdict(),
        "drawn_to_training": drawn_to_training(matches, (math.exp(judgement.named_bits),)),
        "permutation_p": permutation_test_from_matches(matches, seed=seed),
    }


def window_matches(pool: Pool, found: Found) -> Matches:
    """Each window's best match in training and held-out text together, found without labels.

    Its document is the item, or its thousand tokens if both sides are a single document. The margin
    is in bits.
    """
    windows, size = found.windows, len(pool.tokens)
    place = np.clip(windows.place, 0, size - 1)
    side = np.where(place < pool.train_size, TRAIN, HELDOUT)
    side = np.where(windows.place < 0, 0, side).astype(np.int8)
    if not all(pool.whole):
        trained = int((pool.documents < pool.train_size).sum())
        item, counts = pool.document(place), (trained, len(pool.documents) - trained)
    else:
        own = max(1, pool.train_size // ITEM)
        inside = np.where(place < pool.train_size, place, place - pool.train_size) // ITEM
        counts = own, max(1, (size - pool.train_size) // ITEM)
        item = np.where(
            place < pool.train_size,
            np.minimum(inside, own - 1),
            own + np.minimum(inside, counts[1] - 1),
        )
    margin = np.maximum(windows.score, 0)
    tensors = [torch.from_numpy(x) for x in (item.astype(np.int64), side, margin)]
    return Matches(tensors[0], tensors[1], tensors[2], *counts)


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


MEASURES = (
    Measure(
        (
            Metric(
                "facts_found",
                "Passages that are facts",
                "They have more bits in common with training text than chance gives a text of this"
                " size.",
                "novelty",
                "0",
                unit="count",
            ),
            Metric(
                "copies_found",
                "Copies found",
                "Passages that no n-gram model of the texts would share with training text; set"
                " phrases and what held-out text has are left out.",
                "novelty",
                "0",
                unit="count",
            ),
            Metric(
                "longest_copy",
                "Longest copy",
                "Characters of the longest passage that the training text has too.",
                "novelty",
                "as in held-out text",
                unit="characters",
            ),
            Metric(
                "longest_copy_heldout",
                "Longest copy in held-out text",
                "The same of held-out text: what chance gives.",
                "novelty",
                unit="characters",
            ),
            Metric(
                "copied_share",
                "Copied share",
                "Characters inside passages that training text has: word for word, of 100 bits or"
                " more (some 50 letters of English); folded, altered ones too.",
                "novelty",
                "as in held-out text",
                unit="share",
            ),
            Metric(
                "copied_share_heldout",
                "Copied share of held-out text",
                "What chance gives.",
                "novelty",
                unit="share",
            ),
            Metric(
                "excess_p",
                "Excess p",
                "How often text that copies nothing shares as many passages with training text.",
                "novelty",
                "not near 0",
                unit="p-value",
            ),
            Metric(
                "novel_10grams",
                "New 10-grams",
                "Ten characters in a row that training text has nowhere.",
                "novelty",
                "as in held-out text",
                unit="share",
            ),
            Metric(
                "novel_10grams_heldout",
                "New 10-grams of held-out text",
                "What chance gives.",
                "novelty",
                unit="share",
            ),
        ),
        position=206,
    ),
)
