"""The cache on disk of what can be computed or downloaded again."""

import hashlib
import json
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import DTypeLike, NDArray

from novum.core import distributed
from novum.core.errors import InputError
from novum.core.files import whole_file

WHERE = "the cache of references"
CONTENTS = "contents.json"  # sizes of the files of a folder that is whole

_warned: set[str] = set()
_temporary: list[tempfile.TemporaryDirectory] = []  # removed when the process ends
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


def kept_folder(key: Sequence[object], make: Callable[[Path], None], kind: str) -> Path:
    """A folder of the cache for a key, made once, whole or not at all.

    Where the cache cannot be written it is made elsewhere, for this process alone.
    """
    path = entry(key, folder=kind)
    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        _warn_once(f"not cached: cannot write to {path.parent} ({error.strerror or error})")
        _temporary.append(tempfile.TemporaryDirectory(prefix="novum-"))
        path = Path(_temporary[-1].name)
        make(path)
        return path
    try:
        if not _is_whole(path):
            _make_whole(path, make)
    finally:
        lock.release()
    return path


def _make_whole(path: Path, make: Callable[[Path], None]) -> None:
    part = path.with_name(f"{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        make(part)
        (part / CONTENTS).write_text(json.dumps(_sizes(part)))
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    os.replace(part, path)


def _is_whole(folder: Path) -> bool:
    with suppress(OSError, ValueError):
        return json.loads((folder / CONTENTS).read_text()) == _sizes(folder)
    return False


def _sizes(folder: Path) -> dict[str, int]:
    return {f.name: f.stat().st_size for f in sorted(folder.iterdir()) if f.name != CONTENTS}


def require_disk(needed: float, folder: Path, what: str) -> None:
    """Refuse work before it begins, where the disk would be full in its middle.

    Raises:
        InputError: If fewer bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{what} takes about {needed / 1e9:.1f} GB of disk in {folder.parent}, and"
            f" {free / 1e9:.1f} GB are free: free more, or set NOVUM_CACHE to a larger disk"
        )


def missing_somewhere(entry: object) -> bool:
    """True on every rank, which all call at once, if what one of them read is None."""
    return any(distributed.all_gather_objects(entry is None, WHERE))


def once_a_host(write: Callable[[], None]) -> None:
    """One rank of each host writes, and the others, which all call at once, wait for it."""
    with distributed.local_rank_zero_first(WHERE):
        if distributed.is_local_rank_zero():
            write()


def kept(
    key: Sequence[object],
    compute: Callable[[], NDArray],
    columns: int,
    dtype: DTypeLike = np.float64,
) -> NDArray:
    """`remembered` by one rank, whatever the others do."""
    path = entry(key, ".figures.npy")
    known = _known_figures(path, columns, dtype)
    if known is None:
        known = compute()
        _keep_figures(path, known)
    return known


def remembered(
    key: Sequence[object],
    compute: Callable[[], NDArray],
    columns: int,
    dtype: DTypeLike = np.float64,
) -> NDArray:
    """Figures (n, columns) from the cache, or computed once, by all ranks at once.

    Args:
        key: All that they depend on, as JSON has it.
    """
    path = entry(key, ".figures.npy")
    known = _known_figures(path, columns, dtype)
    if missing_somewhere(known):
        figures = compute()
        once_a_host(lambda: _keep_figures(path, figures))
        return figures
    assert known is not None
    return known


def _known_figures(path: Path, columns: int, dtype: DTypeLike) -> NDArray | None:
    known = load_array(path, dtype)
    fits = known is not None and known.shape[1:] == (columns,)
    return np.array(known) if fits else None


def _keep_figures(path: Path, figures: NDArray) -> None:
    store(path, lambda file: np.save(file, figures))


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=4)
