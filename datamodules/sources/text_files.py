"""Sources of text: Python's own library, files, or a text column of `datasets`."""

import hashlib
import os
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from novum.core.cache import cache_folder
from novum.core.errors import InputError, NotFoundError
from novum.core.files import check_regular, whole_file
from novum.core.vocabulary import Vocabulary
from novum.datamodules.sources.corpus import Corpus
from novum.datamodules.sources.huggingface import (
    choose_split,
    is_saved,
    local_stamps,
    open_splits,
    saved_files,
)
from novum.datamodules.sources.local_tables import by_split
from novum.datamodules.sources.raw_images import Omission
from novum.datamodules.sources.text_documents import Reading, as_row
from novum.datamodules.sources.text_tables import is_table
from novum.datamodules.sources.threads import bar
from novum.datamodules.sources.walk import glob_files, search, warn_left_out

BESIDE_TABLES, OTHER_SPLITS = "files beside tables", "tables of other splits"
TEXT_SETS = ("stdlib", "files", "huggingface")
# leave out tests and generated tables
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "encodings", "pydoc_data"}


class Found(NamedTuple):
    """Files of text or tables, and what beside them is not read."""

    files: list[Path]
    left_out: tuple[Omission, ...] = ()

    @property
    def names(self) -> list[str]:
        """Paths below the folder that holds them all."""
        root = Path(os.path.commonpath([file.parent for file in self.files]))
        return [file.relative_to(root).as_posix() for file in self.files]


def open_text(
    dataset: str = "stdlib",
    files: str | list[str] | None = None,
    path: str | None = None,
    how: Reading = Reading(),  # noqa: B008  immutable
    split: str | None = None,
    streaming: bool = False,
    max_characters: int | None = None,
    follow_links: bool = False,
    vocabulary: Vocabulary | None = None,
    extend: bool = False,
) -> Corpus:
    """The corpus of a built-in text set.

    Several files are put in an order drawn from their names, so that the held-out end of the text
    is of the same kind as the rest.
    """
    if dataset == "stdlib":
        root = Path(sysconfig.get_path("stdlib"))
        return _corpus(Found(library_files(root)), how, vocabulary, extend)
    if dataset == "huggingface":
        if not path:
            raise InputError("dataset: huggingface needs a path, which says where the text is")
        file = write_column(path, how.column, split, streaming, max_characters, follow_links)
        return Corpus.of_files(
            [file], [path], how._replace(encoding="utf-8"), vocabulary, (), extend
        )
    if not files:
        raise InputError("no text is given: give a path or a glob with --data.files")
    found = find_files([files] if isinstance(files, str) else files, follow_links, split)
    return _corpus(found, how, vocabulary, extend)


def _corpus(found: Found, how: Reading, vocabulary: Vocabulary | None, extend: bool) -> Corpus:
    named = dict(zip(found.names, found.files, strict=True))
    names = sorted(named, key=lambda name: hashlib.sha256(name.encode()).digest())
    files = [named[name] for name in names]
    return Corpus.of_files(files, names, how, vocabulary, found.left_out, extend)


def library_files(root: Path) -> list[Path]:
    """The modules of the standard library, without tests and generated tables."""
    found = (f for f in root.rglob("*.py") if not LEFT_OUT & {*f.relative_to(root).parts})
    return [f for f in found if f.stat().st_size and not f.name.startswith("_sysconfigdata")]


