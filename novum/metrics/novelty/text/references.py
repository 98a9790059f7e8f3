"""Training and held-out text, indexed once for any number of evaluations."""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core import distributed
from novum.core.cache import kept_folder, require_disk
from novum.core.errors import InputError
from novum.core.vocabulary import Tokens
from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text.chance import Null, joined_nulls, null_of
from novum.metrics.novelty.text.index import TextIndex, open_index, shard_size, write_index
from novum.metrics.novelty.text.information import NgramModel, Scale, sampled
from novum.metrics.novelty.text.matching import Matching, match
from novum.metrics.novelty.text.near_copies import CHUNK, STEP, Passages, Pool, joined, search
from novum.metrics.novelty.text.ngram_seeds import open_seeds, write_seeds
from novum.metrics.novelty.text.readings import Alphabet, ReadPool, ReadText, open_pool, write_pool
from novum.metrics.novelty.text.repetition import Document, documents
from novum.metrics.novelty.text.spans import novel_ngrams

SCHEMA = 6  # raise it whenever the same key would mean other files
DISK = 50  # bytes a character, at most, while an index is written
WORDS_READ = 400_000  # characters of held-out text that words are taken from
PIECES = 64  # of held-out text, if it is longer than
MOST_MATCHED = 1 << 24  # tokens of held-out text that are looked up word for word
MOST_HELDOUT = 1 << 21  # tokens of held-out text that set what chance gives
WHERE = "indices of text"
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
        """Build all that is needed, now; all ranks do so at once.

        One rank of each host writes the index, and all search for what is usual.
        """
        sizes = distributed.all_gather_objects(self._shard_size, WHERE)
        self._shard_size = min(sizes)  # ranks deal out shards
        with distributed.local_rank_zero_first(WHERE):
            _ = self.index, self.pool
        for name in ("training", "heldout"):
            self.__dict__[f"usual_{name}"] = self._usual(name == "heldout", together=True)
        self.__dict__["usual_matching"] = self._usual_matching(together=True)

    @cached_property
    def _shard_size(self) -> int:
        """Bytes of a shard."""
        return shard_size()

    @cached_property
    def _folder(self) -> Path:
        """Files of the index, in the cache."""
        sides = [self.train] if self.heldout is None else [self.train, self.heldout]
        names = [[side.fingerprint, len(side)] for side in sides]
        return kept_folder([SCHEMA, *names, self._shard_size], self._write, "text_indices")

    def _write(self, folder: Path) -> None:
        size = len(self.train) + len(self.heldout or ())
        require_disk(DISK * size, folder, f"an index of a text of {size:,} characters")
        write_pool(self.train, self.heldout, folder)
        read = open_pool(self.train, self.heldout, folder)
        if not len(read.verbatim):
            raise InputError("training text has no visible character: give text")
        write_index(read.verbatim, folder, self._shard_size)
        write_seeds(read.folded, _scale(read), folder)

    @cached_property
    def _read(self) -> ReadPool:
        return open_pool(self.train, self.heldout, self._folder)

    @property
    def alphabets(self) -> dict[str, Alphabet]:
        return self._read.alphabets

    @property
    def read_train(self) -> ReadText:
        return self._read.train

    @property
    def read_heldout(self) -> ReadText | None:
        return self._read.heldout

    @cached_property
    def index(self) -> TextIndex:
        """Suffix arrays of training text in its normal form."""
        return open_index(self._read.verbatim, self._folder)

    @cached_property
    def information(self) -> NgramModel:
        """Bits of the verbatim reading."""
        sides = [self.read_train, self.read_heldout]
        return NgramModel([s.readings["verbatim"].tokens for s in sides if s is not None])

    @cached_property
    def pool(self) -> Pool:
        read = self._read
        sides = [read.train] if read.heldout is None else [read.train, read.heldout]
        begins = [side.readings["folded"].inside(side.documents) for side in sides]
        train_size = len(read.train.readings["folded"].tokens)
        starts = np.concatenate([begins[0], *(train_size + other for other in begins[1:])])
        whole = len(begins[0]) < 2, len(begins[-1]) < 2 or len(begins) < 2
        seeds = open_seeds(read.folded, self._folder)
        return Pool(seeds, _scale(read), train_size, starts.astype(np.int64), whole)

    @cached_property
    def usual_training(self) -> Usual:
        """Parts of training text against its rest."""
        found = self._usual(heldout=False)
        assert found is not None
        return found

    @cached_property
    def usual_heldout(self) -> Usual | None:
        """Held-out text against training text."""
        return self._usual(heldout=True)

    def _usual(self, heldout: bool, together: bool = False) -> Usual | None:
        pool = self.pool
        if not heldout:
            return _usual(pool, 0, pool.train_size, MOST_TRAINING, together)
        size = len(pool.tokens) - pool.train_size
        if self.heldout is None:
            return None
        return _usual(pool, pool.train_size, size, MOST_HELDOUT, together)

    @cached_property
    def usual_matching(self) -> Matching | None:
        """Held-out text against training text, word for word."""
        return self._usual_matching()

    def _usual_matching(self, together: bool = False) -> Matching | None:
        if self.usual_text is None:
            return None
        return match(self.index, self.usual_text, self._usual_ends, together=together)

    @cached_property
    def usual_text(self) -> Tokens | None:
        """Held-out text in its normal form, of a long one pieces from all over it."""
        heldout = self.read_heldout
        return heldout and sampled([heldout.readings["verbatim"].tokens], MOST_MATCHED, PIECES)

    @property
    def _usual_ends(self) -> NDArray[np.int64]:
        """Ends of the pieces that passages of the usual text stand in."""
        assert self.usual_text is not None and self.read_heldout is not None
        size = len(self.usual_text)
        piece = (
            size if size == len(self.read_heldout.readings["verbatim"].tokens) else size // PIECES
        )
        return np.minimum((np.arange(size) // max(piece, 1) + 1) * piece, size)

    @cached_property
    def usually_novel(self) -> NDArray[np.float64] | None:
        found = self.usual_matching
        return found and novel_ngrams(found, self._usual_ends)

    @cached_property
    def documents(self) -> list[Document]:
        """Passages of held-out text for figures of diversity."""
        if self.heldout is None:
            return []
        return [*documents([self.heldout.text(0, WORDS_READ)])]


def _scale(read: ReadPool) -> Scale:
    sides = [read.train] if read.heldout is None else [read.train, read.heldout]
    texts = [side.readings["folded"].tokens for side in sides]
    return Scale([text for text in texts if len(text)] or texts[:1])


def _usual(pool: Pool, begin: int, size: int, most: int, together: bool) -> Usual:
    """The null of a side of the pool, read in pieces from all over it if it is long."""
    pieces = [(begin, size)] if size <= most else _pieces(begin, size, most)
    dealt = together and len(pieces) > 1
    found = []
    for at, length in pieces[distributed.shard(len(pieces))] if dealt else pieces:
        text = pool.tokens[at : at + length]
        own = search(pool, text, at=at, together=together and not dealt).passages
        null = null_of(own, pool, length, at)
        own = own._replace(start=own.start + at - begin, stop=own.stop + at - begin)
        found.append((null, own))
    if dealt:
        found = [x for part in distributed.all_gather_objects(found, WHERE) for x in part]
    nulls, passages = zip(*found, strict=True)
    return Usual(joined_nulls(nulls), joined(passages), sum(length for _, length in pieces))


def _pieces(begin: int, size: int, most: int) -> list[tuple[int, int]]:
    starts = np.linspace(0, size - CHUNK, max(most // CHUNK, 1)).astype(np.int64) // STEP * STEP
    return [(begin + start, CHUNK) for start in np.unique(starts).tolist()]
