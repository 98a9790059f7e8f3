"""Passages that chance gives: of held-out text, and of training text compared with its rest.

Scores in bits are near -log2 of a probability where nothing is shared but language. People share
more: quotations, set phrases, licences. How much is read off the null: passages that held-out text
shares with training text, and training text with other parts of itself.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.metrics.novelty.text.information import Prefixes, slot
from novum.metrics.novelty.text.near_copies import LEAST, STEP, Passages, Pool

EXCESS_ERROR = 0.002  # p-value of an excess from which there are copies
FACT_ERROR = 0.005  # passages expected above the threshold of facts in innocent samples
MODEL_MARGIN = 6.0  # bits above which n-gram models of the pool do not come
FACT_MARGIN = 12.0  # bits more that a fact has
TAIL = 20  # scores of the null, at most, that its tail is fitted to
PRIOR_SCORES, PRIOR_INDEX = 10, 0.6  # of the tail, as if so many scores had the index
TOGETHER = 100  # times as rare, passages that may have come together
MOST_LOG = 30.0  # of a threshold, over its base
MANY_DOCUMENTS = 30  # from which a document is what passages are counted by
ITEM = 1000  # tokens that are one item otherwise
UNIT = 2 * ITEM  # tokens of the samples or of held-out text, of which one passage counts
SIGNED = 8  # tokens of the n-grams by which copies of a passage are known


class Repeats(NamedTuple):
    """Passages of training text that stand elsewhere in it, too."""

    score: NDArray[np.float64]  # (r,) bits
    passage: NDArray[np.int64]  # (r,) the same for copies of one
    start: NDArray[np.int64]  # (r, 2) in training text, of it and of where it stands too
    stop: NDArray[np.int64]  # (r, 2)

    def without(self, start: int, stop: int) -> NDArray[np.float64]:
        """Scores, descending, of all but those that are copies of what is at this place."""
        here = ((self.start < stop) & (self.stop > start)).any(1)
        left = ~np.isin(self.passage, self.passage[here])
        return np.sort(self.score[left])[::-1]


class Null(NamedTuple):
    """Scores of passages that innocent text shares with training text.

    Of one that is shared again and again each counts: a sample is likelier to have it.
    """

    scores: NDArray[np.float64]  # (k,) bits, descending
    apart: NDArray[np.float64]  # the best of each UNIT tokens, descending: passages come together
    tokens: int  # of the text that was looked at
    repeats: Repeats | None = None  # of training text: `scores` are theirs


def joined_nulls(nulls: Sequence[Null]) -> Null:
    """The null of several parts of one side."""
    scores = np.concatenate([null.scores for null in nulls])
    apart = np.concatenate([null.apart for null in nulls])
    tokens = sum(null.tokens for null in nulls)
    repeats = [null.repeats for null in nulls if null.repeats is not None]
    return Null(np.sort(scores)[::-1], np.sort(apart)[::-1], tokens, _joined_repeats(repeats))


def _joined_repeats(parts: Sequence[Repeats]) -> Repeats | None:
    if not parts:
        return None
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    sizes = [len(part.score) for part in parts]
    columns[1] = columns[1] + np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
    return Repeats(*columns)


def items_of(places: NDArray[np.int64], pool: Pool) -> NDArray[np.int64]:
    """Unit that a place in training text counts as: its document or, of few, its thousand tokens.

    Passages of one document come together, in samples as in held-out text.
    """
    documents = int((pool.documents < pool.train_size).sum())
    return pool.document(places) if documents >= MANY_DOCUMENTS else places // ITEM


def own_units(places: NDArray[np.int64], texts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Unit that a place in the samples or in held-out text counts as: UNIT tokens of a text.

    Args:
        texts: Which text, or document, each is in.
    """
    return np.unique(np.stack([texts, places // UNIT]), axis=1, return_inverse=True)[1].ravel()


def distinct(*names: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores, descending, of passages that share no name, of any kind, with a better one."""
    order = np.argsort(-scores, kind="stable")
    seen: list[set[int]] = [set() for _ in names]
    kept = []
    for row, *own in zip(order.tolist(), *(x[order].tolist() for x in names), strict=True):
        if not any(name in known for name, known in zip(own, seen, strict=True)):
            kept.append(row)
            for name, known in zip(own, seen, strict=True):
                known.add(name)
    return scores[kept]


def null_of(found: Passages, pool: Pool, tokens: int, at: int) -> Null:
    """The null of passages of a part of the pool, which begins at that place of it."""
    own = found.start + at
    scores = np.sort(found.score)[::-1]
    apart = distinct(own_units(own, pool.document(own)), scores=found.score)
    if at >= pool.train_size:
        return Null(scores, apart, tokens)
    start = np.stack([own, found.place], axis=1)
    stop = np.stack([found.stop + at, found.place_stop], axis=1)
    same = _linked(*_spots(start, stop).T, _signatures(found, pool, at))
    return Null(scores, apart, tokens, Repeats(found.score, same, start, stop))


def _spots(start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the stretch that each of some intervals is in: those that overlap make one."""
    order = np.argsort(start, axis=None, kind="stable")
    reached = np.maximum.accumulate(stop.ravel()[order])
    begins = np.append(True, start.ravel()[order][1:] >= reached[:-1]) if len(order) else order
    spots = np.empty(start.size, np.int64)
    spots[order] = np.cumsum(begins)
    return spots.reshape(start.shape)


def _signatures(found: Passages, pool: Pool, at: int) -> NDArray[np.int64]:
    """A hash of each passage, mostly equal for copies of one: the least of its n-grams'."""
    signatures = []
    for start, stop in zip(found.start.tolist(), found.stop.tolist(), strict=True):
        tokens = pool.tokens[at + start : at + stop]
        begin = np.arange(max(len(tokens) - SIGNED + 1, 1))
        end = np.minimum(begin + SIGNED, len(tokens))
        signatures.append(slot(Prefixes(tokens).hashes(begin, end), 62).min())
    return np.array(signatures, np.int64)


def _linked(*names: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the connected component of each row, if rows with a name in common belong together.

    Args:
        names: Of several kinds; the first two are of one kind.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(names[0])
    rows, numbers, size = [], [], count
    for kind in (np.concatenate(names[:2]), *names[2:]):
        number = np.unique(kind, return_inverse=True)[1]
        rows.append(np.arange(len(kind)) % max(count, 1))
        numbers.append(number + size)
        size += int(number.max(initial=-1)) + 1
    edges = np.concatenate(rows), np.concatenate(numbers)
    graph = coo_array((np.ones(len(edges[0])), edges), shape=(size, size))
    return connected_components(graph, directed=False)[1][:count].astype(np.int64)


def model_threshold(tokens: int) -> float:
    """Bits that no passage of a text by an n-gram model of the pool reaches."""
    return math.log2(max(tokens, STEP) / FACT_ERROR) + MODEL_MARGIN


def fact_threshold(training: Null, heldout: Null | None, tokens: int) -> float:
    """Bits that FACT_ERROR innocent passages of a text of so many tokens are expected to reach.

    Few passages are beyond all of the null, so its tail is carried on as a Pareto distribution's:
    quotations, licences and whole documents that stand in two places are as long as they are, and
    no exponential foresees them. Of its exponent the posterior is taken, from the largest scores
    (Hill, 1975) and a gamma prior; the predictive tail is then
    P(score > x) = (1 + log(x / base) / s)^-n, with n scores and s the sum of their logarithms.
    """
    nulls = [training] if heldout is None else [training, heldout]
    scores = np.sort(np.concatenate([null.scores for null in nulls]))[::-1]
    carried = _carried_on(scores, sum(null.tokens for null in nulls), tokens)
    return max(model_threshold(tokens) + FACT_MARGIN, carried)


def are_facts(
    found: Passages, training: Null, heldout: Null | None, tokens: int
) -> NDArray[np.bool_]:
    """Mask of passages with more bits than innocent text of so many tokens has.

    That training text repeats a passage does not excuse it.
    """
    facts = found.score >= fact_threshold(training, heldout, tokens)
    repeats = training.repeats
    if repeats is None:
        return facts
    least = model_threshold(tokens) + FACT_MARGIN
    for row in np.flatnonzero(~facts & (found.score >= least)).tolist():
        left = repeats.without(int(found.place[row]), int(found.place_stop[row]))
        if len(left) < len(training.scores):
            other = fact_threshold(training._replace(scores=left), heldout, tokens)
            facts[row] = found.score[row] >= other
    return facts


def _carried_on(scores: NDArray[np.float64], of: int, tokens: int) -> float:
    """Bits that FACT_ERROR passages of a text exceed, by the scores of a null of `of` tokens."""
    scores = scores[scores >= LEAST]
    count = min(TAIL, len(scores))
    base = float(scores[count]) if len(scores) > count else LEAST
    known = float(np.log(scores[:count] / base).sum()) + PRIOR_SCORES * PRIOR_INDEX
    expected = (count + 0.5) * tokens / max(of, 1)  # one half: Jeffreys
    rarer = max(expected / FACT_ERROR, 1) ** (1 / (count + PRIOR_SCORES))
    return base * math.exp(min(known * (rarer - 1), MOST_LOG))


def q_values(
    scores: NDArray[np.float64],
    items: NDArray[np.int64],
    tokens: int,
    null: Null,
    least: float,
    added: float = 1.0,
) -> NDArray[np.float64]:
    """For each passage the smallest false discovery rate at which it is named.

    Of the items that passages with a score or more are from, as many are expected by chance as
    held-out text has, for the samples' size. Scores below `least` are not named: n-gram models
    reach them.

    Args:
        added: To what held-out text has: 1 (Barber & Candès, 2015), or 0.5, Jeffreys' estimate,
            where `excess_p` has shown that there are copies.
    """
    own = distinct(items, scores=scores)
    wins = np.arange(1, len(own) + 1)
    losses = np.searchsorted(-null.scores, -own, "right")
    expected = tokens / max(null.tokens, 1) * (added + losses)
    q = np.minimum.accumulate(np.minimum(expected / wins, 1)[::-1])[::-1]  # a lower score, more
    q = np.where(own >= least, q, 1.0)
    at = np.searchsorted(-own, -scores, "right") - 1
    return q[np.maximum(at, 0)] if len(own) else np.ones(len(scores))


def excess_p(
    scores: NDArray[np.float64],
    items: NDArray[np.int64],
    units: NDArray[np.int64],
    tokens: int,
    null: Null,
    least: float,
) -> float:
    """p-value of "the samples share no more with training text than held-out text does".

    The better of two tests that suppose passages to come as a Poisson process would: that of the
    number of those with `least` bits, and that of those before the best of held-out text. Passages
    of innocent text come together (a page that is quoted, a manual in two versions), so one of each
    UNIT tokens is counted; all of them are at a hundredth of the error.
    """
    apart = distinct(items, units, scores=scores)
    each = distinct(items, scores=scores)
    by_unit = _excess(apart, null.apart, tokens, null.tokens, least)
    by_item = _excess(each, null.scores, tokens, null.tokens, least)
    return min(1.0, by_unit, TOGETHER * by_item)


def _excess(own: NDArray, other: NDArray, tokens: int, of: int, least: float) -> float:
    from scipy.stats import binom

    own = own[own >= least]
    share = tokens / max(tokens + of, 1)
    losses = int((other >= least).sum())
    by_number = float(binom.sf(len(own) - 1, len(own) + losses, share)) if len(own) else 1.0
    before = int((own > (other[0] if len(other) else -np.inf)).sum())
    return 2.0 * min(by_number, share**before)
