"""Where Novum keeps what can be had again: weights, downloads, reference features, text indices."""

import os
import re
import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

PARTIAL = re.compile(r".+\.[0-9a-f]{8}\.tmp")

_warned: set[str] = set()

RECIPE = "novum:config"  # the text of a PNG of ours that holds the config which made it


def cache_folder() -> Path:
    """$NOVUM_CACHE, or ~/.cache/novum."""
    return Path(os.environ.get("NOVUM_CACHE") or Path.home() / ".cache" / "novum").expanduser()


def memory_bytes() -> int:
    """Of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def load_array(path: Path, dtype: DTypeLike | None) -> NDArray | None:
    """A .npy file, mapped for this process alone, or None if it is not whole and of this dtype
    (None: of any)."""
    with suppress(OSError, ValueError, EOFError):
        array = np.load(path, mmap_mode="c", allow_pickle=False)
        if dtype in (None, array.dtype) and path.stat().st_size == array.offset + array.nbytes:
            return array
    return None


def store(path: Path, write: Callable[[Any], None]) -> None:
    """Writes a file whole or not at all; a full or read-only disk costs a warning."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            write(file)
    except OSError as error:
        _warn_once(f"not cached: cannot write to {path.parent} ({error.strerror or error})")


@contextmanager
def whole_file(path: Path, keep_old_as: Path | None = None) -> Iterator[BinaryIO]:
    """A file that takes its name when it is whole and on the disk, or not at all.

    With `keep_old_as` the file of that name before is kept: at no moment is there none of the two.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep_old_as is not None and path.exists():
            os.replace(path, keep_old_as)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _flush_names(path.parent)


def _flush_names(folder: Path) -> None:
    """A rename outlives a power cut only when its folder is on the disk too."""
    with suppress(OSError):  # some file systems know no such thing
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_partial_files(folder: Path) -> None:
    """What `whole_file` left in a folder when its process was killed."""
    for path in folder.glob("*.tmp"):
        if PARTIAL.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=4)
