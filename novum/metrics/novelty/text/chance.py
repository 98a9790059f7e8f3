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
TAIL = 40  # scores of the null, at most, that its tail is fitted to
PRIOR_SCORES, PRIOR_EXCESS = 3, 4.0  # bits of the mean excess, as if so many scores had it
MANY_DOCUMENTS = 30  # from which a document is what passages are counted by
ITEM = 1000  # tokens that are one item otherwise
UNIT = 10 * STEP  # tokens of a single document that are judged as one is
SIGNED = 8  # tokens of the n-grams by which copies of a passage are known
DOUBLED = 0.5  # share of a document that stands elsewhere, from which it is a copy of that


class Null(NamedTuple):
    """Scores of distinct passages that innocent text shares with training text."""

    scores: NDArray[np.float64]  # (k,) bits, descending, the best of each item
    tokens: int  # of the text that was looked at


def joined_nulls(nulls: Sequence[Null]) -> Null:
    """The null of several parts."""
    scores = np.sort(np.concatenate([null.scores for null in nulls]))[::-1]
    return Null(scores, sum(null.tokens for null in nulls))


def items_of(places: NDArray[np.int64], pool: Pool) -> NDArray[np.int64]:
    """Unit that a place in training text counts as: its document or, of few, its thousand tokens.

    Passages of one document come together, in samples as in held-out text.
    """
    documents = int((pool.documents < pool.train_size).sum())
    return pool.document(places) if documents >= MANY_DOCUMENTS else places // ITEM


def distinct(scores: NDArray[np.float64], items: NDArray[np.int64]) -> NDArray[np.float64]:
    """The best score of each item, descending."""
    known, item = np.unique(items, return_inverse=True)
    best = np.full(len(known), -np.inf)
    np.maximum.at(best, item, scores)
    return np.sort(best)[::-1]


def null_of(found: Passages, pool: Pool, tokens: int, at: int, trained: bool) -> Null:
    """The null of the passages of a part of the pool, which begins there.

    Documents that are mostly copies of others are left out, and so are blocks of a single one.

    Args:
        trained: Is it of training text? Places that are copies of each other then count once.
    """
    units = _units(found.start + at, pool, at)
    copied = np.bincount(units, found.matched, minlength=1)
    sizes = np.bincount(_units(np.arange(at, at + tokens), pool, at), minlength=len(copied))
    doubled = copied > DOUBLED * sizes[: len(copied)]
    left = tokens - int(sizes[: len(copied)][doubled].sum())
    kept = found.at(~doubled[units])
    items = items_of(kept.place, pool)
    if trained:
        items = _linked(items, items_of(kept.start + at, pool), _signatures(kept, pool, at))
    return Null(distinct(kept.score, items), left)


def _units(places: NDArray[np.int64], pool: Pool, at: int) -> NDArray[np.int64]:
    """Documents of places, from 0 on, or blocks of a side that is a single document."""
    single = pool.whole[0] if at < pool.train_size else pool.whole[1]
    if single:
        return (places - at) // UNIT
    return pool.document(places) - int(pool.document(np.array([at]))[0])


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

    The tail of each null is taken as exponential, with the mean excess of its largest scores. The
    best of training text is left out: a passage that is repeated there does not excuse itself.
    """
    nulls = [training._replace(scores=training.scores[1:]), *([heldout] if heldout else [])]
    least = model_threshold(tokens) + FACT_MARGIN
    return max([least, *(_extrapolated(null, tokens) for null in nulls)])


def _extrapolated(null: Null, tokens: int) -> float:
    scores = null.scores[null.scores >= LEAST]
    count = min(TAIL, len(scores))
    base = float(scores[count]) if len(scores) > count else LEAST
    excess = float(np.sum(scores[:count] - base)) + PRIOR_SCORES * PRIOR_EXCESS
    expected = max(count, 1) * tokens / max(null.tokens, 1)
    return base + excess / (count + PRIOR_SCORES) * max(math.log(expected / FACT_ERROR), 0)


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
    own = distinct(scores, items)
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
    tokens: int,
    null: Null,
    least: float,
) -> float:
    """p-value of "the samples share no more with training text than held-out text does".

    The better of two tests that suppose items of both to come as a Poisson process would: that
    of the number of those with `least` bits, and that of those before the best of held-out text.
    """
    from scipy.stats import binom

    own = distinct(scores, items)
    own, other = own[own >= least], null.scores
    share = tokens / max(tokens + null.tokens, 1)
    losses = int((other >= least).sum())
    by_number = float(binom.sf(len(own) - 1, len(own) + losses, share)) if len(own) else 1.0
    before = int((own > (other[0] if len(other) else -np.inf)).sum())
    return min(1.0, 2 * min(by_number, share**before))
