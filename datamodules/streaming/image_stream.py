"""Images in shards, for data larger than memory: read in an order that any batch can be entered at.

The order is a function of the seed and the shards alone, whatever the number of ranks and workers.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, count
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError, printable
from novum.datamodules.dataloaders import Batch, by_workers
from novum.datamodules.sources.decode import (
    ImageTransform,
    first_channels,
    read_header,
    unreadable,
)
from novum.datamodules.sources.image_sources import ImageArray
from novum.datamodules.sources.threads import in_threads
from novum.datamodules.streaming.shard_sets import BadShard, Record, ShardSet, find_shards
from novum.datamodules.streaming.shard_splits import heldout_rows
from novum.datamodules.streaming.shuffle import LANES, Shuffle
from novum.datamodules.streaming.shuffled_reader import Reader

SHUFFLE_BUFFER = 10_000  # undecoded images that all ranks hold together ...
SHUFFLE_BYTES = 1 << 29  # ... or as many as take so much; and the lanes' row groups as well
LOOKED_AT = 32  # blocks, and images of each, that decide between gray and colour

Piece = tuple[int, int, int]  # a block, and from which of its rows to which


class Part(NamedTuple):
    """A worker's part of a batch: rows first, first + K, ... of it."""

    first: int
    image: Tensor
    label: list[int]  # each tensor that comes from a worker takes half a millisecond
    skipped: list[str]


