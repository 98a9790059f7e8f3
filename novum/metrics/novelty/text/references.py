"""Training and held-out text, indexed once for any number of evaluations."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core.cache import entry, load_array, store
from novum.core.errors import InputError
from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text.chance import Null, joined_nulls, null_of
from novum.metrics.novelty.text.index import TextIndex, build_index
from novum.metrics.novelty.text.information import NgramModel
from novum.metrics.novelty.text.matching import Matching, match
from novum.metrics.novelty.text.near_copies import (
    CHUNK,
    STEP,
    Passages,
    Pool,
    build_pool,
    joined,
    search,
)
from novum.metrics.novelty.text.readings import Alphabet, ReadText, read_pool
from novum.metrics.novelty.text.repetition import Document, documents
from novum.metrics.novelty.text.spans import novel_ngrams

SCHEMA = 2  # raise it whenever the same key would mean another order
WORDS_READ = 400_000  # characters of held-out text that words are taken from
MOST_HELDOUT = 1 << 21  # tokens of held-out text that set what chance gives
MOST_TRAINING = 1 << 18  # tokens of training text that are compared with its rest


class Usual(NamedTuple):
    """Passages that innocent text shares with training text."""

    null: Null
    passages: Passages  # in the folded reading of its side
    looked_at: int  # tokens


class TextReferences:
    """Training and held-out text in both readings, and what chance gives."""

    def __init__(self, train: TextSource, heldout: TextSource | None) -> None:
        for source in (train, heldout):
            if source is not None and not len(source):
                raise InputError("the text is empty: give at least one character")
        self.train = train.as_characters()
        self.heldout = heldout and heldout.as_characters()

    def prepare(self) -> None:
        """Build all that is needed, now."""
        _ = self.index, self.pool, self.usual_training, self.usual_heldout, self.usual_matching

    @cached_property
    def _read(self) -> tuple[dict[str, Alphabet], ReadText, ReadText | None]:
        return read_pool(self.train, self.heldout)

    @property
    def alphabets(self) -> dict[str, Alphabet]:
        return self._read[0]

    @property
    def read_train(self) -> ReadText:
        return self._read[1]

    @property
    def read_heldout(self) -> ReadText | None:
        return self._read[2]

    @cached_property
    def index(self) -> TextIndex:
        """Suffix array of training text in its normal form; in the cache, if it was built."""
        tokens = self.read_train.readings["verbatim"].tokens
        if not len(tokens):
            raise InputError("training text has no visible character: give text")
        key = [SCHEMA, self.train.fingerprint, len(self.train), "verbatim"]
        path = entry(key, ".npy", "text_indices")
        dtype = np.int32 if len(tokens) < 2**31 // tokens.itemsize else np.int64
        order = load_array(path, dtype)
        index = build_index(
            tokens, order if order is not None and len(order) == len(tokens) else None
        )
        if index.order is not order:
            store(path, lambda file: np.save(file, index.order))
        return index

    @cached_property
    def information(self) -> NgramModel:
        """Bits of the verbatim reading."""
        sides = [self.read_train, self.read_heldout]
        return NgramModel([s.readings["verbatim"].tokens for s in sides if s is not None])

    @cached_property
    def pool(self) -> Pool:
        train, heldout = self.read_train, self.read_heldout
        folded = train.readings["folded"]
        begins = folded.inside(train.documents)
        if heldout is None:
            return build_pool(folded.tokens, folded.tokens[:0], begins, begins[:0])
        other = heldout.readings["folded"]
        return build_pool(folded.tokens, other.tokens, begins, other.inside(heldout.documents))

    @cached_property
    def usual_training(self) -> Usual:
        """Parts of training text against its rest."""
        return _usual(self.pool, 0, self.pool.train_size, MOST_TRAINING)

    @cached_property
    def usual_heldout(self) -> Usual | None:
        pool = self.pool
        size = len(pool.tokens) - pool.train_size
        return _usual(pool, pool.train_size, size, MOST_HELDOUT) if self.heldout else None

    @cached_property
    def usual_matching(self) -> Matching | None:
        """Held-out text against training text, word for word."""
        if self.read_heldout is None:
            return None
        return match(self.index, self.read_heldout.readings["verbatim"].tokens)

    @cached_property
    def usually_novel(self) -> NDArray[np.float64] | None:
        found = self.usual_matching
        return found and novel_ngrams(found, np.repeat(len(found.length), len(found.length)))

    @cached_property
    def documents(self) -> list[Document]:
        """Passages of held-out text for figures of diversity."""
        if self.heldout is None:
            return []
        return [*documents([self.heldout.text(0, WORDS_READ)])]


def _usual(pool: Pool, begin: int, size: int, most: int) -> Usual:
    """The null of a side of the pool, read in pieces from all over it if it is long."""
    pieces = [(begin, size)] if size <= most else _pieces(begin, size, most)
    nulls, passages = [], []
    for at, length in pieces:
        found = search(pool, pool.tokens[at : at + length], at=at).passages
        nulls.append(null_of(found, pool, length, at))
        passages.append(
            found._replace(start=found.start + at - begin, stop=found.stop + at - begin)
        )
    return Usual(joined_nulls(nulls), joined(passages), sum(length for _, length in pieces))


def _pieces(begin: int, size: int, most: int) -> list[tuple[int, int]]:
    starts = np.linspace(0, size - CHUNK, max(most // CHUNK, 1)).astype(np.int64) // STEP * STEP
    return [(begin + start, CHUNK) for start in np.unique(starts).tolist()]
