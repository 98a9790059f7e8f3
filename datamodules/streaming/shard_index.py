"""Index of a shard, built once and cached."""

import hashlib
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np
from filelock import FileLock
from numpy.typing import DTypeLike, NDArray

from novum.core.cache import cache_folder, load_array, store
from novum.core.errors import InputError
from novum.core.files import open_regular
from novum.datamodules.sources.suffixes import IMAGES

VERSION = 3  # of the indices in the cache
NO_CLASS = -1


class NotANumber(InputError):
    """A member of an archive that should hold a class, as a whole number, and does not."""


def open_file(file: str) -> BinaryIO:
    """A local file, or one behind a URL of any kind that fsspec knows."""
    if "://" not in file:
        return open_regular(file)
    import fsspec

    opened: Any = fsspec.open(file, "rb")
    return opened.open()


def file_size(file: str) -> int:
    with open_file(file) as opened:
        return opened.seek(0, 2)


def stamp(file: str) -> str:
    """A file's place, size and time of change (or what its storage reports instead)."""
    import fsspec

    system, place = fsspec.core.url_to_fs(file)
    return f"{file} {system.size(place)} {system.ukey(place)}"


def cached(
    stamp: str, what: str, build: Callable[[], NDArray], dtype: DTypeLike | None = np.int64
) -> NDArray:
    """Contents of an index, from the cache if possible; of several ranks one builds it."""
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


def row_groups(file: str, image: str) -> NDArray:
    """Rows, and bytes of the images, of every row group."""
    import pyarrow.parquet as pq

    with open_file(file) as opened, pq.ParquetFile(opened) as table:
        if image not in table.schema_arrow.names:
            raise InputError(f"it has no column {image!r}")
        groups = [table.metadata.row_group(i) for i in range(table.num_row_groups)]
    sizes = [
        [group.num_rows, sum(c.total_uncompressed_size for c in _columns(group, image))]
        for group in groups
    ]
    return np.array(sizes, np.int64).reshape(-1, 2)


def _columns(group: Any, image: str) -> list[Any]:
    columns = [group.column(i) for i in range(group.num_columns)]
    return [column for column in columns if column.path_in_schema.split(".")[0] == image]


def table_classes(file: str, label: str) -> NDArray:
    """The different labels of a file: whole numbers, or names."""
    import pyarrow.parquet as pq

    found: set[Any] = set()
    with open_file(file) as opened, pq.ParquetFile(opened) as table:
        for part in table.iter_batches(columns=[label], use_threads=False):
            found.update(part[label].unique().to_pylist())
    if any(isinstance(value, str) for value in found):
        return np.array(sorted(map(str, found)))
    return np.array(sorted(NO_CLASS if v is None else int(v) for v in found), np.int64)


def tar_rows(file: str, extension: str | None, label: str | None) -> NDArray:
    return as_rows(list(tar_images(file, extension, label)))


def as_rows(found: list[tuple[int, int, int]]) -> NDArray:
    return np.array(found, np.int64).reshape(-1, 3)


def tar_images(
    file: str, extension: str | None, label: str | None
) -> Iterator[tuple[int, int, int]]:
    """Start, bytes and class of each image of an archive; an error where it breaks.

    Members of a sample follow one another, and their names are equal up to the first dot.
    """
    with open_file(file) as opened:
        for _, sample in groupby(tar_members(file), _sample_of):
            images, number = [], NO_CLASS
            for member in sample:
                found = extension_of(member.name)
                if found == label:
                    number = _class_in(opened, member)
                elif found == extension or extension is None and is_picture(found):
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
        raise NotANumber(f"member {member.name} is not a whole number: {text!r}") from error


def tar_members(file: str) -> Iterator[tarfile.TarInfo]:
    """The plain files of an archive, hidden ones (macOS's ._a.jpg) left out."""
    with open_file(file) as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
        while member := tar.next():
            cast(Any, tar).members = []  # which would grow with the archive
            plain = member.isreg() and not member.issparse()
            if plain and not PurePosixPath(member.name).name.startswith("."):
                yield member
        opened.seek(tar.offset)
        if opened.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes a bad header for the end
            raise tarfile.ReadError(f"no header at byte {tar.offset}")


def tar_samples(file: str) -> NDArray:
    """Kinds of members that samples of an archive have, and how many: `60 cls jpg`.

    Kinds are in the order of the members; of a damaged archive what is before the damage counts.
    """
    found: Counter[str] = Counter()
    with suppress(OSError, EOFError, ValueError, tarfile.TarError):  # reading images will tell
        for _, sample in groupby(tar_members(file), _sample_of):
            found[" ".join(extension_of(member.name).replace(" ", "_") for member in sample)] += 1
    return np.array([f"{count} {kinds}" for kinds, count in found.items()] or [""])


def is_picture(kind: str) -> bool:
    """Return True for `png`, and for `seg.png` of a sample that holds several images."""
    return kind.rpartition(".")[2] in IMAGES


def extension_of(name: str) -> str:
    """`seg.png` of `a/0001.seg.png`: a sample's key ends at the first dot."""
    return PurePosixPath(name).name.partition(".")[2].lower()
