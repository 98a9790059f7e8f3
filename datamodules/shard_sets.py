"""The rows of many shards: which of them are trained on, and in which parts they are read."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from novum.datamodules.decode import EXTENSIONS, Encoded
from novum.datamodules.huggingface import (
    find_image_column,
    find_label_column,
    load_tables,
    open_shards,
)
from novum.datamodules.shards import (
    ParquetShard,
    Shard,
    TableShard,
    TarShard,
    as_rows,
    extension_of,
    file_size,
    open_file,
    tar_images,
    tar_members,
)
from novum.datamodules.threads import bar
from novum.errors import first_line

BLOCK_BYTES = 1 << 22  # of the runs that an epoch shuffles; what is read in one go


class Record(NamedTuple):
    """An undecoded image, its class and where it is from."""

    data: Encoded
    label: int | None
    shard: Shard
    row: int
    number: int  # of the row, counted through all shards

    @property
    def name(self) -> str:
        return self.shard.name(self.row)


class BadShard(ValueError):
    """A shard, or a part of one, that cannot be read; `what` says which and why."""

    def __init__(self, place: str, error: Exception) -> None:
        self.what = f"{place} ({first_line(error)})"
        super().__init__(
            f"{place}: not a readable shard ({first_line(error)}); "
            "mend or remove it (training can go on without it: on_bad_image: skip)"
        )


class ShardSet:
    """The rows of one side of a split, in blocks: runs of a shard of about BLOCK_BYTES.

    Args:
        shards: Where the rows are.
        keep: Which rows of a shard belong to this side; all if not given.
    """

    def __init__(
        self, shards: list[Shard], keep: Callable[[Shard, NDArray], NDArray] | None = None
    ) -> None:
        self.shards, self.keep = shards, keep
        self.blocks = np.concatenate([_blocks(i, shard) for i, shard in enumerate(shards)])
        self.counts = np.array([len(self.rows(b)) for b in range(len(self.blocks))], np.int64)
        units = np.concatenate([shard.units for shard in shards])
        self.largest_unit = int(units[:, 1].max(initial=0))
        self.mean_bytes = units[:, 1].sum() / max(1, units[:, 0].sum())
        sizes = [int(shard.units[:, 0].sum()) for shard in shards]
        self.offsets = np.cumsum([0, *sizes])

    def __len__(self) -> int:
        return int(self.counts.sum())

    def rows(self, block: int) -> NDArray:
        """The rows of a block's shard that are in it, and on this side."""
        shard, start, stop = self.blocks[block].tolist()
        rows = np.arange(start, stop)
        return rows if self.keep is None else rows[self.keep(self.shards[shard], rows)]

    def read(self, block: int, first: int, last: int) -> Iterator[Record]:
        """Some of those rows; BadShard where they cannot be read."""
        rows = self.rows(block)[first:last].tolist()
        if not rows:
            return
        number, start, stop = self.blocks[block].tolist()
        shard, offset, wanted = self.shards[number], int(self.offsets[number]), set(rows)
        try:
            for row, cell in enumerate(shard.read(rows[0], rows[-1] + 1), rows[0]):
                if row in wanted:
                    yield Record(*cell, shard, row, offset + row)
        except Exception as error:  # pyarrow and files raise OSError, ValueError, ...
            raise BadShard(f"{shard.file}, rows {start} to {stop - 1}", error) from error


def _blocks(number: int, shard: Shard) -> NDArray:
    """(shard, first row, last row + 1) of every block."""
    rows, size = shard.units.T
    ends = rows.cumsum()
    parts = (size.cumsum() - size) // BLOCK_BYTES
    stops = ends[np.append(parts[1:] != parts[:-1], True)] if len(ends) else ends
    starts = np.concatenate([[0], stops[:-1]]) if len(stops) else stops
    return np.stack([np.full_like(stops, number), starts, stops], axis=1)


class Found(NamedTuple):
    """The shards of a data set."""

    train: list[Shard]
    heldout: list[Shard] | None
    labelled: bool
    class_names: list[str] | None


def find_shards(
    path: str,
    image_column: str | None,
    label_column: str | None,
    split: str | None,
    skip_bad: bool,
) -> Found:
    """Opens the index of every shard; one that has none stops, or is left out."""
    kind, train, heldout, features = open_shards(path, split)
    if kind not in ("parquet", "webdataset"):
        return _tables(path, image_column, label_column, split)
    look = _parquet_features if kind == "parquet" else _tar_features
    features = features or _first(look, train, skip_bad)
    image = find_image_column(features, image_column, path)
    label, names = _named_label(features, label_column, path)
    if kind == "parquet":
        make = partial(ParquetShard, image=image, label=label)
    else:
        make = partial(_tar, extension=image_column, skip_bad=skip_bad)
    sides = [files and _open_all(make, files, skip_bad) for files in (train, heldout)]
    return Found(*sides, label is not None, names)


