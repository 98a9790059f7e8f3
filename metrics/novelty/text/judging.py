"""The novelty of text in one reading: verbatim, or with case and white space forgotten."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.datamodules.text import TextSource, Tokens, Vocabulary
from novum.metrics.novelty.copying import copies_at_least, copy_rate_from_matches
from novum.metrics.novelty.matches import Matches, margin_of
from novum.metrics.novelty.permutation import permutation_test_from_matches
from novum.metrics.novelty.text.copying import (
    Side,
    copy_q_values,
    passage_centres,
    pooled_matches,
)
from novum.metrics.novelty.text.folding import fold
from novum.metrics.novelty.text.index import TextIndex, Words, build_index
from novum.metrics.novelty.text.matching import Matching, match
from novum.metrics.novelty.text.spans import (
    LONG,
    Spans,
    copied,
    copied_spans,
    novel_ngrams,
)
from novum.paths import cache_folder, load_array, store

SCHEMA = 1  # raise it whenever the same key would mean another order
READINGS = ("verbatim", "folded")
NAMED = 0.1  # false discovery rate of the copies said to be some
SHOWN_NGRAM = 10


class Queries(NamedTuple):
    """Texts one after another, and where each position's text ends."""

    tokens: Tokens  # (m,)
    ends: NDArray[np.int64]  # (m,)

    @classmethod
    def of(cls, texts: Sequence[Tokens], vocabulary: Vocabulary) -> "Queries":
        """No passage goes beyond a text, or a character that the vocabulary does not know."""
        tokens = np.concatenate(texts) if texts else np.zeros(0, vocabulary.dtype)
        stops = np.cumsum([len(text) for text in texts], dtype=np.int64)
        at = np.arange(len(tokens))
        ends = stops[np.searchsorted(stops, at, "right")]
        if not vocabulary.is_bytes:
            unknown = np.append(np.flatnonzero(tokens == 0), len(tokens))
            ends = np.minimum(ends, unknown[np.searchsorted(unknown, at)])
        return cls(tokens, ends)


class Reading(NamedTuple):
    """Texts as one of READINGS: their tokens, and where these stood in the original."""

    queries: Queries
    origin: NDArray[np.integer] | None = None  # None: where they are

    def places(self, folded: NDArray[np.int64]) -> NDArray[np.int64]:
        return folded if self.origin is None else self.origin[folded].astype(np.int64)

    def restored(self, spans: Spans, corpus: "Reading") -> tuple[Spans, NDArray[np.int64]]:
        """Spans in the original, and how long each is in the corpus's original."""
        start, place = self.places(spans.start), corpus.places(spans.place)
        length = self.places(spans.stop) - start
        return Spans(start, length, place), corpus.places(spans.place + spans.length) - place


def read(name: str, queries: Queries, vocabulary: Vocabulary) -> Reading:
    if name == "verbatim":
        return Reading(queries)
    folded = fold(queries.tokens, vocabulary)
    ends = np.searchsorted(folded.origin[:-1], queries.ends[folded.origin[:-1]])
    return Reading(Queries(folded.tokens, ends), folded.origin)


class Reference(NamedTuple):
    """Training and held-out text in one reading, indexed."""

    name: str
    vocabulary: Vocabulary
    train: Reading
    train_index: TextIndex
    heldout: Reading | None
    heldout_index: TextIndex | None
    usual: Matching | None  # what held-out text has in common with training text


def prepare(name: str, train: TextSource, heldout: TextSource | None) -> Reference:
    """Index both texts, or find their indices in the cache."""
    vocabulary = train.vocabulary
    own, index = _indexed(name, train)
    if heldout is None:
        return Reference(name, vocabulary, own, index, None, None, None)
    if heldout.vocabulary != vocabulary:
        raise ValueError("held-out text has another vocabulary than training text: encode it alike")
    other, other_index = _indexed(name, heldout)
    usual = match(index, other.queries.tokens, other.queries.ends)
    return Reference(name, vocabulary, own, index, other, other_index, usual)


