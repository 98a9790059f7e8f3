"""Builders of `datasets` for local files: each reads what it is given, and nothing named there."""

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from novum.core.errors import InputError
from novum.core.files import check_regular
from novum.datamodules.sources.decode import MOST_BYTES

# members of an archive that `datasets` would unpack, or parse as tensors of any size
NOT_DECODED = ("gz", "bz2", "xz", "zst", "lz4", "zip",
               "npy", "npz", "pth", "ten", "tb", "mp", "msg", "cbor")  # fmt: skip


def builder_of(kind: str, files_by_split: dict[str, list[str]]) -> Any:
    """The builder of a kind, which knows these files and no others."""
    from datasets.data_files import DataFilesDict, DataFilesList

    files = {split: DataFilesList(f, [*map(_stamp, f)]) for split, f in files_by_split.items()}
    first = next(iter(files_by_split.values()))[0]
    options: dict[str, Any] = {}
    if kind in ("parquet", "arrow"):
        options["features"] = plain_features(_schema(kind, first))
    if ".tsv" in Path(first).suffixes:
        options["sep"] = "\t"
    builder = _class(kind)
    return builder(dataset_name=kind, data_files=DataFilesDict(files), **options)


def _stamp(file: str) -> tuple[str]:
    """By which the cache of `datasets` knows that a file has changed."""
    status = os.stat(file)
    return (f"{status.st_size} {status.st_mtime_ns}",)


@cache
def _class(kind: str) -> type:
    import datasets.packaged_modules as packaged

    if kind != "webdataset":
        name = {"imagefolder": "ImageFolder"}.get(kind, kind.capitalize())
        return getattr(getattr(packaged, kind), name)

    class Archive(packaged.webdataset.WebDataset):
        """Decode texts, numbers and JSON among its members, and no arrays."""

        DECODERS = {
            name: decode
            for name, decode in packaged.webdataset.WebDataset.DECODERS.items()
            if name not in NOT_DECODED
        }

        @classmethod
        def _get_pipeline_from_tar(cls, tar_path: str, tar_iterator: Any) -> Any:
            most = min(MOST_BYTES, os.path.getsize(tar_path))
            members = (
                (name, _Member(file, name, most))
                for name, file in tar_iterator
                if name.rpartition(".")[2].lower() not in NOT_DECODED
            )
            yield from super()._get_pipeline_from_tar(tar_path, members)

    Archive.__module__ = packaged.webdataset.__name__  # where `datasets` looks for its functions
    return Archive


@dataclass
class _Member:
    """A member of an archive, which may claim more bytes than the archive has."""

    file: BinaryIO
    name: str
    most: int

    def read(self) -> bytes:
        data = self.file.read(self.most + 1)
        if len(data) > self.most:
            raise InputError(f"member {self.name} has more than {self.most:,} bytes")
        return data


def holds_images(feature: Any) -> bool:
    """datasets.Image, or what it is stored as: bytes, or a struct of bytes and path."""
    plain = feature.get("bytes") if isinstance(feature, dict) else feature
    stored = getattr(plain, "dtype", "") in ("binary", "large_binary")
    return stored or feature_kind(feature) == "Image"


def feature_kind(feature: Any) -> str:
    kind = type(feature).__name__
    return feature.dtype if kind == "Value" else kind


def table_has_images(kind: str, file: str) -> bool:
    """Return False if a parquet or Arrow file has no column of images; True if it is damaged."""
    check_regular(file)
    try:
        features = plain_features(_schema(kind, file))
    except Exception:  # pyarrow raises OSError, ValueError ...; opening the table will tell
        return True
    return any(map(holds_images, features.values()))


def _schema(kind: str, file: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open(file, "rb") as opened:
        if kind == "parquet":
            return pq.read_schema(opened)
        try:
            return pa.ipc.open_stream(opened).schema
        except (OSError, pa.ArrowInvalid):
            opened.seek(0)
            return pa.ipc.open_file(opened).schema


def plain_features(schema: Any) -> Any:
    """The columns of a table: images, classes with names, and whatever Arrow says of the others.

    The table's own description of them, which `datasets` would follow, can name any decoder and
    any function of pyarrow.
    """
    import datasets

    told = {}
    try:
        told = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        pass  # then only Arrow's types are known
    plain = datasets.Features.from_arrow_schema(schema.remove_metadata())
    for field in schema:
        about = told.get(field.name) if isinstance(told, dict) else None
        feature = _feature(about) if isinstance(about, dict) else None
        if feature is not None and field.type == feature.pa_type:
            plain[field.name] = feature
    return plain


def _feature(about: dict[str, Any]) -> Any:
    import datasets

    if about.get("_type") == "Image":
        return datasets.Image()
    names = about.get("names")
    if about.get("_type") == "ClassLabel" and isinstance(names, list):
        if all(isinstance(name, str) for name in names) and len({*names}) == len(names):
            return datasets.ClassLabel(names=names)
    return None
