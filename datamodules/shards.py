"""Shards on a disk or behind a URL: parquet files and tar archives, read by row number."""

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import DTypeLike, NDArray

from novum.datamodules.decode import EXTENSIONS, MOST_BYTES, Encoded, TooLarge, as_bytes
from novum.datamodules.rows import RawSet, encoded
from novum.paths import cache_folder, load_array, store

SLICE = 64  # rows that are read and turned into Python objects at once
MOST_UNPACKED = 1 << 29  # bytes of a slice of a row group, and of what it has beyond its footer's
NOMINAL_BYTES = 1 << 16  # of an image whose size is not known before it is read
VERSION = 2  # of the indices in the cache
NO_CLASS = -1


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
    """Row groups, whose sizes the file's footer tells.

    Labels that are names become numbers by `codes`.
    """

    def __init__(self, file: str, image: str, label: str | None) -> None:
        self.file, self.columns = file, [image] + [label] * (label is not None)
        self.stamp = stamp(file)
        self.units = cached(self.stamp, f"parquet {image}", partial(_row_groups, file, image))
        self._ends = self.units[:, 0].cumsum()
        self.classes, self.codes = np.array([NO_CLASS]), {}
        if label is not None:
            find = partial(_classes, file, label)
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
                raise ValueError(
                    f"row group {group} unpacks to far more than the {claimed:,} bytes"
                    " that its footer says"
                )
            images, *labels = (part[column].to_pylist() for column in self.columns)
            for cell, label in zip(images, *labels or [[None] * len(images)], strict=True):
                yield Cell(encoded(cell, self.file), self.codes.get(label, label))

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
            scan = partial(_scan, file, extension, label)
            rows = cached(self.stamp, f"tar {extension} {label}", scan)
        self.rows = rows
        self.units = np.stack([np.ones_like(rows[:, 1]), rows[:, 1]], axis=1)
        self.classes = np.unique(rows[:, 2])

    def read(self, start: int, stop: int) -> Iterator[Cell]:
        with open_file(self.file) as file:
            for offset, size, label in self.rows[start:stop].tolist():
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
    """A table or folder that `datasets` opens as a whole, read where it lies."""

    def __init__(self, path: str, images: RawSet) -> None:
        self.file, self.images = path, images
        self.stamp = images.rows.table._fingerprint  # of `datasets`, which caches by it
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


def open_file(file: str) -> BinaryIO:
    """A local file, or one behind a URL of any kind that fsspec knows."""
    if "://" not in file:
        return open(file, "rb")
    import fsspec

    return fsspec.open(file, "rb").open()


def file_size(file: str) -> int:
    with open_file(file) as opened:
        return opened.seek(0, 2)


def stamp(file: str) -> str:
    """A file's place, size and time of change (or what its storage tells instead)."""
    import fsspec

    system, place = fsspec.core.url_to_fs(file)
    return f"{file} {system.size(place)} {system.ukey(place)}"


def cached(
    stamp: str, what: str, build: Callable[[], NDArray], dtype: DTypeLike | None = np.int64
) -> NDArray:
    """What an index holds, from the cache if it is there; of several ranks one builds it."""
    digest = hashlib.sha256(f"{VERSION} {what} {stamp}".encode()).hexdigest()
    path = cache_folder() / "shards" / f"{digest[:24]}.npy"
    with _alone(path):
        index = load_array(path, dtype)
        if index is None:
            index = build()
            store(path, partial(np.save, arr=index))
    return np.array(index)  # a map would keep a file open for every shard


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with ExitStack() as held:
        with suppress(OSError):  # on a disk that cannot be written to nothing is cached
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(path.with_suffix(".lock")))
        yield


def content_keys(shard: Shard, start: int, stop: int) -> NDArray:
    """A hash of each row's bytes as uint64; 0 where one image cannot be read."""
    keys = []
    for cell in shard.read(start, stop):
        data = b""
        with suppress(OSError, ValueError):  # decoding it will tell
            data = as_bytes(cell.data)
        keys.append(int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little"))
    return np.array(keys, np.uint64)


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


def _classes(file: str, label: str) -> NDArray:
    """The different labels of a file: whole numbers, or names."""
    import pyarrow.parquet as pq

    found: set[Any] = set()
    with open_file(file) as opened, pq.ParquetFile(opened) as table:
        for part in table.iter_batches(columns=[label], use_threads=False):
            found.update(part[label].unique().to_pylist())
    if any(isinstance(value, str) for value in found):
        return np.array(sorted(map(str, found)))
    return np.array(sorted(NO_CLASS if v is None else int(v) for v in found), np.int64)


def _scan(file: str, extension: str | None, label: str | None) -> NDArray:
    return as_rows(list(tar_images(file, extension, label)))


def as_rows(found: list[tuple[int, int, int]]) -> NDArray:
    return np.array(found, np.int64).reshape(-1, 3)


def tar_images(
    file: str, extension: str | None, label: str | None
) -> Iterator[tuple[int, int, int]]:
    """Where each image of an archive starts, its bytes and its class; an error where it breaks.

    Members of a sample follow one another, and their names are equal up to the first dot.
    """
    with open_file(file) as opened:
        for _, sample in groupby(tar_members(file), _sample_of):
            images, number = [], NO_CLASS
            for member in sample:
                found = extension_of(member.name)
                if found == label:
                    number = _class_in(opened, member)
                elif found == extension or extension is None and found in EXTENSIONS:
                    images.append((member.offset_data, member.size))
                    if label is None:
                        yield *images.pop(), NO_CLASS
            yield from ((*image, number) for image in images)


def _sample_of(member: tarfile.TarInfo) -> str:
    return member.name[: len(member.name) - len(extension_of(member.name))]


def _class_in(file: BinaryIO, member: tarfile.TarInfo) -> int:
    file.seek(member.offset_data)
    text = file.read(min(member.size, 20))
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"member {member.name} is no whole number: {text!r}") from error


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