def find_files(
    patterns: Sequence[str],
    follow_links: bool = False,
    split: str | None = None,
    whole: bool = False,
    where: str = "data.files: ",
) -> Found:
    """The files that paths, folders and globs (`**` for any depth) stand for, each once.

    Args:
        patterns: Paths, folders or globs.
        follow_links: Follow links that lead out of a folder.
        split: Of folders of tables and of what `datasets` saved; None: train, or the only one.
        whole: Take all splits.
        where: Begins the message about a place that is not there.

    Raises:
        InputError: If there is nothing, or nothing in it.
    """
    found: dict[Path, None] = {}
    left_out: list[Omission] = []
    for pattern in patterns:
        place = Path(pattern).expanduser()
        if place.is_dir():
            files, without = _of_folder(place, follow_links, split, whole)
            left_out += without
        elif place.exists():
            check_regular(place)
            files = [place]
        else:
            files = glob_files(str(place), follow_links)
        if not files:
            what = f"{pattern} holds no file" if place.is_dir() else f"no file matches {pattern}"
            raise NotFoundError(f"{where}{what}: give a file, a folder or a glob of texts")
        found |= dict.fromkeys(file.resolve() for file in files)
    if not any(file.stat().st_size for file in found):
        raise InputError(f"{where}{', '.join(patterns)} is empty: give a text with some characters")
    return Found(list(found), tuple(left_out))


def _of_folder(place: Path, follow_links: bool, split: str | None, whole: bool) -> Found:
    """Files of a folder; of tables of several splits those of one."""
    if is_saved(place):
        parts = saved_files(place, follow_links)
        left_out: dict[str, list[str]] = {}
    else:
        walked = search(place, lambda _: True, follow_links, counted=lambda _: True)
        warn_left_out(place, walked)
        names, left_out = walked.names, walked.left_out
        tables = [name for name in names if is_table(name)]
        if not tables:
            return _found(place, names, left_out)
        left_out = left_out | {BESIDE_TABLES: [n for n in names if not is_table(n)]}
        parts = by_split(tables)
        if rest := set(tables).difference(*parts.values()):
            left_out["tables without a split"] = sorted(rest)
    wanted = list(parts) if whole and not split else [choose_split(str(place), [*parts], split)]
    if wanted[0] not in parts:
        raise InputError(f"{place} has no split {split!r}: there are {', '.join(parts)}")
    others = [name for part in parts if part not in wanted for name in parts[part]]
    names = [name for part in wanted for name in parts[part]]
    return _found(place, names, left_out | {OTHER_SPLITS: others})


def _found(place: Path, names: Sequence[str], left_out: Mapping[str, Sequence[str]]) -> Found:
    omissions = (Omission.of(reason, own) for reason, own in left_out.items() if own)
    return Found([place / name for name in names], tuple(omissions))


def write_column(
    path: str,
    column: str | None,
    split: str | None,
    streaming: bool,
    most: int | None,
    follow_links: bool = False,
) -> Path:
    """A text column as one UTF-8 file in the cache, a blank line between its rows; made once."""
    key = repr((path, column, split, most, local_stamps(path, follow_links)))
    file = cache_folder() / "text" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.txt"
    if not file.is_file():
        table, _ = open_splits(path, split, streaming, follow_links)
        column = find_text_column(table.features, column, path)
        table = table.select_columns([column])  # or `datasets` decodes what the others name
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as out:
            for text in _until((row[column] for row in table), most):
                out.write(text.encode("utf-8"))
            if not out.tell():
                raise InputError(f"{path}: column {column!r} holds no text")
    return file


def _until(rows: Iterator[str | None], most: int | None) -> Iterator[str]:
    left = float("inf") if most is None else most
    for row in filter(None, bar(rows, "reading text")):
        text = as_row(row)
        yield text if len(text) <= left else text[: int(left)]
        left -= len(text)
        if left <= 0:
            return


def find_text_column(features: dict, wanted: str | None, path: str) -> str:
    texts = [
        n for n, f in features.items() if getattr(f, "dtype", "") in ("string", "large_string")
    ]
    if wanted and wanted not in texts:
        raise InputError(f"{path} has no text column {wanted!r}: there are {', '.join(texts)}")
    if not wanted and len(texts) != 1 and "text" not in texts:
        raise InputError(
            f"{path}: choose text_column from {', '.join(texts) or '(no text at all)'}"
        )
    return wanted or ("text" if "text" in texts else texts[0])
