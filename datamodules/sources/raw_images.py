"""Images before decoding: in an array, in files, or in a table of `datasets`."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from novum.core.errors import InputError
from novum.datamodules.sources.decode import MOST_BYTES, Encoded
from novum.datamodules.sources.walk import leads_out

PACKED = ("zip", "tar", "gzip", "bz2", "lzma", "xz", "zstd", "lz4")  # in a file of a hub


class Rows(Protocol):
    """Undecoded images by row number."""

    @property
    def ids(self) -> Sequence[int | str]: ...  # how a report names each

    def __len__(self) -> int: ...

    def read(self, rows: list[int]) -> list[Encoded]: ...

    def name(self, row: int) -> str: ...  # for error messages


class RawSet(NamedTuple):
    """Rows with their labels."""

    rows: Rows
    labels: Tensor | None = None  # (n,) int64
    class_names: list[str] | None = None

    @property
    def num_classes(self) -> int:
        if self.labels is None:
            return 0
        return len(self.class_names) if self.class_names else int(self.labels.max()) + 1

    def named(self) -> Iterator[tuple[str, Encoded]]:
        """Every image with the name that an error message gives it."""
        for row in range(len(self.rows)):
            yield self.rows.name(row), self.rows.read([row])[0]


class Splits(NamedTuple):
    train: RawSet
    heldout: RawSet | None = None  # None: no official split, so it is cut from train at random


class ArrayRows:
    """Images of equal size in one uint8 array (n, h, w) or (n, h, w, 3)."""

    def __init__(self, array: np.ndarray, name: str) -> None:
        self.array, self._name, self.ids = array, name, range(len(array))

    def __len__(self) -> int:
        return len(self.array)

    def read(self, rows: list[int]) -> list[Encoded]:
        return [self.array[row] for row in rows]

    def name(self, row: int) -> str:
        return f"{self._name}, image {row}"


class FileRows:
    """Image files, named by their path relative to `root`."""

    def __init__(self, root: Path, ids: list[str]) -> None:
        self.root, self.ids = root, ids

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, rows: list[int]) -> list[Encoded]:
        return [self.root / self.ids[row] for row in rows]

    def name(self, row: int) -> str:
        return str(self.root / self.ids[row])


class TableRows:
    """One image column of a map-style `datasets` table, which stays on disk.

    Args:
        table: The table.
        column: The one of images.
        name: How error messages call the table.
        place: Where the table is from: files that its cells name are there.
        follow_links: Follow links that lead out of there.
    """

    def __init__(
        self, table: Any, column: str, name: str, place: str, follow_links: bool = False
    ) -> None:
        self.table, self.column, self._name = table.select_columns([column]), column, name
        self._place, self._follow_links = place, follow_links
        self.ids = range(len(table))

    def __len__(self) -> int:
        return len(self.table)

    def read(self, rows: list[int]) -> list[Encoded]:
        cells = self.table[rows][self.column]
        return [encoded(cell, self._place, self._follow_links) for cell in cells]

    def name(self, row: int) -> str:
        return f"{self._name}, row {row}"


def encoded(cell: bytes | dict | None, place: str, follow_links: bool = False) -> Encoded:
    """The file in a cell: plain bytes, or the `bytes` and `path` that datasets.Image stores.

    A table names no file outside of its `place`, the file or folder that it was opened from.
    """
    found: Encoded | None = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(cell, dict) and not found and cell.get("path"):
        found = _fetch(cell["path"], place, follow_links)
    return found or b""  # an empty cell is not an image, and decoding will say so


def _fetch(path: str, place: str, follow_links: bool) -> Encoded:
    is_local = "://" not in place and Path(place).expanduser().exists()
    if "://" not in path:
        root = Path(place).expanduser()
        folder = root.parent if root.is_file() else root
        file = folder / path if is_local else Path(path)
        if not (_is_below(file, folder, follow_links) or _is_cached(file, folder, is_local)):
            raise InputError(f"{place} names {path}, a file outside of its own folder")
        return file
    if is_local or not _is_of_hub(path):
        raise InputError(f"{place} names {path}: only files of its hub are fetched")
    import fsspec

    opened: Any = fsspec.open(path, "rb")
    with opened as file:  # a stream names the files it did not fetch
        return file.read(MOST_BYTES + 1)


def _is_below(file: Path, folder: Path, follow_links: bool) -> bool:
    if follow_links:
        return Path(os.path.abspath(file)).is_relative_to(os.path.abspath(folder))
    return folder.exists() and not leads_out(file, folder)


def _is_cached(file: Path, folder: Path, is_local: bool) -> bool:
    """Return True if `datasets` fetched or unpacked a file, for a table that it fetched too."""
    from datasets import config

    for cache in map(Path, (config.HF_CACHE_HOME, config.HF_DATASETS_CACHE)):
        if not leads_out(file, cache) and not (is_local and leads_out(folder, cache)):
            return True
    return False


def _is_of_hub(path: str) -> bool:
    """`hf://...`, or `zip://...::hf://...`."""
    *inner, last = path.split("::")
    return last.startswith("hf://") and all(hop.split("://")[0] in PACKED for hop in inner)
