"""The cache on disk of what can be computed or downloaded again."""

import hashlib
import json
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from novum.core import distributed
from novum.core.files import whole_file

WHERE = "the cache of references"

_warned: set[str] = set()
_one_parser = threading.Lock()  # of headers; in Python 3.11 `ast` counts all threads' depth as one


def cache_folder() -> Path:
    """$NOVUM_CACHE, or ~/.cache/novum."""
    return Path(os.environ.get("NOVUM_CACHE") or Path.home() / ".cache" / "novum").expanduser()


def entry(key: Sequence[object], end: str = "", folder: str = "references") -> Path:
    """File of the cache for a key, all that it depends on, as JSON has it."""
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    return cache_folder() / folder / f"{name}{end}"


def load_array(path: Path, dtype: DTypeLike | None) -> NDArray | None:
    """A .npy file, mapped for this process alone, or None if it is not whole and of this dtype
    (None: of any)."""
    with suppress(OSError, ValueError, EOFError):
        with _one_parser:
            array = np.lib.format.open_memmap(path, mode="c")  # reads no other format, no pickle
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


def missing_somewhere(entry: object) -> bool:
    """True on every rank, which all call at once, if what one of them read is None."""
    return any(distributed.all_gather_objects(entry is None, WHERE))


def once_a_host(write: Callable[[], None]) -> None:
    """One rank of each host writes, and the others, which all call at once, wait for it."""
    with distributed.local_rank_zero_first(WHERE):
        if distributed.is_local_rank_zero():
            write()


def remembered(
    key: Sequence[object], compute: Callable[[], NDArray[np.float64]], columns: int
) -> NDArray[np.float64]:
    """Figures (n, columns) from the cache, or computed once, by all ranks at once.

    Args:
        key: All that they depend on, as JSON has it.
    """
    path = entry(key, ".figures.npy")
    known = load_array(path, np.float64)
    if missing_somewhere(known if known is not None and known.shape[1:] == (columns,) else None):
        figures = compute()
        once_a_host(lambda: store(path, lambda file: np.save(file, figures)))
        return figures
    assert known is not None
    return np.array(known)


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=4)
