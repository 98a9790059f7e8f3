"""Information of passages in bits: what a fresh author, or a reciter, needs to write them.

A character of Chinese has more of it than one of English, and a letter of DNA less: in bits a
passage of any script is compared with any other.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from novum.core.vocabulary import Tokens

FITTED = 1 << 22  # tokens of the pool, at most, that a model is fitted to
HIGHEST_ORDER = 8
LOCAL_ORDER = 2  # of the model that tells how long an n-gram has to be
LONGEST = 40  # tokens of an n-gram
RECITED_ORDER = 7  # letters, some eight characters: n-gram models of these copy nothing
LETTERS = 6.0  # bits of a sign, below which a script is one of letters
AMBIGUOUS = 3  # bits that a context lacks to single out a place
SLOTS = 1 << 22  # of the tables that n-grams are counted in
BLOCK = 1 << 20
UNIT = 1024  # of a bit: sums of whole numbers are the same wherever they begin

Places = NDArray[np.integer]


class NgramModel:
    """Characters given those before them: interpolated, with Witten and Bell's (1991) weights.

    The order grows with the text and falls with the alphabet: contexts of that length occur several
    times. Each n-gram counts once less than it was seen: a passage does not predict itself.
    """

    def __init__(self, texts: Sequence[Tokens]) -> None:
        text = sampled(texts, FITTED)
        counts = np.bincount(text, minlength=1)
        self._unigrams = counts.astype(np.float32)
        shares = counts[counts > 0] / max(len(text), 1)
        self.entropy = max(-float(np.sum(shares * np.log2(shares))), 0.5)  # bits a character
        self.most = 2 * self.entropy + 1  # bits that one character counts at most
        wanted = int(math.log2(max(len(text), 2)) / self.entropy)
        self.order = min(HIGHEST_ORDER, max(1, wanted))
        self._tables = [_count(text, order) for order in range(1, max(self.order, LOCAL_ORDER) + 1)]
        self.usual = float(np.mean(self.bits(text[-BLOCK:])))
        self.usual_local = float(np.mean(self.bits(text[-BLOCK:], LOCAL_ORDER)))

    def bits(self, tokens: Tokens, order: int | None = None) -> NDArray[np.float32]:
        """Information (n,) of each token, given as many as `order` before it."""
        order = self.order if order is None else order
        out = np.empty(len(tokens), np.float32)
        for start in range(0, len(tokens), BLOCK):
            first = max(0, start - order)
            part = self._bits(tokens[first : start + BLOCK], order)
            out[start : start + BLOCK] = part[start - first :]
        return out

    def _bits(self, tokens: Tokens, highest: int) -> NDArray[np.float64]:
        size = len(self._unigrams)
        known = np.where(tokens < size, self._unigrams[np.minimum(tokens, size - 1)], 0)
        p = (np.maximum(known - 1, 0) + 0.5) / (self._unigrams.sum() + 0.5 * size)
        for order, (grams, contexts, kinds) in enumerate(self._tables[:highest], 1):
            if len(tokens) <= order:
                break
            context, gram = _hashes(tokens, order)
            often = grams[gram]
            seen = np.maximum(often - 1, 0)
            total = np.maximum(contexts[context] - (often > 0), 0)
            new = np.maximum(kinds[context] - (often == 1), 0)
            lower = p[order:]
            p[order:] = np.where(
                total > 0, (seen + new * lower) / np.maximum(total + new, 1), lower
            )
        return np.clip(-np.log2(np.maximum(p, 1e-12)), 0, self.most)  # slots are shared: p > 1


class Scale(NgramModel):
    """Bits, and how long an n-gram has to be to single out a place of the pool."""

    def __init__(self, texts: Sequence[Tokens]) -> None:
        super().__init__(texts)
        self._text = sampled(texts, 4 * FITTED)
        self.size = max(sum(map(len, texts)), 2)
        self._rest = self._beyond(math.log2(self.size) + 1)
        context = math.log2(self.size) - AMBIGUOUS
        self._context_rest = self._beyond(context)
        self._fixed_order = 0
        if self.entropy < LETTERS:
            order = int(math.log2(self.size) / max(self.usual, 0.1))
            self._fixed_order = min(max(order, 1), RECITED_ORDER)
        elif context < 1.5 * self.usual:
            self._fixed_order = 1

    def _beyond(self, bits: float) -> int:
        """UNITs of the local model that an n-gram has after its first two tokens."""
        local = bits * max(self.usual_local, 0.1) / max(self.usual, 0.1)
        return round(UNIT * max(local - 2 * self.entropy, 0.0))

    def lengths(self, tokens: Tokens) -> NDArray[np.uint8]:
        """Tokens (n,) of the n-gram that begins at each place; 0 if none is long enough.

        It depends on the n-gram alone, so that it is the same wherever this stands.
        """
        out = np.zeros(len(tokens), np.uint8)
        for start in range(0, len(tokens), BLOCK):
            part = tokens[start : start + BLOCK + LONGEST]
            sums = self._sums(part)
            here = min(BLOCK, len(tokens) - start)
            wanted = sums[np.minimum(np.arange(here) + 2, len(part))] + self._rest
            length = np.searchsorted(sums, wanted) - np.arange(here)
            fits = (length <= LONGEST) & (np.arange(here) + length <= len(part))
            out[start : start + here] = np.where(fits, length, 0)
        return out

    def decisions(self, tokens: Tokens) -> NDArray[np.float32]:
        """Bits (n,) that a reciter needs: -log2 of the share of a token after such a context.

        The reciter is an n-gram model of the pool itself, with contexts of RECITED_ORDER letters
        at most, and no longer than what singles out a place; in scripts of many signs they are
        shorter, so that a few places share them.
        """
        contexts, grams = self._recited
        out = np.zeros(len(tokens), np.float32)
        for start in range(0, len(tokens), BLOCK):
            first = max(0, start - LONGEST)
            context, gram, known = self._contexts(tokens[first : start + BLOCK])
            often = contexts[context]
            share = grams[gram] / np.maximum(often, 1)
            bits = np.where(known & (often > 0) & (share > 0), -np.log2(np.maximum(share, 1e-9)), 0)
            out[start : start + BLOCK] = np.clip(bits, 0, self.most)[start - first :]
        return out

    @cached_property
    def _recited(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Counts of each context in the pool, and of each with the token that follows."""
        counts = np.zeros((2, 4 * SLOTS), np.int64)
        for start in range(0, len(self._text), FITTED):
            first = max(0, start - LONGEST)
            context, gram, known = self._contexts(self._text[first : start + FITTED])
            known[: start - first] = False
            for count, slots in zip(counts, (context, gram), strict=True):
                count += np.bincount(slots[known], minlength=4 * SLOTS)
        return counts[0], counts[1]

    def _sums(self, tokens: Tokens) -> NDArray[np.int64]:
        units = np.rint(UNIT * self.bits(tokens, LOCAL_ORDER))
        return np.append(0, np.cumsum(units, dtype=np.int64))

    def _contexts(self, tokens: Tokens) -> tuple[Places, Places, NDArray[np.bool_]]:
        """Slots of each token's context and of it with the token, and whether there is one."""
        sums = self._sums(tokens)
        places = np.arange(len(tokens))
        if self._fixed_order:
            start = places - self._fixed_order
        else:
            start = np.searchsorted(sums, sums[:-1] - self._context_rest, "right") - 3
            start = np.minimum(np.maximum(start, places - RECITED_ORDER), places - 1)
        known = start >= 0
        prefix = Prefixes(tokens)
        start = np.maximum(start, 0)
        context, gram = (prefix.hashes(start, places + more) for more in (0, 1))
        bits = (4 * SLOTS).bit_length() - 1
        return slot(context, bits), slot(gram, bits), known


