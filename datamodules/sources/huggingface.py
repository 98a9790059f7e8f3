"""Image sets that Hugging Face `datasets` can open: on the hub, or parquet, arrow, tar, folders."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError, NotFoundError, first_line, printable
from novum.datamodules.sources.archives import archive_features, load_archives
from novum.datamodules.sources.builders import builder_of, feature_kind, holds_images
from novum.datamodules.sources.local_tables import (
    BUILDERS,
    Listing,
    list_files,
    saved_tables,
)
from novum.datamodules.sources.raw_images import (
    FAILED_DOWNLOADS,
    FrameRows,
    Omission,
    RawSet,
    Splits,
    TableRows,
    join_sets,
)
from novum.datamodules.streaming.shard_index import NotANumber

STATUSES = {"success", "failed_to_download", "failed_to_resize"}  # that img2dataset writes
HELDOUT_NAMES = ("test", "validation", "valid", "val")


def load_tables(
    path: str,
    image_column: str | None,
    label_column: str | None,
    split: str | None,
    follow_links: bool = False,
    whole: bool = False,
) -> Splits:
    """Map-style tables; the test split (or else the validation split) is held out.

    Args:
        path: A hub name, a URL, or a local file or folder; local archives are read in place.
        image_column: The column of images; None finds it.
        label_column: The column of labels; None finds it.
        split: The split to train on.
        follow_links: Follow links that lead out of a folder.
        whole: Take all splits for one set, or `split` alone if it is given.
    """
    columns = image_column, label_column
    listing = _listing(path, follow_links)
    if listing and listing.kind == "webdataset" and label_column in (None, "cls"):
        source = _Archives(path, listing.files, *columns)
    else:
        source = _Tables(path, _open(path, False, follow_links, True), *columns, follow_links)
    left_out = listing.left_out if listing else ()
    if whole:
        parts = source.read([split] if split else source.names)
        return Splits(_add_omissions(join_sets(parts), left_out))
    train, heldout = _choose(path, source.names, split)
    taken = (re.split(r"[\[+]", train)[0], heldout)
    if others := [name for name in source.names if name not in taken]:
        left_out = (*left_out, Omission.of("other splits", others))
    parts = source.read([train, heldout] if heldout else [train])
    return Splits(*(_add_omissions(part, left_out) for part in parts))


def _listing(path: str, follow_links: bool) -> Listing | None:
    """Files of a local place that `datasets` did not save itself."""
    _check_place(path)
    if is_saved(path):
        return None
    with _one_line(path):
        return _local(path, follow_links, images=True)


def _add_omissions(raw: RawSet, left_out: tuple[Omission, ...]) -> RawSet:
    return raw._replace(left_out=raw.left_out + left_out)


class _Archives:
    """Splits of tar archives on this machine."""

    def __init__(
        self, path: str, files: dict[str, list[str]], image: str | None, label: str | None
    ) -> None:
        self.path, self.files, self.names = path, files, list(files)
        self.image, self.label = image, label

    def read(self, splits: list[str]) -> list[RawSet]:
        for split in splits:
            if split not in self.files:
                raise InputError(
                    f"{self.path} has no split {split!r}: there are {', '.join(self.names)}"
                )
        with _one_line(self.path):
            files = [file for split in splits for file in self.files[split]]
            features = archive_features(files)
        find_image_column(features, self.image, self.path)
        label = find_label_column(features, self.label, self.path)
        with _one_line(self.path):
            try:
                return self._load(splits, "cls" if label == "cls" else None)
            except NotANumber as error:
                if self.label:
                    raise
                rank_zero_warn(printable(f"{self.path}: read without labels: {error}"))
                return self._load(splits, None)

    def _load(self, splits: list[str], label: str | None) -> list[RawSet]:
        return [load_archives(self.files[split], self.image, label) for split in splits]


class _Tables:
    """Splits of tables that `datasets` opens."""

    def __init__(
        self,
        path: str,
        tables: dict[str, Any],
        image: str | None,
        label: str | None,
        follow_links: bool,
    ) -> None:
        self.path, self.tables, self.names = path, tables, list(tables)
        self.image, self.label, self.follow_links = image, label, follow_links

    def read(self, splits: list[str]) -> list[RawSet]:
        tables = [_table(self.path, self.tables, s, False, self.follow_links) for s in splits]
        image = find_image_column(tables[0].features, self.image, self.path)
        label = find_label_column(tables[0].features, self.label, self.path)
        labels, classes = _labels(tables, label)
        sets = []
        for split, table, own in zip(splits, tables, labels, strict=True):
            name = self.path if split == splits[0] else f"{self.path} ({split})"
            rows = TableRows(undecoded(table, image), image, name, self.path, self.follow_links)
            sets.append(_less_failed(RawSet(rows, own, classes), table))
        return sets


def _less_failed(raw: RawSet, table: Any) -> RawSet:
    """Without the rows that img2dataset could not download, whose cells are empty."""
    if "status" not in table.features or feature_kind(table.features["status"]) != "string":
        return raw
    status = _column(table, "status").astype(str)
    good = np.flatnonzero(status == "success")
    if not set(status) <= STATUSES or len(good) in (0, len(status)):
        return raw
    rows = FrameRows(raw.rows, np.stack([good, np.full_like(good, -1)], axis=1))
    labels = None if raw.labels is None else raw.labels[torch.from_numpy(good)]
    left_out = Omission(FAILED_DOWNLOADS, len(status) - len(good))
    return RawSet(rows, labels, raw.class_names, (*raw.left_out, left_out))


def open_splits(
    path: str, split: str | None, streaming: bool, follow_links: bool = False
) -> tuple[Any, Any | None]:
    """The table or stream to train on, and the held-out one if there is an official one."""
    tables = _open(path, streaming, follow_links)
    train, heldout = _choose(path, list(tables), split)
    return _table(path, tables, train, streaming, follow_links), heldout and tables[heldout]


def open_shards(
    path: str, split: str | None, follow_links: bool = False
) -> tuple[str, list[str], list[str] | None, Any]:
    """The format, the files to train on, those of an official held-out split, and the features as
    far as `datasets` knows them without opening a file."""
    _check_place(path)
    if is_saved(path):
        return "saved", [], None, None
    with _one_line(path):
        if local := _local(path, follow_links, images=True):
            kind, files, _ = local
            features = None
        else:
            builder = _remote_builder(path)
            files = {str(name): list(found) for name, found in builder.config.data_files.items()}
            kind = builder.info.builder_name or type(builder).__name__
            features = builder.info.features
    train, heldout = _choose(path, list(files), split)
    if train not in files:
        raise InputError(f"{path} has no split {train!r}: there are {', '.join(files)}")
    return kind, files[train], files[heldout] if heldout else None, features


def choose_split(path: str, names: list[str], split: str | None) -> str:
    """Name of the split to train on: the one that is asked for, train, or the only one."""
    train = split or ("train" if "train" in names else None)
    if train is None and len(names) > 1:
        raise InputError(
            f"{path} has no split 'train': choose split from {', '.join(names)}"
            " (evaluate.py: --split)"
        )
    return train or names[0]


def _choose(path: str, names: list[str], split: str | None) -> tuple[str, str | None]:
    """The names of the split to train on and of the held-out one."""
    train = choose_split(path, names, split)
    heldout = next((name for name in HELDOUT_NAMES if name in names), None)
    if heldout and re.match(rf"{heldout}\b", train):
        heldout = None
    return train, heldout


def _check_place(path: str) -> None:
    if "://" in path:
        return
    place = Path(path).expanduser()
    if not place.exists() and (place.suffix in BUILDERS or path[0] in "/~." or path.count("/") > 1):
        raise NotFoundError(f"no file or folder {path}: give path a hub name or an existing one")
    if place.is_file() and place.suffix not in BUILDERS:
        raise InputError(f"{path} is none of {', '.join(BUILDERS)}, nor a folder")


def is_saved(path: str | Path) -> bool:
    """Return True of a folder that Dataset.save_to_disk wrote."""
    place = Path(path).expanduser()
    return any((place / name).is_file() for name in ("dataset_dict.json", "state.json"))


def saved_files(path: str | Path, follow_links: bool) -> dict[str, list[str]]:
    """Arrow files of each split that Dataset.save_to_disk wrote."""
    with _one_line(str(path)):
        tables = saved_tables(Path(path).expanduser(), follow_links)
        return {name: [f["filename"] for f in x.cache_files] for name, x in tables.items()}


def _open(path: str, streaming: bool, follow_links: bool, images: bool = False) -> dict[str, Any]:
    """All splits by name."""
    import datasets

    _check_place(path)
    with _one_line(path):
        if not is_saved(path):
            tables = _load(path, streaming, follow_links, images=images)
            return {"train": tables} if isinstance(tables, datasets.Dataset) else dict(tables)
        tables = saved_tables(Path(path).expanduser(), follow_links)
    if streaming:
        return {name: table.to_iterable_dataset() for name, table in tables.items()}
    return tables


def _load(
    path: str,
    streaming: bool,
    follow_links: bool,
    split: str | None = None,
    images: bool = False,
) -> Any:
    from datasets import load_dataset

    local = _local(path, follow_links, images)
    if not local:
        return load_dataset(**_remote_arguments(path), streaming=streaming, split=split)
    builder = builder_of(local.kind, local.files)
    if streaming:
        return builder.as_streaming_dataset(split)
    builder.download_and_prepare()
    return builder.as_dataset(split)


def _local(path: str, follow_links: bool, images: bool = False) -> Listing | None:
    """The files of a local place; None for a hub name or a URL, which the user has chosen."""
    place = Path(path).expanduser()
    if "://" in path or not place.exists():
        return None
    return list_files(place, follow_links, images)


def local_stamps(path: str, follow_links: bool) -> list[tuple[str, int, int]] | None:
    """Path, size and time of change of a local place's files; None for a hub name or a URL."""
    _check_place(path)
    with _one_line(path):
        if is_saved(path):
            tables = saved_tables(Path(path).expanduser(), follow_links).values()
            files = [file["filename"] for table in tables for file in table.cache_files]
        elif local := _local(path, follow_links):
            files = list(chain.from_iterable(local.files.values()))
        else:
            return None
        return [(f, (s := os.stat(f)).st_size, s.st_mtime_ns) for f in files]


