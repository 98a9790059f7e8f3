"""Samples that are still being written: files are taken once they are whole."""

import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from novum.core import distributed
from novum.core.bars import progress, shows_bars
from novum.core.errors import InputError, NotFoundError, NovumError

DONE = "_SUCCESS"  # the file that ends a job's output, as Hadoop and Spark write it
LOOK = 0.5  # seconds between looks
SETTLED = 2.0  # seconds that a file is unchanged for before it counts as whole
UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".incomplete", ".lock", "~")


class Arrived(NamedTuple):
    """Files of a folder that were whole when there were enough."""

    folder: str
    files: list[Path]


class _Seen(NamedTuple):
    state: tuple[int, int]  # size, time of change
    since: float


class Folder:
    """Files of a folder, and for how long each has not changed."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.monotonic,
        others: Collection[str] = (),
    ) -> None:
        self.path, self.clock, self.others = path, clock, others
        self.seen: dict[Path, _Seen] = {}
        self.changed = clock()  # when anything in the folder last did

    def look(self) -> None:
        now, found = self.clock(), {}
        for file in self._files():
            try:
                stat = file.stat()
            except OSError:  # renamed meanwhile
                continue
            state = stat.st_size, stat.st_mtime_ns
            before = self.seen.get(file)
            same = before is not None and before.state == state
            found[file] = before if same and before else _Seen(state, now)
            self.changed = self.changed if same else now
        if found.keys() != self.seen.keys():
            self.changed = now
        self.seen = found

    def _files(self) -> Iterator[Path]:
        """Files whose names do not say that they are unfinished, or of another kind."""
        for folder, _, names in os.walk(self.path):
            for name in names:
                unfinished = name == DONE or name.startswith(".") or name.endswith(UNFINISHED)
                if not unfinished and Path(name).suffix.lower().lstrip(".") not in self.others:
                    yield Path(folder, name)

    def whole(self) -> list[Path]:
        """Files that are not empty and have not changed for a while, oldest first."""
        settled = self.clock() - SETTLED
        files = [(x.state[1], f) for f, x in self.seen.items() if x.since <= settled and x.state[0]]
        return [file for _, file in sorted(files)]

    @property
    def done(self) -> bool:
        return (self.path / DONE).is_file()


def wait_for_files(
    place: str,
    quiet: float,
    count: int | None = None,
    others: Collection[str] = (),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str | Arrived:
    """The folder when all of it is written, or its first `count` files when these are.

    Rank 0 looks; the others take what it found.

    Args:
        place: A folder; it may not be there yet.
        quiet: Seconds without a change after which nothing more is expected. The file `_SUCCESS`
            says so at once.
        count: Files that are enough.
        others: Suffixes, without the dot, of files that do not count.
    """
    found: list[str | Arrived | Exception] = []
    if distributed.is_rank_zero():
        try:
            folder = Folder(Path(place).expanduser(), clock, others)
            found = [_wait(place, folder, quiet, count, sleep)]
        except NovumError as error:
            found = [error]
    (first, *_) = [x for part in distributed.all_gather_objects(found, "samples") for x in part]
    if isinstance(first, Exception):
        raise first
    return first


def _wait(
    place: str, folder: Folder, quiet: float, count: int | None, sleep: Callable[[float], None]
) -> str | Arrived:
    if folder.path.exists() and not folder.path.is_dir():
        raise InputError(f"--follow waits for files in a folder: {place} is a file, leave it out")
    hidden = count is None and not shows_bars()  # of no known number there are no tenths
    with progress(None, "waiting for samples", total=count, delay=0, disable=hidden) as bar:
        shown = 0
        while True:
            folder.look()
            files = folder.whole()
            if len(files) > shown:
                bar.update(min(len(files), count or len(files)) - shown)
                shown = len(files)
            if count is not None and len(files) >= count:
                return Arrived(place, sorted(files[:count]))
            over = folder.clock() - folder.changed >= max(quiet, SETTLED)
            if over or (folder.done and len(files) == len(folder.seen)):
                return _all(place, files, folder, quiet, count)
            sleep(LOOK)


def _all(place: str, files: list[Path], folder: Folder, quiet: float, count: int | None) -> str:
    """The folder as a place; ValueError if too little came."""
    why = f"{DONE} is there" if folder.done else f"nothing changed for {quiet:g} s"
    if not files:
        error = InputError if folder.path.exists() else NotFoundError
        raise error(f"--follow {quiet:g}: no file came to {place}, and {why}: wait longer")
    if count is not None:
        raise InputError(
            f"--follow {quiet:g}: {len(files):,} of {count:,} files came to {place}, and {why}:"
            " lower --num-samples, or wait longer"
        )
    return place
