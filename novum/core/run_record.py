"""The identity of a run: what made it, what changed since, its folder, and a lock on that."""

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from novum.core.errors import InputError
from novum.core.files import write_json

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

RECORD = "run.json"
LOCK = "run.lock"
# settings of data that its fingerprint stands for, or that decide nothing but speed
NEUTRAL = {
    "path", "predict_path", "files", "image", "guide", "contents", "styles", "masks",
    "num_workers", "memory_budget_gb", "on_bad_image", "follow_links",
}  # fmt: skip
# of the trainer, those that a result depends on
DECISIVE = ("precision", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches")


class Change(NamedTuple):
    """A setting that a run was started with, and the one that it is to go on with."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} {_shown(self.before)} -> {_shown(self.now)}"

    @property
    def fixed(self) -> bool:
        """Return True if a run cannot go on with another value: of its data or its seed."""
        return self.key == "seed_everything" or self.key.startswith("data.")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and isinstance(value.get("class_path"), str):
        value = value["class_path"].rsplit(".", 1)[-1]
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a run's result depends on, out of its resolved config as plain values."""
    trainer = config.get("trainer") or {}
    decisive = {k: trainer[k] for k in DECISIVE if isinstance(trainer, Mapping) and k in trainer}
    kept = {k: config[k] for k in ("seed_everything", "data", "model") if k in config}
    return kept | {"trainer": decisive}


def changes(before: Any, now: Any, key: str = "") -> Iterator[Change]:
    """Settings that differ; not those of which one side knows nothing, as of another version."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        same_class = before.get("class_path") == now.get("class_path")
        if not same_class and before.get("class_path") and now.get("class_path"):
            yield Change(key, before, now)
            return
        for name in before.keys() & now.keys():
            if name != "seed" and not (key.startswith("data.") and name in NEUTRAL):
                yield from changes(before[name], now[name], f"{key}.{name}".lstrip("."))
    elif before != now and list(_listed(before)) != list(_listed(now)):
        yield Change(key, before, now)


def _listed(value: Any) -> Iterator[Any]:
    """A tuple and a list of the same values are alike, as in YAML."""
    yield from value if isinstance(value, list | tuple) else (value,)


def sorted_changes(before: Any, now: Any) -> list[Change]:
    """`changes`, those of data and seed first, else by name; none where nothing is known (None)."""
    if before is None or now is None:
        return []
    return sorted(changes(before, now), key=lambda change: (not change.fixed, change.key))


@cache
def novum_version() -> str:
    """Version of the installed package; '' if it runs from its source alone."""
    with contextlib.suppress(PackageNotFoundError):
        return version("novum")
    return ""


def code_version() -> str:
    """Digest of novum's own source files."""
    found = hashlib.sha256()
    top = Path(__file__).resolve().parents[1]
    for folder, folders, files in os.walk(top, followlinks=True):
        folders.sort()
        for name in sorted(files):
            if name.endswith(".py"):
                found.update(Path(folder, name).read_bytes())
    return found.hexdigest()[:16]


def read_record(folder: Path) -> dict[str, Any]:
    """run.json of a run's folder; empty if there is none."""
    with contextlib.suppress(OSError, ValueError):
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else {}
    return {}


def write_record(folder: Path, record: dict[str, Any]) -> None:
    write_json(folder / RECORD, record)


def claim_version(experiment: Path, prefix: str = "version_") -> str:
    """Make the next folder version_N of an experiment; no two processes get the same."""
    experiment.mkdir(parents=True, exist_ok=True)
    taken = [path.name.removeprefix(prefix) for path in experiment.glob(f"{prefix}*")]
    number = max((int(n) for n in taken if n.isdecimal()), default=-1) + 1
    while True:
        with contextlib.suppress(FileExistsError):
            (experiment / f"{prefix}{number}").mkdir()
            return f"{prefix}{number}"
        number += 1


class FolderLock:
    """A lock on a run's folder that this process holds until it ends or releases it.

    A record lock of POSIX: the system drops it with the process, forked workers do not inherit it,
    and NFS knows it. Where there is none (Windows), nothing is locked.
    """

    def __init__(self, folder: Path) -> None:
        """Raises InputError if another process writes there."""
        self._file = None
        if fcntl is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            file.close()
            raise InputError(
                f"{folder} is being written by {holder}: wait until it ends, or start another run"
                " without --ckpt_path"
            ) from None
        except OSError:  # a file system without locks
            file.close()
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
