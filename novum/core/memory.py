"""Memory of the machine or of the process's control group, and a budget for threads."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from novum.core.errors import InputError

if TYPE_CHECKING:
    import torch

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


class Hierarchy(NamedTuple):
    """Mount point of a version of cgroups, and the names of its files."""

    mounts: tuple[str, ...]
    limits: tuple[str, ...]
    used: str
    cache: str  # in memory.stat: the file pages that the kernel gives up first


V1 = Hierarchy(("memory",), ("limit_in_bytes",), "usage_in_bytes", "total_inactive_file")
V2 = Hierarchy(("", "unified"), ("max", "high"), "current", "inactive_file")


def memory_bytes() -> int:
    """Bytes of memory of this machine, or the limit of this process's control group."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit, _ in _groups())])


def available_bytes() -> int:
    """Bytes of that which are free, or can be freed at once."""
    machine = _fields(PROC / "meminfo").get("MemAvailable:")
    free = memory_bytes() // 2 if machine is None else machine * 1024  # not every system says
    return max(0, min([free, *(limit - used for limit, used in _groups())]))


def free_device_bytes(device: "torch.device") -> int:
    """Bytes that are free on a GPU, or can be freed at once; 0 for a device that does not say."""
    import torch

    if device.type != "cuda":
        return 0
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached


def free_bytes(device: "torch.device") -> int:
    """Bytes that are free on a GPU, or `available_bytes`."""
    return free_device_bytes(device) if device.type == "cuda" else available_bytes()


def require_memory(
    needed: float, what: str, mend: str, available: Callable[[], int] = available_bytes
) -> None:
    """Refuse work before it begins, where the system would end the process in its middle.

    Args:
        needed: Bytes that it is estimated to take.
        what: The work, as the subject of the sentence.
        mend: What to do instead.
        available: Bytes that are free.

    Raises:
        InputError: If there are fewer.
    """
    free = available()
    if needed > free:
        raise InputError(
            f"{what} takes about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free:"
            f" {mend}"
        )


def require_room(needed: float, folder: Path, what: str) -> None:
    """Refuse work whose files fit neither on a folder's disk nor into memory, before it begins.

    What does not fit on the disk is kept in memory, at most half of what is free.

    Args:
        needed: Bytes of its files.
        what: Their contents, as the subject of the sentence.
    """
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if needed > free and needed > available_bytes() // 2:
        raise InputError(
            f"{what} takes about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of disk are free in"
            f" {folder}: make room, or set NOVUM_CACHE to a folder on a larger disk"
        )


def _groups() -> Iterator[tuple[int, int]]:
    """Limit and use of this process's control group and of its parents."""
    with suppress(OSError, ValueError):
        for line in (PROC / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                yield from _limits(V2, path)
            elif "memory" in controllers.split(","):
                yield from _limits(V1, path)


def _limits(version: Hierarchy, path: str) -> Iterator[tuple[int, int]]:
    for mount in version.mounts:
        root = CGROUPS / mount
        group = root / path.lstrip("/")  # a container may see its own group as the root
        for folder in (group, *group.parents):
            if ".." in folder.parts or not folder.is_relative_to(root):
                break
            used = _number(folder / f"memory.{version.used}") or 0
            used -= min(used, _fields(folder / "memory.stat").get(version.cache, 0))
            limits = (_number(folder / f"memory.{name}") for name in version.limits)
            yield from ((limit, used) for limit in limits if limit is not None)


def _number(file: Path) -> int | None:
    with suppress(OSError, ValueError):  # not there, or `max`
        return int(file.read_text())


def _fields(file: Path) -> dict[str, int]:
    """A file of lines that are a name and a number."""
    with suppress(OSError, ValueError):
        lines = (line.split() for line in file.read_text().splitlines())
        return {line[0]: int(line[1]) for line in lines if len(line) > 1}
    return {}


class Budget:
    """Memory that the threads of a process share; one that asks for more than is left waits."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        """Forget what threads hold; a forked process has none of them."""
        self._total, self._held, self._freed = 0, 0, threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Raises ValueError if `size` bytes would not fit even alone."""
        with self._freed:
            self._freed.wait_for(lambda: self._fits(size))
            self._held += size
        try:
            yield
        finally:
            with self._freed:
                self._held -= size
                self._freed.notify_all()

    def _fits(self, size: int) -> bool:
        if not self._held:  # then what is available counts nothing twice
            self._total = self._limit()
            if size > self._total:
                raise InputError(
                    f"decoding takes {size / 1e9:.1f} GB of memory, of which there is too little"
                )
        return self._held + size <= self._total
