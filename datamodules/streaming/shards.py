"""Shards on a disk or behind a URL: parquet files and tar archives, read by row number."""

import tarfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from novum.core.errors import InputError
from novum.datamodules.sources.decode import MOST_BYTES, Encoded, TooLarge
from novum.datamodules.sources.raw_images import RawSet, TableRows, encoded
from novum.datamodules.streaming.shard_index import (
    NO_CLASS,
    cached,
    open_file,
    row_groups,
    stamp,
    table_classes,
    tar_rows,
)

SLICE = 64  # rows that are read and turned into Python objects at once
MOST_UNPACKED = 1 << 29  # bytes of a slice of a row group, and of what it has beyond its footer's
NOMINAL_BYTES = 1 << 16  # of an image whose size is not known before it is read


class Cell(NamedTuple):
    """An undecoded image and its class."""

    data: Encoded
    label: int | None


class Shard(Protocol):
    """Images in a row, read from any of them on."""

    file: str
    stamp: str  # another one when the contents are others
    units: NDArray  # (u, 2) int64: rows and bytes of the parts that are read in whole
    classes: NDArray  # the different labels, NO_CLASS among them if a row has none

    def read(self, start: int, stop: int) -> Iterator[Cell]: ...

    def name(self, row: int) -> str: ...  # for error messages


class ParquetShard:
    """Row groups, whose sizes are in the file's footer.

    Labels that are names become numbers by `codes`; files that cells name lie in `place`.
    """

    def __init__(self, file: str, image: str, label: str | None, place: str) -> None:
        self.place = place
        self.file, self.columns = file, [image] + [label] * (label is not None)
        self.stamp = stamp(file)
        self.units = cached(self.stamp, f"parquet {image}", partial(row_groups, file, image))
        self._ends = self.units[:, 0].cumsum()
        self.classes, self.codes = np.array([NO_CLASS]), {}
        if label is not None:
            find = partial(table_classes, file, label)
            self.classes = cached(self.stamp, f"classes {label}", find, None)

    def read(self, start: int, stop: int) -> Iterator[Cell]:
        import pyarrow.parquet as pq

        with open_file(self.file) as file, pq.ParquetFile(file) as table:
            group = int(np.searchsorted(self._ends, start, side="right"))
            while start < stop:
                before = int(self._ends[group] - self.units[group, 0])
                last = min(stop, int(self._ends[group]))
                cells = self._cells(table, group)
                yield from islice(cells, start - before, last - before)
                start, group = last, group + 1

    def _cells(self, table: Any, group: int) -> Iterator[Cell]:
        """The rows of a group, a slice at a time: a few bytes can unpack to any number."""
        claimed = int(self.units[group, 1])
        rows = max(1, min(SLICE, MOST_UNPACKED // max(1, claimed)))  # each may be the largest
        unpacked = 0
        for part in table.iter_batches(rows, [group], self.columns, use_threads=False):
            unpacked += part.nbytes
            if unpacked > claimed + MOST_UNPACKED:
                raise InputError(
                    f"row group {group} unpacks to far more than the {claimed:,} bytes"
                    " that its footer says"
                )
            images, *labels = (part[column].to_pylist() for column in self.columns)
            for cell, label in zip(images, *labels or [[None] * len(images)], strict=True):
                yield Cell(encoded(cell, self.place), self.codes.get(label, label))

    def name(self, row: int) -> str:
        return f"{self.file}, row {row}"


class TarShard:
    """The images among a tar's members, found by one pass over its headers; nothing is unpacked.

    Args:
        file: Path or URL.
        extension: Of the images (what follows the first dot of a name); None for any image's.
        label: Extension of the members that hold the class of their sample's images, if any.
        rows: What is left of a damaged archive: where each image starts, its bytes, its class.
    """

    def __init__(
        self, file: str, extension: str | None, label: str | None, rows: NDArray | None = None
    ) -> None:
        self.file, self.stamp = file, stamp(file)
        if rows is None:
            scan = partial(tar_rows, file, extension, label)
            rows = cached(self.stamp, f"tar {extension} {label}", scan)
        self.rows = rows
        self.units = np.stack([np.ones_like(rows[:, 1]), rows[:, 1]], axis=1)
        self.classes = np.unique(rows[:, 2])

    def read(self, start: int, stop: int) -> Iterator[Cell]:
        return self.cells(self.rows[start:stop])

    def cells(self, rows: NDArray) -> Iterator[Cell]:
        """Images at these places of the archive."""
        with open_file(self.file) as file:
            for offset, size, label in rows.tolist():
                if size > MOST_BYTES:
                    yield Cell(TooLarge(size), label)
                    continue
                file.seek(offset)
                data = file.read(size)
                if len(data) < size:
                    raise EOFError(f"it ends before byte {offset + size}")
                yield Cell(data, label)

    def name(self, row: int) -> str:
        with suppress(OSError, tarfile.TarError), open_file(self.file) as file:
            file.seek(int(self.rows[row, 0]) - tarfile.BLOCKSIZE)
            header = file.read(tarfile.BLOCKSIZE)
            return f"{self.file}, member {tarfile.TarInfo.frombuf(header, 'utf-8', 'replace').name}"
        return f"{self.file}, row {row}"


class TableShard:
    """A table or folder that `datasets` opens as a whole, read in place."""

    def __init__(self, path: str, images: RawSet) -> None:
        self.file, self.images = path, images
        self.stamp = cast(
            TableRows, images.rows
        ).table._fingerprint  # of `datasets`, which caches by it
        self.units = np.full((len(images.rows), 2), (1, NOMINAL_BYTES))
        labels = images.labels
        self.classes = np.array([NO_CLASS]) if labels is None else np.unique(labels.numpy())

    def read(self, start: int, stop: int) -> Iterator[Cell]:
        labels = self.images.labels
        for first in range(start, stop, SLICE):
            rows = list(range(first, min(stop, first + SLICE)))
            for row, data in zip(rows, self.images.rows.read(rows), strict=True):
                yield Cell(data, None if labels is None else int(labels[row]))

    def name(self, row: int) -> str:
        return self.images.rows.name(row)
