"""Shards on a disk or behind a URL: parquet files and tar archives, read by row number."""

import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from novum.datamodules.decode import EXTENSIONS, Encoded
from novum.datamodules.rows import RawSet, encoded
from novum.paths import cache_folder, load_array, store

SLICE = 64  # rows of a parquet file that are turned into Python objects at once
NOMINAL_BYTES = 1 << 16  # of an image whose size is not known before it is read
VERSION = 1  # of the indices in the cache


class Cell(NamedTuple):
    """An undecoded image and its class."""

    data: Encoded
    label: int | None


class Shard(Protocol):
    """Images in a row, read from any of them on."""

    file: str
    units: NDArray  # (u, 2) int64: rows and bytes of the parts that are read in whole

    def read(self, start: int, stop: int) -> Iterator[Cell]: ...

    def name(self, row: int) -> str: ...  # for error messages


class ParquetShard:
    """Row groups, whose sizes the file's footer tells."""

    def __init__(self, file: str, image: str, label: str | None) -> None:
        self.file, self.columns = file, [image] + [label] * (label is not None)
        self.units = _cached(file, f"parquet {image}", partial(_row_groups, image=image))
        self._ends = self.units[:, 0].cumsum()

    def read(self, start: int, stop: int) -> Iterator[Cell]:
        import pyarrow.parquet as pq

        with open_file(self.file) as file, pq.ParquetFile(file) as table:
            group = int(np.searchsorted(self._ends, start, side="right"))
            while start < stop:
                before = int(self._ends[group] - self.units[group, 0])
                last = min(stop, int(self._ends[group]))
                rows = table.read_row_group(group, self.columns, use_threads=False)
                yield from self._cells(rows.slice(start - before, last - start))
                start, group = last, group + 1

    def _cells(self, rows: Any) -> Iterator[Cell]:
        image, *label = self.columns
        for part in rows.to_batches(SLICE):
            labels = part[label[0]].to_pylist() if label else [None] * len(part)
            for cell, number in zip(part[image].to_pylist(), labels, strict=True):
                yield Cell(encoded(cell, self.file), -1 if label and number is None else number)

    def name(self, row: int) -> str:
        return f"{self.file}, row {row}"


class TarShard:
    """The images among a tar's members, found by one pass over its headers; nothing is unpacked.

    Args:
        file: Path or URL.
        extension: Of the images (what follows the first dot of a name); None for any image's.
        rows: What is left of a damaged archive: where each image starts, and its bytes.
    """

    def __init__(self, file: str, extension: str | None, rows: NDArray | None = None) -> None:
        self.file = file
        if rows is None:
            rows = _cached(file, f"tar {extension}", partial(_scan, extension=extension))
        self.rows = rows
        self.units = np.stack([np.ones_like(rows[:, 1]), rows[:, 1]], axis=1)

    def read(self, start: int, stop: int) -> Iterator[Cell]:
        with open_file(self.file) as file:
            for offset, size in self.rows[start:stop].tolist():
                file.seek(offset)
                data = file.read(size)
                if len(data) < size:
                    raise EOFError(f"it ends before byte {offset + size}")
                yield Cell(data, None)

    def name(self, row: int) -> str:
        with suppress(OSError, tarfile.TarError), open_file(self.file) as file:
            file.seek(int(self.rows[row, 0]) - tarfile.BLOCKSIZE)
            header = file.read(tarfile.BLOCKSIZE)
            return f"{self.file}, member {tarfile.TarInfo.frombuf(header, 'utf-8', 'replace').name}"
        return f"{self.file}, row {row}"


class TableShard:
    """A table or folder that `datasets` opens as a whole, read where it lies."""

    def __init__(self, path: str, images: RawSet) -> None:
        self.file, self.images = path, images
        self.units = np.full((len(images.rows), 2), (1, NOMINAL_BYTES))

    def read(self, start: int, stop: int) -> Iterator[Cell]:
        labels = self.images.labels
        for first in range(start, stop, SLICE):
            rows = list(range(first, min(stop, first + SLICE)))
            for row, data in zip(rows, self.images.rows.read(rows), strict=True):
                yield Cell(data, None if labels is None else int(labels[row]))

    def name(self, row: int) -> str:
        return self.images.rows.name(row)


def open_file(file: str) -> BinaryIO:
    """A local file, or one behind a URL of any kind that fsspec knows."""
    if "://" not in file:
        return open(file, "rb")
    import fsspec

    return fsspec.open(file, "rb").open()


def file_size(file: str) -> int:
    with open_file(file) as opened:
        return opened.seek(0, 2)


def _cached(file: str, what: str, build: Any) -> NDArray:
    """What an index of the file holds, read from the cache if the file is still the same."""
    import fsspec

    system, place = fsspec.core.url_to_fs(file)
    key = f"{VERSION} {what} {file} {system.size(place)} {system.ukey(place)}"
    path = cache_folder() / "shards" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
    index = load_array(path, np.dtype(np.int64))
    if index is None:
        index = build(file)
        store(path, partial(np.save, arr=index))
    return np.array(index)  # a map would keep a file open for every shard


def _row_groups(file: str, image: str) -> NDArray:
    """Rows, and bytes of the images, of every row group."""
    import pyarrow.parquet as pq

    with open_file(file) as opened, pq.ParquetFile(opened) as table:
        if image not in table.schema_arrow.names:
            raise ValueError(f"it has no column {image!r}")
        groups = [table.metadata.row_group(i) for i in range(table.num_row_groups)]
    sizes = [
        [group.num_rows, sum(c.total_uncompressed_size for c in _columns(group, image))]
        for group in groups
    ]
    return np.array(sizes, np.int64).reshape(-1, 2)


def _columns(group: Any, image: str) -> list[Any]:
    columns = [group.column(i) for i in range(group.num_columns)]
    return [column for column in columns if column.path_in_schema.split(".")[0] == image]


def _scan(file: str, extension: str | None) -> NDArray:
    return as_rows(list(tar_images(file, extension)))


def as_rows(found: list[tuple[int, int]]) -> NDArray:
    return np.array(found, np.int64).reshape(-1, 2)


def tar_images(file: str, extension: str | None) -> Iterator[tuple[int, int]]:
    """Where each image of an archive starts, and its bytes; an error where the archive breaks."""
    for member in tar_members(file):
        found = extension_of(member.name)
        if found == extension or extension is None and found in EXTENSIONS:
            yield member.offset_data, member.size


def tar_members(file: str) -> Iterator[tarfile.TarInfo]:
    """The plain files of an archive, hidden ones (macOS's ._a.jpg) left out."""
    with open_file(file) as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
        while member := tar.next():
            tar.members = []  # which would grow with the archive
            plain = member.isreg() and not member.issparse()
            if plain and not PurePosixPath(member.name).name.startswith("."):
                yield member
        opened.seek(tar.offset)
        if opened.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes a bad header for the end
            raise tarfile.ReadError(f"no header at byte {tar.offset}")


def extension_of(name: str) -> str:
    """`seg.png` of `a/0001.seg.png`: a sample's key ends at the first dot."""
    return PurePosixPath(name).name.partition(".")[2].lower()
