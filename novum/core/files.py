"""Files: written whole or not at all; only regular ones are read."""

import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from novum.core.errors import InputError

PARTIAL = re.compile(r".+\.[0-9a-f]{8}\.tmp")


def check_regular(path: str | Path) -> None:
    """Raise ValueError for a FIFO, a device or a socket: reading one may never end."""
    _require_regular(path, os.stat(path).st_mode)


def _require_regular(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is not a regular file: give a file that is whole on a disk")


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


def append_array(path: Path, array: NDArray) -> None:
    """Add the values of an array to a file of nothing else."""
    with path.open("ab") as file:
        file.write(np.ascontiguousarray(array).data)


def mapped_array(path: Path, dtype: DTypeLike) -> NDArray:
    """The values (n,) of such a file, read as they are asked for."""
    if not path.stat().st_size:
        return np.zeros(0, dtype)
    return np.asarray(np.memmap(path, dtype, mode="r"))


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


def prepare_output(folder: Path) -> None:
    """Creates the folder before the work: a mistake shall not cost its results."""
    probe = folder / "report.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        remove_partial_files(folder)
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}): change --output") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all."""
    write_text(path, json.dumps(content, indent=2))


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(text.encode())