class ImageStream:
    """Training and held-out images of shards; without a test split the images' bytes decide."""

    def __init__(
        self,
        path: str,
        image_column: str | None = None,
        label_column: str | None = None,
        split: str | None = None,
        image_size: int = 32,
        channels: int | None = None,
        heldout_fraction: float = 0.2,
        split_seed: int = 0,
        skip_bad: bool = False,
        follow_links: bool = False,
    ) -> None:
        self.path, self.skip_bad, self.skipped = path, skip_bad, 0
        found = find_shards(path, image_column, label_column, split, skip_bad, follow_links)
        self.class_names, self.num_classes = found.class_names, found.num_classes
        if found.heldout:
            self.train, self.heldout = ShardSet(found.train), ShardSet(found.heldout)
        else:
            held = heldout_rows(found.train, split_seed, heldout_fraction, skip_bad)
            self.train = ShardSet(found.train, [~rows for rows in held])
            self.heldout = ShardSet(found.train, held)
        for side, images in (("training", self.train), ("held-out", self.heldout)):
            if not len(images):
                raise InputError(f"{path} streams no {side} image; change heldout_fraction")
        self.transform = ImageTransform(image_size, channels or self._native_channels())
        self.shape = self.transform.channels, image_size, image_size

    def _native_channels(self) -> int:
        """3 if an image is in colour, of the first and others from all over the shards."""
        first = (self.train.read(b, 0, min(100, n)) for b, n in enumerate(self.train.counts))
        images = ((record.name, record.data) for record in chain.from_iterable(first))
        channels = first_channels(images, self.skip_bad)
        blocks = range(0, len(self.train.counts), -(-len(self.train.counts) // LOOKED_AT))
        for record in chain.from_iterable(map(self._first_of, blocks)):
            with suppress(Exception):  # it is reported where it is read
                channels = max(channels, read_header(record.data).pages[0].channels)
        return channels

    def _first_of(self, block: int) -> list[Record]:
        with suppress(Exception):
            return list(self.train.read(block, 0, min(LOOKED_AT, int(self.train.counts[block]))))
        return []

    def identity(self) -> str:
        """sha256 of the sizes of the shards' parts and of how images are decoded; reads none."""
        found = hashlib.sha256(self.transform.spec.encode())
        for side in (self.train, self.heldout):
            found.update(side.counts.tobytes())
            for shard in side.shards:
                found.update(shard.units.tobytes())
        return found.hexdigest()

    def reference(self, heldout: bool, limit: int) -> ImageArray:
        """The first `limit` images of one side, in the order of the shards."""
        source = self.heldout if heldout else self.train
        pieces, left = [], limit
        for block, size in enumerate(source.counts.tolist()):
            pieces.append((block, 0, min(size, left)))
            left -= pieces[-1][2]
            if not left:
                break
        images = torch.empty((sum(p[2] for p in pieces), *self.shape), dtype=torch.uint8)
        labels, numbers = [], []
        for kept, bad in in_threads(partial(self._decoded, source), pieces, "reading"):
            self._tell(bad)
            for image, label, number in kept:
                images[len(numbers)] = image
                labels.append(label)
                numbers.append(number)
        if not numbers:
            side = "held-out" if heldout else "training"
            raise InputError(f"{self.path}: none of the first {limit} {side} images can be read")
        secret = not self.num_classes or min(labels) < 0  # as those of a test set may be
        classes = None if secret else torch.tensor(labels)
        return ImageArray(images[: len(numbers)], classes, self.class_names, numbers)

    def _decoded(
        self, source: ShardSet, piece: Piece
    ) -> tuple[list[tuple[Tensor, int | None, int]], list[str]]:
        """Images with labels and row numbers, and what cannot be read."""
        kept, bad = [], []
        try:
            for record in source.read(*piece):
                try:
                    kept.append((self.transform(record.data), record.label, record.number))
                except Exception as error:
                    if not self.skip_bad:
                        raise unreadable(record.name, error) from error
                    bad.append(record.name)
        except BadShard as error:
            if not self.skip_bad:
                raise
            bad.append(error.what)
        return kept, bad

    def _tell(self, bad: list[str]) -> None:
        for name in bad:
            self.skipped += 1
            if str(self.skipped).strip("0") == "1":  # the 1st, 10th, 100th ...
                what = "images or parts of shards that cannot be read, up to"
                rank_zero_warn(printable(f"skipped {self.skipped} {what} {name}"))

    def shuffle(self, seed: int) -> Shuffle:
        """The order, and what is held in memory for it: a function of the shards and the seed."""
        held = 2 * self.train.largest_unit  # a row group, packed and unpacked
        lanes = min(LANES, SHUFFLE_BYTES // max(1, held))
        buffer = min(SHUFFLE_BUFFER, int(SHUFFLE_BYTES / max(1, self.train.mean_bytes)))
        return Shuffle(self.train.counts, lanes, buffer, seed)

    def batches(
        self, batch_size: int, seed: int, rank: int, world_size: int, start: int, workers: int
    ) -> Iterator[Batch]:
        """Endless shuffled batches of this rank from batch `start` on.

        Global batch b is positions [b B W, (b + 1) B W) of the order, of which rank r takes every
        W-th, and worker k of K every K-th of those.
        """
        parts = Parts(self, self.shuffle(seed), batch_size, rank, world_size, start)
        if not workers:
            yield from (self._joined([part]) for part in parts)
        turns = iter(by_workers(parts, workers))  # one part from each worker in turn
        yield from map(self._joined, zip(*[turns] * workers, strict=True))

    def _joined(self, parts: Sequence[Part | str]) -> Batch:
        read: list[Part] = []
        for part in parts:
            if isinstance(part, str):
                raise InputError(part)
            self._tell(part.skipped)
            read.append(part)
        size = sum(len(part.image) for part in read)
        image = torch.empty((size, *self.shape), dtype=torch.uint8)
        label = torch.empty(len(image), dtype=torch.long)
        for part in read:
            image[part.first :: len(read)] = part.image
            label[part.first :: len(read)] = torch.tensor(part.label)
        return {"image": image, "label": label} if self.num_classes else {"image": image}


class Parts(IterableDataset):
    """A rank's batches, or a worker's part of each; an error becomes its message, and the end."""

    def __init__(
        self,
        stream: ImageStream,
        shuffle: Shuffle,
        batch_size: int,
        rank: int,
        world_size: int,
        start: int,
    ) -> None:
        self.stream, self.shuffle, self.batch_size = stream, shuffle, batch_size
        self.rank, self.world_size, self.start = rank, world_size, start

    def __iter__(self) -> Iterator[Part | str]:
        stream, worker = self.stream, get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        reader = Reader(stream.train, self.shuffle, stream.transform, stream.skip_bad)
        for begin in count(self.start * self.batch_size, self.batch_size):
            first = (number - begin) % workers
            rows = range(begin + first, begin + self.batch_size, workers)
            try:
                yield self._part(reader, first, [r * self.world_size + self.rank for r in rows])
            except ValueError as error:
                yield str(error)  # a worker's own error would be a long traceback
                return

    def _part(self, reader: Reader, first: int, positions: list[int]) -> Part:
        skipped = reader.skipped
        image = torch.empty((len(positions), *self.stream.shape), dtype=torch.uint8)
        label = [-1] * len(positions)
        for row, position in enumerate(positions):
            image[row], found = reader.read(position)
            if found is not None:
                label[row] = found
        reader.skipped = []
        return Part(first, image, label, skipped)
