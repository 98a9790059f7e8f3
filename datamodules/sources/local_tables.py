"""Files of a local file or folder for `datasets`, listed here; it reads nothing else.

Left to itself, `datasets` would open what a README.md in the folder names, wherever that is.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from novum.core.errors import InputError
from novum.core.files import check_regular, read_regular
from novum.datamodules.sources.builders import plain_features, table_has_images
from novum.datamodules.sources.raw_images import NO_IMAGES, Omission
from novum.datamodules.sources.suffixes import IMAGES
from novum.datamodules.sources.walk import require_inside, search, walk, warn_left_out

BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}
TEXTS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json",
         ".txt": "text"}  # fmt: skip
KINDS = BUILDERS | TEXTS | {f".{extension}": "imagefolder" for extension in IMAGES}
PACKED = (".gz", ".bz2", ".xz", ".zst")  # texts may be
ABOUT = ("config.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json",
         "state.json")  # fmt: skip
CAPTIONS = (
    "metadata.csv",
    "metadata.jsonl",
)  # more columns of images; rows.py checks them

SAVED = ("dataset_dict.json", "state.json")  # of Dataset.save_to_disk

SEPARATOR = "[-._ 0-9]"
WORDS = {  # of file and folder names, by the split that they stand for
    "train": "train|training",
    "validation": "validation|valid|dev|val",
    "test": "test|testing|eval|evaluation",
}
SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*")
SPLIT = re.compile(r"\w+(\.\w+)*")
MOST_JSON = 1 << 26  # bytes of what Dataset.save_to_disk writes beside its tables


class Listing(NamedTuple):
    """A builder of `datasets`, and what it is to read."""

    kind: str
    files: dict[str, list[str]]  # absolute paths by split
    left_out: tuple[Omission, ...] = ()


def list_files(place: Path, follow_links: bool, images: bool = False) -> Listing:
    """The data of a file or folder, by the rules that `datasets` has for names.

    Args:
        place: The file or folder.
        follow_links: Follow links that lead out of it.
        images: Pass over tables without images, such as img2dataset writes beside them.
    """
    if "::" in str(place.absolute()):
        raise InputError("`datasets` takes a name with '::' for an address; rename it")
    if place.is_file():
        if place.suffix not in BUILDERS:
            raise InputError(f"its name ends in none of {', '.join(BUILDERS)}")
        check_regular(place)
        return Listing(BUILDERS[place.suffix], {"train": [str(place.absolute())]})
    found = search(
        place,
        lambda name: kind_of(name) is not None,
        follow_links,
        counted=(lambda name: kind_of(name) in BUILDERS.values()) if images else None,
    )
    warn_left_out(place, found)
    names = [
        name
        for name in found.names
        if "::" not in name and "/__" not in f"/{name}".rpartition("/")[0]
    ]
    if not names:
        raise InputError("it holds no file of a kind that is read")
    kind = _kind(place, names, images)
    others = [name for name in names if kind_of(name) != kind]
    names = [name for name in names if kind_of(name) == kind]
    left_out = {**found.left_out, **_beside(others)}
    if kind == "imagefolder":
        names += walk(place, lambda name: name in CAPTIONS, follow_links)
    root = place.absolute()
    files = {split: [str(root / n) for n in found] for split, found in by_split(names).items()}
    return Listing(kind, files, tuple(Omission.of(*item) for item in left_out.items()))


def _beside(names: list[str]) -> dict[str, list[str]]:
    """Files of other kinds than the one that is read, by reason."""
    reasons = {"imagefolder": "image files beside the tables"}
    left_out: dict[str, list[str]] = {}
    for name in names:
        left_out.setdefault(reasons.get(str(kind_of(name)), NO_IMAGES), []).append(name)
    return left_out


def holds_tables(place: Path, follow_links: bool) -> bool:
    """Return True if a file or a folder, however deep, holds images in tables or archives."""
    if place.is_file():
        return place.suffix in BUILDERS
    if any((place / name).is_file() for name in SAVED):
        return True
    names = search(place, lambda name: kind_of(name) in BUILDERS.values(), follow_links).names
    return bool(names) and (_kind(place, names, images=True) in BUILDERS.values())


def kind_of(name: str) -> str | None:
    """The builder for a file of this name."""
    if name.rpartition("/")[2] in (*ABOUT, *CAPTIONS, "metadata.parquet"):
        return None
    stem, suffix = os.path.splitext(name.lower())
    return TEXTS.get(os.path.splitext(stem)[1]) if suffix in PACKED else KINDS.get(suffix)


def _kind(place: Path, names: list[str], images: bool) -> str:
    """That of the most files; pictures or texts beside tables are about them."""
    counts = Counter(map(kind_of, names))
    tables = {kind: n for kind, n in counts.items() if kind in BUILDERS.values()}
    if images:
        useful = {kind: n for kind, n in tables.items() if _has_images(place, names, str(kind))}
        pictures = {kind: n for kind, n in counts.items() if kind == "imagefolder"}
        tables = useful or pictures or tables
    return str(max(tables or counts, key=lambda kind: (counts[kind], str(kind))))


def _has_images(place: Path, names: list[str], kind: str) -> bool:
    first = next(name for name in names if kind_of(name) == kind)
    return kind == "webdataset" or table_has_images(kind, str(place.absolute() / first))


def by_split(names: list[str]) -> dict[str, list[str]]:
    """Files by the split in their folder's or own name; all are `train` where no name has one."""
    shards: dict[str, list[str]] = {}
    for name in names:
        if match := SHARD.fullmatch(name):
            shards.setdefault(match[1], []).append(name)
    if shards:
        return {split: shards[split] for split in sorted(shards, key=_rank)}
    for pattern in (
        f"(^|/)([^/]*{SEPARATOR})?({{words}})({SEPARATOR}[^/]*)?/",  # of a folder
        f"(^|/|{SEPARATOR})({{words}}){SEPARATOR}[^/]*$",  # of the file
    ):
        found: dict[str, list[str]] = {}
        for name in names:
            matches = (s for s, w in WORDS.items() if re.search(pattern.format(words=w), name))
            if split := next(matches, None):
                found.setdefault(split, []).append(name)
        if found:
            return {split: found[split] for split in sorted(found, key=_rank)}
    return {"train": names}