def _named_label(
    features: dict[str, Any], wanted: str | None, path: str
) -> tuple[str | None, list[str] | None]:
    """A stream has labels only if their names are known before it is read."""
    label = find_label_column(features, wanted, path)
    names = getattr(features.get(label), "names", None)
    if wanted and names is None:
        raise ValueError(
            f"{path}: a stream cannot tell how many classes column {wanted!r} has, "
            "which has no class names; set streaming: false"
        )
    return label if names else None, names


def _tables(path: str, *columns: str | None) -> Found:
    """What is on this machine, but not in shards."""
    if "://" in path or not Path(path).expanduser().exists():
        raise ValueError(
            f"{path} is neither in parquet files nor in tar archives, which are what is streamed; "
            "set streaming: false"
        )
    train, heldout = load_tables(path, *columns)
    shards = [raw and [TableShard(path, raw)] for raw in (train, heldout)]
    labelled = train.labels is not None and train.class_names is not None
    return Found(*shards, labelled, train.class_names if labelled else None)


def _open_all(make: Callable[[str], Shard], files: list[str], skip_bad: bool) -> list[Shard]:
    def open_one(file: str) -> Shard | None:
        try:
            return make(file)
        except Exception as error:  # pyarrow and tarfile raise OSError, ValueError, KeyError, ...
            if not skip_bad:
                raise BadShard(file, error) from error
            rank_zero_warn(f"left out {file}: {first_line(error)}")
            return None

    with ThreadPoolExecutor(16) as pool:
        opened = list(bar(pool.map(open_one, files), "opening shards", total=len(files)))
    shards = [shard for shard in opened if shard is not None and len(shard.units)]
    if not shards:
        raise ValueError(f"none of {len(files)} shards holds an image that can be read: {files[0]}")
    return shards


def _first(look: Callable[[str], Any], files: list[str], skip_bad: bool) -> Any:
    """What is seen in the first file that can be read."""
    for file in files:
        try:
            return look(file)
        except Exception as error:
            if not skip_bad:
                raise BadShard(file, error) from error
    raise ValueError(f"none of {len(files)} shards can be read: {files[0]} is the first")


def _parquet_features(file: str) -> dict[str, Any]:
    import pyarrow.parquet as pq
    from datasets import Features

    with open_file(file) as opened:
        return Features.from_arrow_schema(pq.read_schema(opened))


def _tar_features(file: str) -> dict[str, Any]:
    """The kinds of files that make the first sample."""
    from datasets import Image, Value

    members = (member.name for member in tar_members(file))
    first = next(members, "")
    key = first.removesuffix(extension_of(first))
    sample = takewhile(lambda name: name.startswith(key), chain([first], members))
    kinds = [extension_of(name) for name in sample]
    pictures = {kind for kind in kinds if kind.rpartition(".")[2] in EXTENSIONS}
    other = {kind: Value("int64" if kind == "cls" else "string") for kind in kinds}
    return other | {kind: Image() for kind in kinds if kind in pictures}


def _tar(file: str, extension: str | None, skip_bad: bool) -> TarShard:
    """An archive, or what comes before its damage."""
    try:
        return TarShard(file, extension)
    except Exception as error:
        if not skip_bad:
            raise
        whole, end = [], file_size(file)
        with suppress(Exception):
            for offset, size in tar_images(file, extension):
                whole += [(offset, size)] * (offset + size <= end)
        rank_zero_warn(f"{file}: only the first {len(whole)} images ({first_line(error)})")
        return TarShard(file, extension, as_rows(whole))


def is_heldout(shard: Shard, rows: NDArray, seed: int, fraction: float) -> NDArray:
    """A hash of the file's name and the row decides, the same in every process and order, and for
    the old rows of a set that grows."""
    name = Path(shard.file).name
    salt = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    x = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.frombuffer(salt, np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)  # splitmix64's mixing
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) < np.uint64(int(fraction * (2**64 - 1)))


def is_trained_on(shard: Shard, rows: NDArray, seed: int, fraction: float) -> NDArray:
    return ~is_heldout(shard, rows, seed, fraction)
