"""Text with case and white space forgotten, for copies that differ in nothing else."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core.vocabulary import Tokens, Vocabulary

BLOCK = 1 << 22  # tokens at a time


class Folded(NamedTuple):
    tokens: Tokens  # (k,) lower case, one space for each run of white space
    origin: NDArray[np.integer]  # (k + 1,) where each stood; the last is the length of the text


def fold(tokens: Tokens, vocabulary: Vocabulary) -> Folded:
    """Tokens (n,) in lower case, where the vocabulary has that, and with single spaces."""
    lower, is_space = folding_tables(vocabulary)
    dtype = np.int32 if len(tokens) < 2**31 else np.int64
    folded, origin = [], []
    for start in range(0, len(tokens), BLOCK):
        block = tokens[start : start + BLOCK]
        space = is_space[block]
        after = is_space[tokens[max(start - 1, 0) : start]] if start else np.array([False])
        kept = np.flatnonzero(~space | ~np.append(after, space[:-1]))
        folded.append(lower[block[kept]])
        origin.append((kept + start).astype(dtype))
    end = np.array([len(tokens)], dtype)
    return Folded(np.concatenate([*folded, lower[:0]]), np.concatenate([*origin, end]))


def folding_tables(vocabulary: Vocabulary) -> tuple[Tokens, NDArray[np.bool_]]:
    """Each token's folded token, and whether it is white space. Of bytes, ASCII alone is folded."""
    if vocabulary.alphabet is None:
        characters = "".join(chr(i) if i < 128 else "\0" for i in range(256))
    else:
        characters = vocabulary.alphabet
    known = {c: i for i, c in reversed(list(enumerate(characters))) if c != "\0"}
    lower = np.array([known.get(c.lower(), i) for i, c in enumerate(characters)])
    is_space = np.array([c.isspace() for c in characters])
    lower[is_space] = known.get(" ", np.flatnonzero(is_space)[0] if is_space.any() else 0)
    return lower.astype(vocabulary.dtype), is_space