def _indexed(name: str, source: TextSource) -> tuple[Reading, TextIndex]:
    if not len(source):
        raise ValueError("the text is empty: give at least one character")
    reading = read(name, Queries.of([source.tokens], source.vocabulary), source.vocabulary)
    tokens = reading.queries.tokens
    key = json.dumps([SCHEMA, source.fingerprint, len(source), name])
    path = cache_folder() / "text_indices" / f"{hashlib.sha256(key.encode()).hexdigest()}.npy"
    dtype = np.int32 if len(tokens) < 2**31 // tokens.itemsize else np.int64
    order = load_array(path, dtype)
    index = build_index(tokens, order if order is not None and len(order) == len(tokens) else None)
    if index.order is not order:
        store(path, lambda file: np.save(file, index.order))
    return reading, index


class TextJudgement(NamedTuple):
    """What was found in one reading."""

    novelty: dict[str, Any]
    copies: Spans  # in the originals of samples and training text
    source_length: NDArray[np.int64]  # (k,) of each copy in the training text
    q: NDArray[np.float64]  # (k,) 1 where there is no held-out text
    common: NDArray[np.bool_]  # (k,) held-out text has the passage too
    novel: NDArray[np.float64]  # (50,) share of n-grams
    usually_novel: NDArray[np.float64] | None  # of held-out text
    matches: Matches | None

    def keep(self, rows: NDArray[np.bool_]) -> "TextJudgement":
        """With these of the copies alone; figures stay."""
        return self._replace(
            copies=self.copies.at(rows),
            source_length=self.source_length[rows],
            q=self.q[rows],
            common=self.common[rows],
        )


def judge_reading(reference: Reference, queries: Queries, seed: int = 0) -> TextJudgement:
    """Copies, their share and its chance, and new n-grams of the texts in one reading."""
    own = read(reference.name, queries, reference.vocabulary)
    tokens, ends = own.queries
    train = Side(reference.train_index, match(reference.train_index, tokens, ends))
    spans = copied_spans(train.found)
    novel = novel_ngrams(train.found, ends)
    novelty = _account(train.found, novel)
    q, common = np.ones(len(spans.start)), np.zeros(len(spans.start), bool)
    usually_novel = matches = None
    if reference.heldout is not None:
        heldout = Side(reference.heldout_index, match(reference.heldout_index, tokens, ends))
        usually_novel = novel_ngrams(reference.usual, reference.heldout.queries.ends)
        usual = _account(reference.usual, usually_novel, "_heldout")
        novelty = {
            k: v for pair in zip(novelty.items(), usual.items(), strict=True) for k, v in pair
        }
        q = copy_q_values(
            train,
            heldout,
            spans,
            copied_spans(reference.usual),
            copied_spans(heldout.found),
            len(reference.usual.length),
        )
        common = heldout.found.length[spans.start] >= spans.length
        matches = pooled_matches(train, heldout, Words(tokens), passage_centres(ends), seed)
    novelty["copies_found"] = len(spans.start)
    if matches is not None:
        novelty |= _calibrated(q, matches, seed)
    copies, source_length = own.restored(spans, reference.train)
    return TextJudgement(novelty, copies, source_length, q, common, novel, usually_novel, matches)


def _account(found: Matching, novel: NDArray, end: str = "") -> dict[str, Any]:
    """What a text has in common with training text; `end` says whose figures these are."""
    return {
        f"longest_copy{end}": int(found.length.max(initial=0)),
        f"copied_share{end}": float(copied(found).mean()) if len(found.length) else 0.0,
        f"novel_{SHOWN_NGRAM}grams{end}": _known(novel[SHOWN_NGRAM - 1]),
    }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _calibrated(q: NDArray, matches: Matches, seed: int) -> dict[str, Any]:
    return {
        "copies_flagged": int((q <= NAMED).sum()),
        "copy_rate": copy_rate_from_matches(matches, margin_of(LONG))._asdict(),
        "copies_at_least": copies_at_least(matches, (float(LONG),)),
        "permutation_p": permutation_test_from_matches(matches, seed=seed),
    }