class Prefixes:
    """Hashes of any passages of a text, the same wherever a passage stands."""

    def __init__(self, tokens: Tokens) -> None:
        n = len(tokens)
        powers = np.cumprod(np.full(n + 1, FACTOR, np.uint64))
        self._inverse = np.cumprod(np.full(n + 1, INVERSE, np.uint64))
        values = (tokens.astype(np.uint64) + np.uint64(1)) * powers[:n]
        self._sums = np.zeros(n + 1, np.uint64)
        np.cumsum(values, out=self._sums[1:])

    def hashes(self, starts: Places, stops: Places) -> NDArray[np.uint64]:
        return (self._sums[stops] - self._sums[starts]) * self._inverse[starts]


FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd
INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))


def mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hashes whose first bits depend on all of them."""
    return (value ^ (value >> np.uint64(29))) * FACTOR


def slot(value: NDArray[np.uint64], bits: int) -> NDArray[np.int64]:
    """Slots of hashes, below 2**bits."""
    return (mixed(value) >> np.uint64(64 - bits)).astype(np.int64)


def sampled(texts: Sequence[Tokens], most: int, pieces: int = 64) -> Tokens:
    """So many tokens of some texts at most, in pieces from all over them."""
    total = sum(map(len, texts))
    parts = []
    for text in texts:
        share = most * len(text) // max(total, 1)
        if total <= most:
            parts.append(np.asarray(text))
            continue
        size = max(share // pieces, 1)
        starts = np.linspace(0, max(len(text) - size, 0), pieces).astype(np.int64)
        parts += [np.asarray(text[start : start + size]) for start in starts.tolist()]
    return np.concatenate(parts)


def _count(text: Tokens, order: int) -> tuple[NDArray[np.int32], ...]:
    """Counts of each n-gram, of each context, and of how many different characters follow it."""
    context, gram = _hashes(text, order)
    _, first = np.unique(gram, return_index=True)
    return tuple(
        np.bincount(x, minlength=SLOTS).astype(np.int32) for x in (gram, context, context[first])
    )


def _hashes(tokens: Tokens, order: int) -> tuple[Places, Places]:
    """Slots of the context of `order` tokens and of it with the next, from token `order` on."""
    n = max(len(tokens) - order, 0)
    value = np.zeros(n, np.uint64)
    for i in range(order):
        value = (value + tokens[i : i + n].astype(np.uint64) + np.uint64(1)) * FACTOR
    gram = (value + tokens[order : order + n].astype(np.uint64) + np.uint64(1)) * FACTOR
    bits = SLOTS.bit_length() - 1
    return slot(value, bits), slot(gram, bits)
