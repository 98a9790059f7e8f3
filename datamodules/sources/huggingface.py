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

from novum.core.errors import InputError, NotFoundError, first_line
from novum.datamodules.sources.builders import builder_of
from novum.datamodules.sources.local_tables import (
    BUILDERS,
    Listing,
    list_files,
    saved_tables,
)
from novum.datamodules.sources.raw_images import RawSet, Splits, TableRows

HELDOUT_NAMES = ("test", "validation", "valid", "val")


def load_tables(
    path: str,
    image_column: str | None,
    label_column: str | None,
    split: str | None,
    follow_links: bool = False,
) -> Splits:
    """Map-style tables; the test split (or else the validation split) is held out."""
    train, heldout = open_splits(path, split, streaming=False, follow_links=follow_links)
    image = find_image_column(train.features, image_column, path)
    label = find_label_column(train.features, label_column, path)
    labels, names = _labels([train] if heldout is None else [train, heldout], label)
    rows = TableRows(undecoded(train, image), image, path, path, follow_links)
    train = RawSet(rows, labels[0], names)
    if heldout is None:
        return Splits(train)
    name = f"{path} (held out)"
    rows = TableRows(undecoded(heldout, image), image, name, path, follow_links)
    return Splits(train, RawSet(rows, labels[1], names))


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
    if _is_saved(path):
        return "saved", [], None, None
    with _one_line(path):
        if local := _local(path, follow_links):
            kind, files = local
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


def _choose(path: str, names: list[str], split: str | None) -> tuple[str, str | None]:
    """The names of the split to train on and of the held-out one."""
    train = split or ("train" if "train" in names else None)
    if train is None and len(names) > 1:
        raise InputError(f"{path} has no split 'train': choose split from {', '.join(names)}")
    train = train or names[0]
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


def _is_saved(path: str) -> bool:
    place = Path(path).expanduser()
    return any((place / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _open(path: str, streaming: bool, follow_links: bool) -> dict[str, Any]:
    """All splits by name."""
    import datasets

    _check_place(path)
    with _one_line(path):
        if not _is_saved(path):
            tables = _load(path, streaming, follow_links)
            return {"train": tables} if isinstance(tables, datasets.Dataset) else dict(tables)
        tables = saved_tables(Path(path).expanduser(), follow_links)
    if streaming:
        return {name: table.to_iterable_dataset() for name, table in tables.items()}
    return tables


def _load(path: str, streaming: bool, follow_links: bool, split: str | None = None) -> Any:
    from datasets import load_dataset

    local = _local(path, follow_links)
    if not local:
        return load_dataset(**_remote_arguments(path), streaming=streaming, split=split)
    builder = builder_of(*local)
    if streaming:
        return builder.as_streaming_dataset(split)
    builder.download_and_prepare()
    return builder.as_dataset(split)


def _local(path: str, follow_links: bool) -> Listing | None:
    """The files of a local place; None for a hub name or a URL, which the user has chosen."""
    place = Path(path).expanduser()
    if "://" in path or not place.exists():
        return None
    return list_files(place, follow_links)


def local_stamps(path: str, follow_links: bool) -> list[tuple[str, int, int]] | None:
    """Path, size and time of change of a local place's files; None for a hub name or a URL."""
    _check_place(path)
    with _one_line(path):
        if _is_saved(path):
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
    if re.split(r"[\[+]", split)[0] in tables and not streaming and not _is_saved(path):
        with _one_line(path):
            return _load(path, streaming, follow_links, split)
    raise InputError(f"{path} has no split {split!r}: there are {', '.join(tables)}")


@contextmanager
def _one_line(path: str) -> Iterator[None]:
    """Errors of `datasets`, which run over many lines, as one that names the data set."""
    logger = logging.getLogger("datasets")  # logs each error a second time
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL)
        yield
    except Exception as error:
        raise InputError(
            f"huggingface cannot open {path!r} ({first_line(error)}); give path a hub name, "
            "or a local parquet, arrow or tar file, or a folder of them or of images"
        ) from error
    finally:
        logger.setLevel(level)


def find_image_column(features: dict[str, Any], wanted: str | None, path: str) -> str:
    there = [name for name, feature in features.items() if _holds_images(feature)]
    if wanted:
        if wanted not in features:
            raise InputError(f"no column {wanted!r} in {path}: there are {', '.join(features)}")
        there = [wanted] if wanted in there else []
    if not there:
        what = f"column {wanted!r}" if wanted else "no column"
        raise InputError(
            f"{path}: {what} holds {'no ' if wanted else ''}images; columns are "
            + ", ".join(f"{name} ({_kind(feature)})" for name, feature in features.items())
        )
    if len(there) > 1 and "image" not in there:
        raise InputError(f"{path} has several image columns: choose image_column from {there}")
    return "image" if "image" in there else there[0]


def _holds_images(feature: Any) -> bool:
    """datasets.Image, or what it is stored as: bytes, or a struct of bytes and path."""
    plain = feature.get("bytes") if isinstance(feature, dict) else feature
    return _kind(feature) == "Image" or getattr(plain, "dtype", "") in ("binary", "large_binary")


def _kind(feature: Any) -> str:
    kind = type(feature).__name__
    return feature.dtype if kind == "Value" else kind


def find_label_column(features: dict[str, Any], wanted: str | None, path: str) -> str | None:
    if wanted and wanted not in features:
        raise InputError(f"no column {wanted!r} in {path}: there are {', '.join(features)}")
    if wanted and not _holds_labels(features[wanted]):
        raise InputError(
            f"{path}: column {wanted!r} holds {_kind(features[wanted])}: labels are whole numbers, "
            "names or ClassLabel; choose another label_column"
        )
    classes = [name for name, feature in features.items() if _kind(feature) == "ClassLabel"]
    usual = [name for name in ("label", "labels", "cls") if _holds_labels(features.get(name))]
    return wanted or next(iter(usual or classes), None)


def _holds_labels(feature: Any) -> bool:
    return _kind(feature).startswith(
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
    if "string" in _kind(tables[0].features[column]):
        names = sorted({str(name) for value in values for name in value})
        code = {name: i for i, name in enumerate(names)}
        values = [np.array([code[str(name)] for name in value]) for value in values]
    # A test set whose labels are kept secret has -1 everywhere.
    return [None if v.min() < 0 else torch.from_numpy(v.astype(np.int64)) for v in values], names


def _column(table: Any, column: str) -> np.ndarray:
    return np.asarray(table.select_columns([column]).with_format("numpy")[:][column])
