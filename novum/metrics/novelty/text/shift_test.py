"""Test whether held-out text is as like training text as passages of this are to the rest.

All that is said of copying rests on it: held-out text of another kind has little in common with
training text, and any sample then looks copied.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core.vocabulary import Tokens

BLOCKS = 1000  # into which both texts together are cut
MOST = 4000  # tokens read of a block
PAIRS = 256  # the most frequent pairs of tokens, each counted by itself


class Exchangeability(NamedTuple):
    distance: float  # of held-out text from the rest, total variation of their pairs of tokens
    usual_distance: float  # median over all stretches of as many tokens
    p: float


def exchangeability_test(train: Tokens, heldout: Tokens) -> Exchangeability | None:
    """Shift test on the pairs of adjacent tokens in training text (n,) and held-out text (m,).

    Both are laid end to end on a ring. p is the share of its stretches as long as the held-out text
    that differ from their rest at least as much. If the ring is of one kind throughout (stationary)
    no p has a greater chance than itself, however alike neighbouring passages are: labels of single
    passages, permuted, would take every change of subject for another kind.

    Returns:
        None where the texts are too short to be cut.
    """
    size = max(2, (len(train) + len(heldout)) // BLOCKS)
    there = len(heldout) // size
    if not there or len(train) // size < 2:
        return None
    size = len(heldout) // there
    counts = _pair_counts(np.concatenate([_blocks(train, size), _blocks(heldout, size)]))
    whole = counts.sum(0)
    ring = np.concatenate([np.zeros_like(counts[:1]), counts, counts[:there]]).cumsum(0)
    inside = ring[there : there + len(counts)] - ring[: len(counts)]  # of each stretch
    rest = whole - inside
    shares = inside / inside.sum(1, keepdims=True) - rest / rest.sum(1, keepdims=True)
    distances = np.abs(shares).sum(1) / 2
    own = distances[len(counts) - there]
    p = np.mean(distances >= own - 1e-12)
    return Exchangeability(float(own), float(np.median(distances)), float(p))


def _blocks(tokens: Tokens, size: int) -> Tokens:
    """(blocks, tokens), the first MOST of each."""
    blocks = len(tokens) // size
    return np.asarray(tokens[: blocks * size]).reshape(blocks, size)[:, :MOST]


def _pair_counts(blocks: Tokens) -> NDArray[np.int64]:
    """Counts of the most frequent pairs, and of any other, in each block."""
    pairs = blocks[:, :-1].astype(np.int64) << 16 | blocks[:, 1:]
    known, number, often = np.unique(pairs, return_inverse=True, return_counts=True)
    column = np.full(len(known), PAIRS)
    column[np.argsort(-often, kind="stable")[:PAIRS]] = np.arange(min(PAIRS, len(known)))
    cells = np.arange(len(blocks))[:, None] * (PAIRS + 1) + column[number].reshape(pairs.shape)
    counts = np.bincount(cells.ravel(), minlength=len(blocks) * (PAIRS + 1))
    return counts.reshape(len(blocks), PAIRS + 1)
