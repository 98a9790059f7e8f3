"""Text for training, and the held-out text that loss and novelty are measured on."""

from collections.abc import Iterator
from typing import Literal, cast

import numpy as np
import torch
from pytorch_lightning import LightningDataModule

from novum.core.byte_pairs import BytePairs
from novum.core.byte_pairs import vocabulary_of as stored_vocabulary
from novum.core.checkpoints import read_checkpoint
from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError, printable
from novum.core.lightning_compat import batches_done, counts_epochs, overfits, overfitted
from novum.core.vocabulary import Vocabulary
from novum.datamodules.dataloaders import Batch, Batches, CountedBatches, transferred
from novum.datamodules.halves import Half, TextDeal, check_half, deal_text
from novum.datamodules.sources import text_protocols as splits
from novum.datamodules.sources.byte_pair_text import in_byte_pairs, learn_byte_pairs
from novum.datamodules.sources.corpus import TextSource
from novum.datamodules.sources.raw_images import say_omissions
from novum.datamodules.sources.text_documents import Reading
from novum.datamodules.sources.text_files import TEXT_SETS, open_text

WINDOWS = 64  # of a batch of all ranks
VALIDATION_STREAMS = 50  # as in char-rnn and torch-rnn; the same on any number of ranks


class TextDataModule(LightningDataModule):
    """Text as streams of tokens: row b of a batch goes on where row b of the batch before ended.

    Or, for networks that carry no state, windows from random places. A batch has `tokens`
    (b, t + 1), of which all but the last are inputs and all but the first are targets; `restart`,
    true where all streams restart; and in training `epoch`, the passes over the text so far.

    Args:
        dataset: stdlib (the source of Python's standard library), files or huggingface.
        files: For files: a path, a folder, a glob or a list of them; of text or, a document a row,
            JSON lines (.gz, .zst), parquet and Arrow.
        path: For huggingface: a hub name (`name` or `name:config`) or a local file or folder.
        vocabulary: A token is a character, a byte of UTF-8, or of byte pairs (bpe), which are
            learnt from the text that is trained on.
        bpe_tokens: Number of tokens of byte pairs.
        encoding: Of the files, where tokens are characters; of several parted by commas
            (utf-8,latin-1) each file is in the first that it decodes in.
        on_bad_text: Stop at a text that cannot be read, or skip and count all such texts.
        vocabulary_of: A checkpoint whose vocabulary is kept, to begin with its weights (`transfer`
            of the model).
        new_characters: Those that it does not have: one unknown token, or extend the vocabulary.
        protocol: Which parts are trained on, validated on and tested on, and by what rule: char_rnn
            (95/5/0), nanogpt (90/10/0) or torch_rnn (80/10/10).
        validation: Another rule: stateful (long streams, the state carried along) or windowed
            (short windows, each read from an empty state); null for the protocol's own.
        window: Tokens of a window.
        batch_size: Streams of a process.
        chunk_length: Tokens of a stream that a training step goes through.
        order: Of training: streams, or random, windows of `chunk_length` from random places.
        seed: Of random places.
        text_column: Of tables; null finds it.
        split: Of tables: the split to read; null for train, or the only one.
        streaming: For huggingface: read it as a stream until there are `max_characters`.
        max_characters: For huggingface: no more than the first of them; null for all.
        follow_links: Follow links that lead out of the folder of the data; else they are left out.
        half: Train on one half of the training text, a or b, and hold out the other, as the two
            runs of `fit --twin` do; dealt by documents, or by blocks where these are few; null for
            all.
        split_seed: Decides which documents are in which half.
    """

    def __init__(
        self,
        dataset: str = "stdlib",
        files: str | list[str] | None = None,
        path: str | None = None,
        vocabulary: Literal["characters", "bytes", "bpe"] = "characters",
        encoding: str = "utf-8",
        protocol: str = "nanogpt",
        validation: Literal["stateful", "windowed"] | None = None,
        window: int = 256,
        batch_size: int = 50,
        chunk_length: int = 50,
        text_column: str | None = None,
        split: str | None = None,
        streaming: bool = False,
        max_characters: int | None = None,
        follow_links: bool = False,
        on_bad_text: Literal["error", "skip"] = "error",
        vocabulary_of: str | None = None,
        new_characters: Literal["unknown", "extend"] = "unknown",
        order: Literal["streams", "random"] = "streams",
        seed: int = 0,
        bpe_tokens: int = 1024,
        half: Half | None = None,
        split_seed: int = 0,
    ) -> None:
        super().__init__()
        if dataset not in TEXT_SETS:
            raise InputError(f"unknown dataset {dataset!r}: there are {', '.join(TEXT_SETS)}")
        for name, value in (
            ("batch_size", batch_size), ("chunk_length", chunk_length), ("window", window)
        ):  # fmt: skip
            if value < 1:
                raise InputError(f"{name} is {value}: it must be at least 1")
        if dataset != "files" and files:
            raise InputError("files is for dataset: files")
        if dataset != "huggingface" and (path or streaming):
            raise InputError("path and streaming are for dataset: huggingface")
        if dataset == "stdlib" and (text_column or split):
            raise InputError("text_column and split are of tables, which stdlib has none of")
        if order not in ("streams", "random"):
            raise InputError(f"order is {order}: choose from streams, random")
        if vocabulary not in ("characters", "bytes", "bpe"):
            raise InputError(f"vocabulary is {vocabulary}: choose from characters, bytes, bpe")
        if on_bad_text not in ("error", "skip"):
            raise InputError(f"on_bad_text is {on_bad_text}: choose from error, skip")
        check_half(half)
        if streaming and max_characters is None:
            raise InputError("streaming needs max_characters: how much of the stream to keep")
        self.protocol = splits.protocol(protocol)
        self.stateful = (validation or self.protocol.validation) == "stateful"
        self.batch_size, self.chunk_length, self.window = batch_size, chunk_length, window
        self.order, self.seed = order, seed
        # now, not in setup: the vocabulary gives the network its size
        how = Reading(encoding, on_bad_text == "skip", text_column, vocabulary == "bytes")
        kept = None if vocabulary_of is None else read_vocabulary(vocabulary_of, vocabulary)
        of_corpus, extend = None if vocabulary == "bpe" else kept, new_characters == "extend"
        self.corpus = open_text(
            dataset, files, path, how, split, streaming, max_characters, follow_links, of_corpus,
            extend,
        )  # fmt: skip
        for line in self._notices(vocabulary_of, extend):
            rank_zero_warn(printable(line))
        spans = self.protocol.cut(len(self.corpus.tokens))
        parts = [self.corpus.source(part) for part in spans]
        learnt_from, self.half = parts[0], half
        self._dealt: TextDeal | None = None
        if half is not None:
            self._dealt = deal_text(self.corpus, spans[0], split_seed)
            other = "b" if half == "a" else "a"
            parts[:2] = (self.corpus.source(self._dealt.spans[side]) for side in (half, other))
        if vocabulary == "bpe":  # one of both halves, or their losses would not compare
            pairs = kept or learn_byte_pairs(learnt_from, bpe_tokens)
            parts = [in_byte_pairs(part, cast(BytePairs, pairs)) for part in parts]
        self.train, self.heldout, self.tested = parts

    def _notices(self, vocabulary_of: str | None, extend: bool) -> Iterator[str]:
        """Lines about characters and texts that are not read as they are."""
        if self.corpus.left_out:
            yield f"text left out: {say_omissions(self.corpus.left_out)}"
        if new := self.corpus.new:
            yield (
                f"{len(new):,} different characters of the text, such as {''.join([*new][:10])!r}"
                f" ({sum(new.values()):,} of {len(self.corpus.tokens):,}), are not in the"
                f" vocabulary of {vocabulary_of}:"
                f" {'it is extended' if extend else 'they count as unknown'}"
            )

    @property
    def vocab_size(self) -> int:
        return len(self.train.vocabulary)

    @property
    def alphabet(self) -> str | None:
        """Characters that the vocabulary is rebuilt from; None for bytes and byte pairs."""
        return self.train.vocabulary.alphabet

    @property
    def merges(self) -> str | None:
        """Merges that byte pairs are rebuilt from; None for other vocabularies."""
        return self.train.vocabulary.merges

    def __str__(self) -> str:
        return type(self).__name__  # Lightning's opens every loader; jsonargparse asks for it

    def train_reference(self) -> TextSource:
        """The text that is trained on."""
        return self.train

    def heldout_reference(self) -> TextSource:
        """The text of validation, never trained on."""
        return self.heldout

    def dealt(self) -> TextDeal:
        """The spans of `half`, as many as the pieces of both halves."""
        if self._dealt is None:
            raise InputError("half is null: no halves are dealt")
        return self._dealt

    def fingerprints(self) -> dict[str, str]:
        """Digests of the text that is trained on and of that of validation."""
        return {"train": self.train.fingerprint, "heldout": self.heldout.fingerprint}

    def train_dataloader(self) -> Batches:
        """Endless; of an epoch's length where the trainer's arguments are about epochs."""
        if not counts_epochs(self.trainer):
            return Batches(self._train_batches)
        streams = self.batch_size * self._position()[1]
        _, length = self._streams(self.train, streams, self.chunk_length)
        return CountedBatches(self._train_batches, length // self.chunk_length)

    def _train_batches(self) -> Iterator[Batch]:
        """Starts at the batch that the trainer has reached, which is the whole of exact resume."""
        rank, world_size = self._position()
        done = 0
        if self.trainer is not None:
            done = batches_done(self.trainer)
        streams = self.batch_size * world_size
        starts, length = self._streams(self.train, streams, self.chunk_length)
        mine = starts[rank * self.batch_size : (rank + 1) * self.batch_size]
        per_epoch = length // self.chunk_length
        if self.trainer is not None and overfits(self.trainer):
            per_epoch = overfitted(self.trainer, per_epoch)
        repeats = self.order == "streams" or self.trainer is not None and overfits(self.trainer)
        while True:
            at = done % per_epoch if repeats else done
            if self.order == "random":  # each batch of all ranks has places of its own
                last = len(self.train) - self.chunk_length
                places = np.random.default_rng([self.seed, at]).integers(last, size=streams)
                starts = places[rank * self.batch_size : (rank + 1) * self.batch_size]
            else:
                starts = mine + at * self.chunk_length
            yield {
                "tokens": _cut(self.train, starts, self.chunk_length),
                "restart": at == 0 or self.order == "random",
                "epoch": done / per_epoch,
            }
            done += 1

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return transferred(batch, device)

    def val_dataloader(self) -> CountedBatches:
        """Held-out text once, every rank its share of the streams or windows."""
        return self._evaluation(self.heldout)

    def test_dataloader(self) -> CountedBatches:
        """The protocol's test part; where it has none, the held-out text."""
        return self._evaluation(self.tested if len(self.tested) else self.heldout)

    def _evaluation(self, text: TextSource) -> CountedBatches:
        rank, world_size = self._position()
        idle: Batch = {}
        if self.stateful:
            streams = max(1, min(VALIDATION_STREAMS, (len(text) - 1) // self.chunk_length))
            starts, length = self._streams(text, streams, 1)
            chunks = range(0, length, self.chunk_length)
            sizes = [min(self.chunk_length, length - at) for at in chunks]
            mine, idle = _part(starts, rank, world_size)
            plan = [(mine + at, t, at == 0) for at, t in zip(chunks, sizes, strict=True)]
        else:
            window = min(self.window, len(text) - 1)
            starts = np.arange(0, len(text) - window, window)
            parts = [(starts[i : i + WINDOWS], window) for i in range(0, len(starts), WINDOWS)]
            if rest := (len(text) - 1) % window:  # a last, shorter window
                parts.append((np.array([len(text) - 1 - rest]), rest))
            # each batch is shared out, so that as many batches are the same text on any ranks
            shared = [(part[rank::world_size], length, True) for part, length in parts]
            plan = [part for part in shared if len(part[0])]
            if not plan:
                plan, idle = [(starts[:1], window, True)], {"idle": True}

        def batches() -> Iterator[Batch]:
            for starts, length, restart in plan:
                yield {"tokens": _cut(text, starts, length), "restart": restart} | idle

        return CountedBatches(batches, len(plan))

    def _streams(self, text: TextSource, streams: int, chunk: int) -> tuple[np.ndarray, int]:
        """Starts of equal streams of a text, and the tokens of each."""
        apart = len(text) // streams  # so that the streams of char_rnn's split are its own
        length = min(apart, len(text) - 1 - (streams - 1) * apart)
        if length < chunk:
            raise InputError(
                f"the text is too short: {len(text):,} {text.vocabulary.unit}, but {streams}"
                f" streams of {chunk} need {streams * chunk + 1:,}: lower batch_size or"
                " chunk_length"
            )
        return np.arange(streams) * apart, length

    def _position(self) -> tuple[int, int]:
        """Rank and number of ranks."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size


def read_vocabulary(checkpoint: str, kind: str) -> Vocabulary:
    """The vocabulary that a text model's checkpoint was trained with, if it is of that kind."""
    vocabulary = stored_vocabulary(read_checkpoint(checkpoint))
    if vocabulary is None:
        raise InputError(f"{checkpoint} is no checkpoint of a text model: it has no vocabulary")
    if vocabulary.kind != kind:
        own = vocabulary.kind
        raise InputError(f"{checkpoint} was trained on {own}: give data.vocabulary {own}")
    return vocabulary


def _part(starts: np.ndarray, rank: int, world_size: int) -> tuple[np.ndarray, Batch]:
    """A rank's streams or windows; where there are none one that is not counted.

    A rank that validated nothing would not come to the sum that all ranks make.
    """
    mine = starts[rank::world_size]
    return (mine, {}) if len(mine) else (starts[:1], {"idle": True})


def _cut(text: TextSource, starts: np.ndarray, length: int) -> torch.Tensor:
    """Tokens (b, length + 1) from `starts` on, int64 (torch knows little of uint16)."""
    rows = text.tokens[starts[:, None] + np.arange(length + 1)]
    return torch.from_numpy(rows.astype(np.int64))
