"""Image streams of `datasets`, for data larger than the disk: no row numbers, no random access."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from typing import Any, NamedTuple

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from novum.datamodules.batches import Batch
from novum.datamodules.decode import Encoded, ImageTransform, as_bytes, first_channels, unreadable
from novum.datamodules.huggingface import (
    find_image_column,
    find_label_column,
    open_splits,
    undecoded,
)
from novum.datamodules.rows import encoded
from novum.datamodules.sources import ImageArray
from novum.datamodules.threads import bar

SHUFFLE_BUFFER = 10_000  # undecoded images held per process: 0.1 to 1 GB


class Record(NamedTuple):
    """One undecoded image of a stream."""

    number: int
    data: Encoded
    label: int | None


class ImageStream:
    """Training and held-out images of a stream; without a test split, a hash of each file decides.

    The hash makes the choice the same in every process, shard and order, and copies of one file
    never end on both sides.
    """

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
    ) -> None:
        self.path, self.fraction, self.split_seed = path, heldout_fraction, split_seed
        self.skip_bad, self.skipped = skip_bad, 0
        train, heldout = open_splits(path, split, streaming=True)
        self.image = find_image_column(train.features, image_column, path)
        self.label, self.class_names = self._find_label(train.features, label_column)
        columns = [self.image] + [self.label] * (self.label is not None)
        self.train = undecoded(train, self.image).select_columns(columns)
        self.heldout = heldout and undecoded(heldout, self.image).select_columns(columns)
        named = ((self.name(record), record.data) for record in self.records(self.train))
        self.transform = ImageTransform(image_size, channels or first_channels(named, skip_bad))

    def _find_label(
        self, features: dict[str, Any], wanted: str | None
    ) -> tuple[str | None, list[str] | None]:
        """A stream has labels only if their names are known before it is read."""
        label = find_label_column(features, wanted, self.path)
        names = getattr(features.get(label), "names", None)
        if wanted and names is None:
            raise ValueError(
                f"{self.path}: a stream cannot tell how many classes column {wanted!r} has, "
                "which has no class names; set streaming: false"
            )
        return (label, names) if names else (None, None)

    def name(self, record: Record) -> str:
        return f"{self.path}, stream row {record.number}"

    def records(self, stream: Iterable[dict[str, Any]]) -> Iterator[Record]:
        for number, row in enumerate(stream):
            yield Record(number, encoded(row[self.image]), row.get(self.label))

    def training(self, stream: Any) -> Iterator[Record]:
        records = self.records(stream)
        return records if self.heldout else (r for r in records if not self.is_heldout(r))

    def is_heldout(self, record: Record) -> bool:
        salt = self.split_seed.to_bytes(8, "little", signed=True)
        digest = hashlib.blake2b(as_bytes(record.data), digest_size=8, salt=salt).digest()
        return int.from_bytes(digest, "little") < self.fraction * 2**64

    def reference(self, heldout: bool, limit: int) -> ImageArray:
        """The first `limit` images of one side, in the order of the stream."""
        if heldout and self.heldout:
            records = self.records(self.heldout)
        elif heldout:
            records = filter(self.is_heldout, self.records(self.train))
        else:
            records = self.training(self.train)
        read = [(r, self.decode(r)) for r in bar(islice(records, limit), "reading")]
        kept = [(record, image) for record, image in read if image is not None]
        if not kept:
            side = "held-out" if heldout else "training"
            raise ValueError(f"{self.path} streams no {side} image; change heldout_fraction")
        labels = None if self.label is None else torch.tensor([record.label for record, _ in kept])
        images = torch.stack([image for _, image in kept])
        return ImageArray(images, labels, self.class_names, [record.number for record, _ in kept])

    def decode(self, record: Record) -> Tensor | None:
        """The image; None for one that cannot be read, if those are skipped."""
        try:
            return self.transform(record.data)
        except Exception as error:
            if not self.skip_bad:
                raise unreadable(self.name(record), error) from error
            self.skipped += 1
            if str(self.skipped).strip("0") == "1":  # the 1st, 10th, 100th ...
                what = f"images that cannot be read, up to {self.name(record)}"
                rank_zero_warn(f"skipped {self.skipped} {what}")
            return None

    def batches(
        self, batch_size: int, seed: int, rank: int, world_size: int, start: int, threads: int
    ) -> Iterator[Batch]:
        """Endless shuffled batches of this rank; the first `start` are read but not decoded."""
        records = self.endless(seed, rank, world_size)
        for _ in bar(range(start * batch_size), "passing over"):
            next(records)
        ahead = deque()
        with ThreadPoolExecutor(max(1, threads)) as pool:
            while True:
                chunk = list(islice(records, batch_size))
                ahead.append((chunk, pool.map(self.decode, chunk)))
                if len(ahead) > 2:  # two batches are being decoded while one is used
                    yield self.batch(*ahead.popleft())

    def endless(self, seed: int, rank: int, world_size: int) -> Iterator[Record]:
        """The stream again and again, each time in another order."""
        from datasets.distributed import split_dataset_by_node

        shuffled = self.train.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
        stream = split_dataset_by_node(shuffled, rank, world_size)
        for epoch in count():
            stream.set_epoch(epoch)
            record = None
            for record in self.training(stream):
                yield record
            if record is None:
                raise ValueError(f"{self.path} streams no training image to process {rank}")

    def batch(self, chunk: list[Record], images: Iterable[Tensor | None]) -> Batch:
        """Full size whatever was skipped: good images stand in for bad ones, a second time."""
        good = [pair for pair in zip(chunk, images, strict=True) if pair[1] is not None]
        if not good:
            raise ValueError(f"{self.path}: none of {len(chunk)} images in a row can be read")
        good = [good[i % len(good)] for i in range(len(chunk))]
        batch = {"image": torch.stack([image for _, image in good])}
        if self.label is not None:
            batch["label"] = torch.tensor([record.label for record, _ in good])
        return batch