def _remote_builder(path: str) -> Any:
    from datasets import load_dataset_builder

    return load_dataset_builder(**_remote_arguments(path))


def _remote_arguments(path: str) -> dict[str, Any]:
    """Arguments for `datasets`: the files of a URL, or a hub name."""
    if "://" in path:
        suffix = Path(path).suffix
        if suffix not in BUILDERS:
            raise InputError(f"its name ends in none of {', '.join(BUILDERS)}")
        return {"path": BUILDERS[suffix], "data_files": {"train": path}}
    name, _, config = path.partition(":")
    return {"path": name, "name": config or None}


def _table(
    path: str, tables: dict[str, Any], split: str, streaming: bool, follow_links: bool
) -> Any:
    """A split by its name, or a part of one (`train[:10%]`)."""
    if split in tables:
        return tables[split]
    if re.split(r"[\[+]", split)[0] in tables and not streaming and not is_saved(path):
        with _one_line(path):
            return _load(path, streaming, follow_links, split, images=True)
    raise InputError(f"{path} has no split {split!r}: there are {', '.join(tables)}")


@contextmanager
def _one_line(path: str) -> Iterator[None]:
    """Errors of `datasets`, which run over many lines, as one that names the data set."""
    loggers = [logging.getLogger(x) for x in ("datasets", "huggingface_hub")]  # say it once more
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    except Exception as error:
        raise InputError(
            f"huggingface cannot open {path!r} ({first_line(error)}); give path a hub name, "
            "or a local parquet, arrow or tar file, or a folder of them or of images"
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def find_image_column(features: dict[str, Any], wanted: str | None, path: str) -> str:
    there = [name for name, feature in features.items() if holds_images(feature)]
    if wanted:
        if wanted not in features:
            raise InputError(f"no column {wanted!r} in {path}: there are {', '.join(features)}")
        there = [wanted] if wanted in there else []
    if not features:
        raise InputError(f"{path}: nothing in it can be read; is it cut off, or of another kind?")
    if not there:
        what = f"column {wanted!r}" if wanted else "no column"
        raise InputError(
            f"{path}: {what} holds {'no ' if wanted else ''}images; columns are "
            + ", ".join(f"{name} ({feature_kind(feature)})" for name, feature in features.items())
        )
    if len(there) > 1 and "image" not in there:
        raise InputError(
            f"{path} has several image columns: choose image_column from {', '.join(there)}"
            " (evaluate.py: --image-column)"
        )
    return "image" if "image" in there else there[0]


def find_label_column(features: dict[str, Any], wanted: str | None, path: str) -> str | None:
    if wanted and wanted not in features:
        raise InputError(f"no column {wanted!r} in {path}: there are {', '.join(features)}")
    if wanted and not _holds_labels(features[wanted]):
        raise InputError(
            f"{path}: column {wanted!r} holds {feature_kind(features[wanted])}: labels are"
            " whole numbers, names or ClassLabel; choose another label_column"
        )
    classes = [name for name, feature in features.items() if feature_kind(feature) == "ClassLabel"]
    usual = [name for name in ("label", "labels", "cls") if _holds_labels(features.get(name))]
    return wanted or next(iter(usual or classes), None)


def _holds_labels(feature: Any) -> bool:
    return feature_kind(feature).startswith(
        ("ClassLabel", "int", "uint", "bool", "string", "large_string")
    )


def undecoded(table: Any, image: str) -> Any:
    """The same table giving the bytes of its images, which are decoded by us, once."""
    from datasets import Image

    if isinstance(table.features[image], Image):
        return table.cast_column(image, Image(decode=False))
    return table


def _labels(tables: list[Any], column: str | None) -> tuple[list[Tensor | None], list[str] | None]:
    """The labels of each table, and the names of the classes, if they have names."""
    if column is None:
        return [None] * len(tables), None
    names = getattr(tables[0].features[column], "names", None)
    values = [_column(table, column) for table in tables]
    if "string" in feature_kind(tables[0].features[column]):
        names = sorted({str(name) for value in values for name in value})
        code = {name: i for i, name in enumerate(names)}
        values = [np.array([code[str(name)] for name in value]) for value in values]
    # A test set whose labels are kept secret has -1 everywhere.
    return [None if v.min() < 0 else torch.from_numpy(v.astype(np.int64)) for v in values], names


def _column(table: Any, column: str) -> np.ndarray:
    return np.asarray(table.select_columns([column]).with_format("numpy")[:][column])
