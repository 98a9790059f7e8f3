"""The novelty of text in one reading: verbatim, or with case and white space forgotten."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core.cache import cache_folder, load_array, store
from novum.core.errors import InputError
from novum.core.vocabulary import Tokens, Vocabulary
from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.copying import copy_rate_from_matches, drawn_to_training
from novum.metrics.novelty.nearest_matches import margin_of
from novum.metrics.novelty.permutation import permutation_test_from_matches
from novum.metrics.novelty.text.copy_tests import (
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
from novum.metrics.record import Measure, Metric

SCHEMA = 1  # raise it whenever the same key would mean another order
READINGS = ("verbatim", "folded")
NAMED = 0.1  # false discovery rate of the copies said to be some
SHOWN_NGRAM = 10


class Queries(NamedTuple):
    """Texts one after another, and where each position's matches have to end."""

    tokens: Tokens  # (m,)
    ends: NDArray[np.int64]  # (m,) the end of its text, or the next character not known
    stops: NDArray[np.int64]  # (k,) where each text ends

    @classmethod
    def of(cls, texts: Sequence[Tokens], vocabulary: Vocabulary) -> "Queries":
        tokens = np.concatenate(texts) if texts else np.zeros(0, vocabulary.dtype)
        stops = np.cumsum([len(text) for text in texts], dtype=np.int64)
        queries = cls(tokens, np.zeros(0, np.int64), stops)
        ends = queries.text_ends()
        if not vocabulary.is_bytes:
            unknown = np.append(np.flatnonzero(tokens == 0), len(tokens))
            ends = np.minimum(ends, unknown[np.searchsorted(unknown, np.arange(len(tokens)))])
        return queries._replace(ends=ends)

    def text_ends(self) -> NDArray[np.int64]:
        """(m,) Where the text of each position ends."""
        return np.repeat(self.stops, np.diff(self.stops, prepend=0))


class Reading(NamedTuple):
    """A text as one of READINGS: its tokens, and where these stood in the original."""

    tokens: Tokens
    origin: NDArray[np.integer] | None = None  # None: where they are

    @classmethod
    def of(cls, name: str, tokens: Tokens, vocabulary: Vocabulary) -> "Reading":
        return cls(tokens) if name == "verbatim" else cls(*fold(tokens, vocabulary))

    def queries(self, original: Queries) -> Queries:
        """Texts in this reading."""
        if self.origin is None:
            return original
        kept = self.origin[:-1]
        ends, stops = (np.searchsorted(kept, x) for x in (original.ends[kept], original.stops))
        return Queries(self.tokens, ends, stops)

    def places(self, folded: NDArray[np.int64]) -> NDArray[np.int64]:
        return folded if self.origin is None else self.origin[folded].astype(np.int64)

    def restored(self, spans: Spans, corpus: "Reading") -> tuple[Spans, NDArray[np.int64]]:
        """Spans in the original, and how long each is in the corpus's original."""
        start, place = self.places(spans.start), corpus.places(spans.place)
        length = self.places(spans.stop) - start
        return Spans(start, length, place), corpus.places(spans.place + spans.length) - place


class Reference(NamedTuple):
    """Training and held-out text in one reading, indexed."""

    name: str
    vocabulary: Vocabulary
    train: Reading
    train_index: TextIndex
    heldout: Reading | None = None
    heldout_index: TextIndex | None = None
    usual: Matching | None = None  # what held-out text has in common with training text
    usually_novel: NDArray[np.float64] | None = None  # share of its n-grams


def prepare(name: str, train: TextSource, heldout: TextSource | None) -> Reference:
    """Index both texts, or find their indices in the cache."""
    vocabulary = train.vocabulary
    own, index = _indexed(name, train)
    if heldout is None:
        return Reference(name, vocabulary, own, index)
    if heldout.vocabulary != vocabulary:
        raise InputError("held-out text has another vocabulary than training text: encode it alike")
    other, other_index = _indexed(name, heldout)
    queries = other.queries(Queries.of([heldout.tokens], vocabulary))
    usual = match(index, queries.tokens, queries.ends)
    novel = novel_ngrams(usual, queries.text_ends())
    return Reference(name, vocabulary, own, index, other, other_index, usual, novel)


