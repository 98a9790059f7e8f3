"""The rows of many shards: which of them are trained on, and in which parts they are read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError, first_line, printable
from novum.datamodules.sources.archives import archive_features
from novum.datamodules.sources.builders import plain_features
from novum.datamodules.sources.decode import Encoded
from novum.datamodules.sources.huggingface import (
    find_image_column,
    find_label_column,
    load_tables,
    open_shards,
)
from novum.datamodules.sources.threads import in_threads
from novum.datamodules.streaming.shard_index import (
    as_rows,
    file_size,
    open_file,
    tar_images,
)
from novum.datamodules.streaming.shards import ParquetShard, Shard, TableShard, TarShard

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


class BadShard(InputError):
    """A shard, or a part of one, that cannot be read; `what` says which and why."""

    def __init__(self, place: str, error: Exception) -> None:
        self.what = f"{place} ({first_line(error)})"
        super().__init__(
            f"{place}: not a readable shard ({first_line(error)}); "
            "mend or remove it, or go on without it (on_bad_image: skip)"
        )


@contextmanager
def placed_errors(shard: Shard, start: int, stop: int) -> Iterator[None]:
    """Re-raise errors in reading rows of a shard as BadShard, which says where."""
    try:
        yield
    except MemoryError:
        raise  # no fault of the shard
    except Exception as error:  # pyarrow and files raise OSError, ValueError, ...
        raise BadShard(f"{shard.file}, rows {start} to {stop - 1}", error) from error


class ShardSet:
    """The rows of one side of a split, in blocks: runs of a shard of about BLOCK_BYTES.

    Args:
        shards: Where the rows are.
        keep: Of each shard, which rows are on this side; all if not given.
    """

    def __init__(self, shards: list[Shard], keep: list[NDArray] | None = None) -> None:
        self.shards, self.keep = shards, keep
        self.blocks = np.concatenate([blocks(i, shard) for i, shard in enumerate(shards)])
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
        return rows if self.keep is None else rows[self.keep[shard][start:stop]]

    def read(self, block: int, first: int, last: int) -> Iterator[Record]:
        """Some of those rows; BadShard where they cannot be read."""
        rows = self.rows(block)[first:last].tolist()
        if not rows:
            return
        number, start, stop = self.blocks[block].tolist()
        shard, offset, wanted = self.shards[number], int(self.offsets[number]), set(rows)
        with placed_errors(shard, start, stop):
            for row, cell in enumerate(shard.read(rows[0], rows[-1] + 1), rows[0]):
                if row in wanted:
                    yield Record(cell.data, cell.label, shard, row, offset + row)


def blocks(number: int, shard: Shard) -> NDArray:
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
    class_names: list[str] | None
    num_classes: int  # 0: there are no labels


def find_shards(
    path: str,
    image_column: str | None,
    label_column: str | None,
    split: str | None,
    skip_bad: bool,
    follow_links: bool = False,
) -> Found:
    """Opens the index of every shard; one that has none stops, or is left out."""
    kind, train, heldout, features = open_shards(path, split, follow_links)
    if kind not in ("parquet", "webdataset"):
        return _tables(path, image_column, label_column, split, follow_links)
    look = _parquet_features if kind == "parquet" else _tar_features
    features = features or _first(look, train, skip_bad)
    image = find_image_column(features, image_column, path)
    label = find_label_column(features, label_column, path)
    if kind == "parquet":
        make = partial(ParquetShard, image=image, label=label, place=path)
    else:
        make = partial(_tar, extension=image_column, label=label, skip_bad=skip_bad)
    heldout_shards = None if heldout is None else _open_all(make, heldout, skip_bad)
    shards = _open_all(make, train, skip_bad)
    return _with_classes(shards, heldout_shards, getattr(features.get(label), "names", None))


def _with_classes(
    train: list[Shard], heldout: list[Shard] | None, names: list[str] | None
) -> Found:
    """Counts the classes of all shards, and numbers those that are names.

    Where a training image has none there are no labels; a test set may keep its own secret (-1).
    """
    values = [value for shard in train + (heldout or []) for value in shard.classes.tolist()]
    if any(isinstance(value, str) for value in values):
        names = sorted(set(map(str, values)))
        for shard in train + (heldout or []):
            cast(Any, shard).codes = {name: number for number, name in enumerate(names)}
        return Found(train, heldout, names, len(names))
    if min(value for shard in train for value in shard.classes.tolist()) < 0:
        return Found(train, heldout, None, 0)
    return Found(train, heldout, names, max(len(names or []), max(values) + 1))


def _tables(path: str, *options: Any) -> Found:
    """Data on this machine that is not in shards."""
    if "://" in path or not Path(path).expanduser().exists():
        raise InputError(
            f"{path} is neither in parquet files nor in tar archives, which are what is streamed; "
            "set streaming: false"
        )
    train, heldout = load_tables(path, *options)
    shards: list[Shard] = [TableShard(path, train)]
    unseen: list[Shard] | None = None if heldout is None else [TableShard(path, heldout)]
    return Found(shards, unseen, train.class_names, train.num_classes)


def _open_all(make: Callable[[str], Shard], files: list[str], skip_bad: bool) -> list[Shard]:
    def open_one(file: str) -> Shard | None:
        try:
            return make(file)
        except Exception as error:  # pyarrow and tarfile raise OSError, ValueError, KeyError, ...
            if not skip_bad:
                raise BadShard(file, error) from error
            rank_zero_warn(printable(f"left out {file}: {first_line(error)}"))
            return None

    opened = in_threads(open_one, files, "opening shards", threads=16, unit_scale=False)
    shards = [shard for shard in opened if shard is not None and len(shard.units)]
    if not shards:
        raise InputError(f"none of {len(files)} shards holds an image that can be read: {files[0]}")
    return shards


def _first(look: Callable[[str], Any], files: list[str], skip_bad: bool) -> Any:
    """Features of the first readable shard."""
    for file in files:
        try:
            return look(file)
        except Exception as error:
            if not skip_bad:
                raise BadShard(file, error) from error
    raise InputError(f"none of {len(files)} shards can be read: {files[0]} is the first")


def _parquet_features(file: str) -> dict[str, Any]:
    import pyarrow.parquet as pq

    with open_file(file) as opened:
        return plain_features(pq.read_schema(opened))


def _tar_features(file: str) -> dict[str, Any]:
    return archive_features([file])


def _tar(file: str, extension: str | None, label: str | None, skip_bad: bool) -> TarShard:
    """An archive, or what comes before its damage."""
    try:
        return TarShard(file, extension, label)
    except Exception as error:
        if not skip_bad:
            raise
        whole, end = [], file_size(file)
        with suppress(Exception):
            for offset, size, number in tar_images(file, extension, label):
                whole += [(offset, size, number)] * (offset + size <= end)
        what = f"{file}: only the first {len(whole)} images ({first_line(error)})"
        rank_zero_warn(printable(what))
        return TarShard(file, extension, label, as_rows(whole))
