"""Images before decoding: in an array, in files, or in a table of `datasets`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from novum.datamodules.decode import Encoded


class Rows(Protocol):
    """Undecoded images by row number."""

    ids: Sequence[int | str]  # how a report names each

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
    """One image column of a map-style `datasets` table, which stays on disk."""

    def __init__(self, table: Any, column: str, name: str, place: str | None = None) -> None:
        self.table, self.column, self._name = table.select_columns([column]), column, name
        self._place = place or name
        self.ids = range(len(table))

    def __len__(self) -> int:
        return len(self.table)

    def read(self, rows: list[int]) -> list[Encoded]:
        return [encoded(cell, self._place) for cell in self.table[rows][self.column]]

    def name(self, row: int) -> str:
        return f"{self._name}, row {row}"


def encoded(cell: bytes | dict | None, place: str | None = None) -> Encoded:
    """The file in a cell: plain bytes, or the `bytes` and `path` that datasets.Image stores.

    A table names no file outside of its `place`, the file or folder that it was opened from.
    """
    if isinstance(cell, dict):
        cell = cell.get("bytes") or (cell.get("path") and _fetch(cell["path"], place))
    return cell or b""  # an empty cell is no image, and decoding will say so


def _fetch(path: str, place: str | None) -> Encoded:
    if "://" not in path:
        if place is not None and not _within(Path(path), Path(place).expanduser()):
            raise ValueError(f"{place} names {path}, a file outside of its own folder")
        return Path(path)
    if not path.rpartition("::")[2].startswith("hf://"):
        raise ValueError(f"{place or 'the data'} names {path}: only files of its hub are fetched")
    import fsspec

    with fsspec.open(path, "rb") as file:  # a stream names the files it did not fetch
        return file.read()


def _within(path: Path, place: Path) -> bool:
    """Whether a file lies where its table does, or in what `datasets` unpacked or fetched."""
    import datasets

    folders = [datasets.config.HF_CACHE_HOME, datasets.config.HF_DATASETS_CACHE]
    if place.exists():
        folders.append(place if place.is_dir() else place.parent)
    return any(path.resolve().is_relative_to(Path(folder).resolve()) for folder in folders)