def _indexed(name: str, source: TextSource) -> tuple[Reading, TextIndex]:
    if not len(source):
        raise InputError("the text is empty: give at least one character")
    reading = Reading.of(name, source.tokens, source.vocabulary)
    n, width = len(reading.tokens), reading.tokens.itemsize
    key = json.dumps([SCHEMA, source.fingerprint, len(source), name])
    path = cache_folder() / "text_indices" / f"{hashlib.sha256(key.encode()).hexdigest()}.npy"
    order = load_array(path, np.int32 if n < 2**31 // width else np.int64)
    index = build_index(reading.tokens, order if order is not None and len(order) == n else None)
    if index.order is not order:
        store(path, lambda file: np.save(file, index.order))
    return reading, index


class TextJudgement(NamedTuple):
    """Metrics of texts in one reading."""

    novelty: dict[str, Any]
    copies: Spans  # in the originals of samples and training text
    source_length: NDArray[np.int64]  # (k,) of each copy in the training text
    q: NDArray[np.float64]  # (k,) 1 where there is no held-out text
    common: NDArray[np.bool_]  # (k,) held-out text has the passage too
    novel: NDArray[np.float64]  # (50,) share of n-grams
    usually_novel: NDArray[np.float64] | None  # of held-out text

    def keep(self, rows: NDArray[np.bool_]) -> "TextJudgement":
        """With these of the copies alone; figures stay."""
        return self._replace(
            copies=self.copies.at(rows),
            source_length=self.source_length[rows],
            q=self.q[rows],
            common=self.common[rows],
        )


def judge_reading(
    reference: Reference, queries: Queries, seed: int = 0, *, together: bool = False
) -> TextJudgement:
    """Copies, their share and its chance, and new n-grams of the texts in one reading."""
    own = Reading.of(reference.name, queries.tokens, reference.vocabulary)
    queries = own.queries(queries)

    def side(index: TextIndex) -> Side:
        return Side(index, match(index, queries.tokens, queries.ends, together=together))

    train = side(reference.train_index)
    spans = copied_spans(train.found)
    novel = novel_ngrams(train.found, queries.text_ends())
    novelty = _account(train.found, novel)
    q, common = np.ones(len(spans.start)), np.zeros(len(spans.start), bool)
    figures: dict[str, Any] = {}
    if reference.heldout is not None:
        assert reference.usual is not None and reference.usually_novel is not None
        assert reference.heldout_index is not None
        usual = _account(reference.usual, reference.usually_novel, "_heldout")
        novelty = dict(x for both in zip(novelty.items(), usual.items(), strict=True) for x in both)
        heldout = side(reference.heldout_index)
        q, common, figures = _against_heldout(reference, train, heldout, spans, queries, seed)
    novelty |= {"copies_found": len(spans.start)} | figures
    copies, length = own.restored(spans, reference.train)
    return TextJudgement(novelty, copies, length, q, common, novel, reference.usually_novel)


def _against_heldout(
    reference: Reference, train: Side, heldout: Side, spans: Spans, queries: Queries, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[str, Any]]:
    """q of each copy, whether held-out text has it too, and what is certain of all of them."""
    found = heldout.found
    assert reference.usual is not None
    usual, elsewhere = copied_spans(reference.usual), copied_spans(found)
    q = copy_q_values(train, heldout, spans, usual, elsewhere, len(reference.usual.length))
    centres = passage_centres(queries.stops)
    matches = pooled_matches(train, heldout, Words(queries.tokens), centres, seed)
    figures = {
        "copies_flagged": int((q <= NAMED).sum()),
        "copy_rate": copy_rate_from_matches(matches, margin_of(LONG))._asdict(),
        "drawn_to_training": drawn_to_training(matches, (float(LONG),)),
        "permutation_p": permutation_test_from_matches(matches, seed=seed),
    }
    return q, found.length[spans.start] >= spans.length, figures


def _account(found: Matching, novel: NDArray, end: str = "") -> dict[str, Any]:
    """Figures of what a text shares with training text; `end` is a suffix of their names."""
    share = float(novel[SHOWN_NGRAM - 1])
    return {
        f"longest_copy{end}": int(found.length.max(initial=0)),
        f"copied_share{end}": float(copied(found).mean()) if len(found.length) else 0.0,
        f"novel_{SHOWN_NGRAM}grams{end}": share if np.isfinite(share) else None,
    }


MEASURES = (
    Measure(
        (
            Metric(
                "copies_found",
                "Copies found",
                "Passages of 50 characters or more, chance included.",
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
                "Characters inside passages of 50 or more that training text has.",
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
