"""Files: the cache of what can be had again, files written whole, and regular files to read."""

import os
import re
import secrets
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from novum.core.errors import InputError
from novum.core.memory import memory_bytes as memory_bytes

PARTIAL = re.compile(r".+\.[0-9a-f]{8}\.tmp")

_warned: set[str] = set()
_one_parser = threading.Lock()  # of headers; in Python 3.11 `ast` counts all threads' depth as one

RECIPE = "novum:config"  # the text chunk of our PNGs that holds the config which made them


def cache_folder() -> Path:
    """$NOVUM_CACHE, or ~/.cache/novum."""
    return Path(os.environ.get("NOVUM_CACHE") or Path.home() / ".cache" / "novum").expanduser()


def check_regular(path: str | Path) -> None:
    """Raise ValueError for a FIFO, a device or a socket: reading one may never end."""
    _require_regular(path, os.stat(path).st_mode)


def _require_regular(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is no regular file: give a file that is whole on a disk")


def open_regular(path: str | Path) -> BinaryIO:
    """A regular file to read; ValueError for any other, even one that takes its place meanwhile."""
    check_regular(path)  # opening a device may do something already
    file = open(path, "rb", opener=_open_without_waiting)
    try:
        _require_regular(path, os.fstat(file.fileno()).st_mode)
    except ValueError:
        file.close()
        raise
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO waits for its writer


def read_regular(path: str | Path, most: int) -> bytes:
    """A regular file of at most `most` bytes; one with more bytes than it says is refused."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise InputError(f"{path} has {size:,} bytes: at most {most:,} are read")
        data = file.read(size + 1)
    if len(data) > size:  # of /proc, say, or one that is still written
        raise InputError(f"{path} has more bytes than its size says: copy it first")
    return data


def read_blocks(path: str | Path, block: int = 1 << 22) -> Iterator[bytes]:
    """The bytes that a regular file has when it is opened, and none that come later."""
    with open_regular(path) as file:
        left = os.fstat(file.fileno()).st_size
        while left and (data := file.read(min(block, left))):
            left -= len(data)
            yield data


def load_array(path: Path, dtype: DTypeLike | None) -> NDArray | None:
    """A .npy file, mapped for this process alone, or None if it is not whole and of this dtype
    (None: of any)."""
    with suppress(OSError, ValueError, EOFError):
        with _one_parser:
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
    """Remove what `whole_file` left in a folder when its process was killed."""
    for path in folder.glob("*.tmp"):
        if PARTIAL.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=4)