def _rank(split: str) -> tuple[int, str]:
    known = list(WORDS)
    return (known.index(split) if split in known else len(known)), split


def saved_tables(place: Path, follow_links: bool) -> dict[str, Any]:
    """The splits that Dataset.save_to_disk wrote; its tables lie in their own folders."""
    if not (place / "dataset_dict.json").is_file():
        return {"train": _saved_table(place, follow_links)}
    tables = {}
    for name in _json(place, "dataset_dict.json", follow_links)["splits"]:
        if not isinstance(name, str) or not SPLIT.fullmatch(name):
            raise InputError(f"dataset_dict.json names the split {name!r}")
        require_inside(place / name, place, follow_links)
        tables[name] = _saved_table(place / name, follow_links)
    return tables


def _saved_table(folder: Path, follow_links: bool) -> Any:
    import datasets
    from datasets.table import MemoryMappedTable

    tables = []
    for entry in _json(folder, "state.json", follow_links)["_data_files"]:
        file = folder / entry["filename"]
        if os.path.isabs(entry["filename"]) or ".." in Path(entry["filename"]).parts:
            raise InputError(f"state.json names {entry['filename']}, outside of its own folder")
        require_inside(file, folder, follow_links)
        check_regular(file)
        table = MemoryMappedTable.from_file(str(file))
        table.validate(full=True)
        features = plain_features(table.schema)
        metadata = features.arrow_schema.metadata
        tables.append(datasets.Dataset(table.replace_schema_metadata(metadata)))
    return datasets.concatenate_datasets(tables)


def _json(folder: Path, name: str, follow_links: bool) -> Any:
    require_inside(folder / name, folder, follow_links)
    return json.loads(read_regular(folder / name, MOST_JSON))
