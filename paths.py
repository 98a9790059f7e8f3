"""Where Novum keeps what can be had again: weights, downloads, reference features, text indices."""

import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_warned: set[str] = set()

RECIPE = "novum:config"  # the text of a PNG of ours that holds the config which made it


def cache_folder() -> Path:
    """$NOVUM_CACHE, or ~/.cache/novum."""
    return Path(os.environ.get("NOVUM_CACHE") or Path.home() / ".cache" / "novum").expanduser()


def memory_bytes() -> int:
    """Of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def load_array(path: Path, dtype: DTypeLike) -> NDArray | None:
    """A .npy file, mapped for this process alone, or None if it is not whole and of this dtype."""
    with suppress(OSError, ValueError, EOFError):
        array = np.load(path, mmap_mode="c", allow_pickle=False)
        if array.dtype == dtype and path.stat().st_size == array.offset + array.nbytes:
            return array
    return None


def store(path: Path, write: Callable[[Any], None]) -> None:
    """Writes a file whole or not at all; a full or read-only disk costs a warning."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _renamed_when_done(path) as file:
            write(file)
    except OSError as error:
        _warn_once(f"not cached: cannot write to {path.parent} ({error.strerror or error})")


@contextmanager
def _renamed_when_done(path: Path) -> Any:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=4)
