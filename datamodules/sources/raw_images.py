"""Images before decoding: in an array, in files, or in a table of `datasets`."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novum.core.errors import InputError
from novum.datamodules.sources.decode import MOST_BYTES, REDUCED, SECOND_VIEWS, Encoded, Frame
from novum.datamodules.sources.walk import HIDDEN_FILES, leads_out

SHOWN = 3  # names of a reason
PACKED = ("zip", "tar", "gzip", "bz2", "lzma", "xz", "zstd", "lz4")  # in a file of a hub


class Rows(Protocol):
    """Undecoded images by row number."""

    @property
    def ids(self) -> Sequence[int | str]: ...  # how a report names each

    def __len__(self) -> int: ...

    def read(self, rows: list[int]) -> list[Encoded]: ...

    def name(self, row: int) -> str: ...  # for error messages


NO_IMAGES = "no images"
IN_HELDOUT, IN_TRAINING = "in its held-out split", "in its training split"
FAILED_DOWNLOADS = "rows whose download failed"
EXPECTED = frozenset(  # reasons that cast no doubt on what is read
    {NO_IMAGES, IN_HELDOUT, IN_TRAINING, REDUCED, SECOND_VIEWS, FAILED_DOWNLOADS, HIDDEN_FILES}
)


class Omission(NamedTuple):
    """Files, frames or rows of a set that are not read, for one reason."""

    reason: str  # goes on from their number: "hidden files", ".heic cannot be decoded"
    number: int
    examples: tuple[str, ...] = ()

    @classmethod
    def of(cls, reason: str, names: Sequence[str]) -> "Omission":
        return cls(reason, len(names), tuple(names[:SHOWN]))


def say_omissions(left_out: Iterable[Omission]) -> str:
    """`60 .heic cannot be decoded, 2 hidden files`."""
    return ", ".join(f"{o.number:,} {o.reason}" for o in left_out)


class RawSet(NamedTuple):
    """Rows with their labels."""

    rows: Rows
    labels: Tensor | None = None  # (n,) int64
    class_names: list[str] | None = None
    left_out: tuple[Omission, ...] = ()

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
    """Images of equal size in one uint8 array (n, h, w), or (n, h, w, c) with 3 or 4 channels."""

    def __init__(self, array: np.ndarray, name: str) -> None:
        self.array, self._name, self.ids = array, name, range(len(array))

    def __len__(self) -> int:
        return len(self.array)

    def read(self, rows: list[int]) -> list[Encoded]:
        return [self.array[row] for row in rows]

    def name(self, row: int) -> str:
        return f"{self._name}, image {row}"


class JoinedRows:
    """Rows of several sets, one after another, by running numbers."""

    def __init__(self, parts: list[Rows]) -> None:
        self.parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])
        self.ids = range(int(self._starts[-1]))

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, rows: list[int]) -> list[Encoded]:
        return [data for part, own in self._runs(rows) for data in part.read(own)]

    def _runs(self, rows: list[int]) -> Iterator[tuple[Rows, list[int]]]:
        """Rows that follow one another in one part."""
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        for number, run in groupby(zip(parts.tolist(), rows, strict=True), lambda pair: pair[0]):
            yield self.parts[number], [row - int(self._starts[number]) for _, row in run]

    def name(self, row: int) -> str:
        ((part, (own,)),) = self._runs([row])
        return part.name(own)


def join_sets(parts: Sequence[RawSet]) -> RawSet:
    """Sets one after another, with labels if all have them."""
    if len(parts) == 1:
        return parts[0]
    known = [part.labels for part in parts if part.labels is not None]
    labels = torch.cat(known) if len(known) == len(parts) else None
    left_out = tuple(chain.from_iterable(part.left_out for part in parts))
    rows = JoinedRows([part.rows for part in parts])
    return RawSet(rows, labels, parts[0].class_names if known else None, left_out)


class FrameRows:
    """Rows of a set some of whose files hold several images, each of which becomes a row.

    Args:
        rows: The files.
        picks: (n, 2): the file of each image, and its number there, -1 if it is the only one.
    """

    def __init__(self, rows: Rows, picks: NDArray) -> None:
        self.rows, self.picks = rows, picks
        self.ids = [
            rows.ids[row] if frame < 0 else f"{rows.ids[row]}#{frame + 1}"
            for row, frame in picks.tolist()
        ]

    def __len__(self) -> int:
        return len(self.picks)

    def read(self, rows: list[int]) -> list[Encoded]:
        picks = self.picks[rows].tolist()
        files = list(dict.fromkeys(row for row, _ in picks))
        data = dict(zip(files, self.rows.read(files), strict=True))  # frames share their file
        return [data[row] if frame < 1 else _frame(data[row], frame) for row, frame in picks]

    def name(self, row: int) -> str:
        file, frame = self.picks[row].tolist()
        name = self.rows.name(file)
        return name if frame < 0 else f"{name}#{frame + 1}"


def _frame(data: Encoded, number: int) -> Encoded:
    return Frame(data, number) if isinstance(data, bytes | Path) else data


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
