"""Sources of text: Python's own library, files, or a text column of `datasets`."""

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from novum.core.cache import cache_folder
from novum.core.errors import InputError, NotFoundError
from novum.core.files import check_regular, whole_file
from novum.datamodules.sources.corpus import Corpus
from novum.datamodules.sources.huggingface import local_stamps, open_splits
from novum.datamodules.sources.threads import bar
from novum.datamodules.sources.walk import glob_files

TEXT_SETS = ("stdlib", "files", "huggingface")
# leave out tests and generated tables
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "encodings", "pydoc_data"}


def open_text(
    dataset: str = "stdlib",
    files: str | list[str] | None = None,
    path: str | None = None,
    as_bytes: bool = False,
    encoding: str = "utf-8",
    text_column: str | None = None,
    split: str | None = None,
    streaming: bool = False,
    max_characters: int | None = None,
    follow_links: bool = False,
) -> Corpus:
    """The corpus of a built-in text set.

    Several files are put in an order drawn from their names, so that the held-out end of the text
    is of the same kind as the rest.
    """
    if dataset == "stdlib":
        root = Path(sysconfig.get_path("stdlib"))
        return _corpus(library_files(root), root, as_bytes, encoding)
    if dataset == "huggingface":
        if not path:
            raise InputError("dataset: huggingface needs a path, which says where the text is")
        file = write_column(path, text_column, split, streaming, max_characters, follow_links)
        return Corpus.of_files([file], [path], "utf-8", as_bytes)
    if not files:
        raise InputError("no text is given: give a path or a glob with --data.files")
    found = find_files([files] if isinstance(files, str) else files, follow_links)
    return _corpus(found, Path(os.path.commonpath([f.parent for f in found])), as_bytes, encoding)


def _corpus(files: list[Path], root: Path, as_bytes: bool, encoding: str) -> Corpus:
    named = {file.relative_to(root).as_posix(): file for file in files}
    names = sorted(named, key=lambda name: hashlib.sha256(name.encode()).digest())
    return Corpus.of_files([named[name] for name in names], names, encoding, as_bytes)


def library_files(root: Path) -> list[Path]:
    """The modules of the standard library, without tests and generated tables."""
    found = (f for f in root.rglob("*.py") if not LEFT_OUT & {*f.relative_to(root).parts})
    return [f for f in found if f.stat().st_size and not f.name.startswith("_sysconfigdata")]


def find_files(patterns: list[str], follow_links: bool = False) -> list[Path]:
    """The files that paths and globs (`**` for any depth) stand for, each once."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        place = os.path.expanduser(pattern)
        if os.path.exists(place) and not os.path.isdir(place):
            check_regular(place)
            found[Path(place).resolve()] = None
            continue
        matches = [] if os.path.exists(place) else glob_files(place, follow_links)
        if not matches:
            folder = f"; it is a folder, say {pattern}/**/*.txt" if os.path.isdir(place) else ""
            raise NotFoundError(f"data.files: no file matches {pattern}{folder}")
        found |= dict.fromkeys(match.resolve() for match in matches)
    if not any(file.stat().st_size for file in found):
        raise InputError(f"{next(iter(found))} is empty: give a file with text in data.files")
    return list(found)


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
    for row in bar(rows, "reading text"):
        text = f"{row or ''}\n\n".replace("\0", "")
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
