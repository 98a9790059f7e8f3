"""The files of a folder that somebody hands over: regular ones, each once, none outside of it."""

import glob
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Literal, NamedTuple

from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError, printable

FOLLOW = "set follow_links: true (evaluate.py: --follow-links) to follow links"

Hidden = Literal["none", "all"]
Key = tuple[int, int]  # device and inode


class Entry(NamedTuple):
    """Something in a folder, by its path below the root."""

    name: str
    path: str
    is_link: bool


class Walked(NamedTuple):
    """Files of a folder, and the names of what was left out, by the reason."""

    names: list[str]
    left_out: dict[str, list[str]]


def walk(
    root: Path,
    wanted: Callable[[str], bool],
    follow_links: bool = False,
    within: Path | None = None,
    hidden: Hidden = "none",
) -> list[str]:
    """Sorted relative paths, with forward slashes, of the files below a folder.

    What several names lead to counts once. A warning names the links that lead out, and what is
    no regular file.

    Args:
        root: The folder.
        wanted: Which file names are meant.
        follow_links: Follow links that lead out of the folder, too.
        within: The folder that links may not lead out of, if that is not the root itself.
        hidden: What is taken although its name begins with a dot.

    Raises:
        InputError: If nothing is found because all there is are such links.
    """
    return warn_left_out(root, search(root, wanted, follow_links, within, hidden)).names


def search(
    root: Path,
    wanted: Callable[[str], bool],
    follow_links: bool = False,
    within: Path | None = None,
    hidden: Hidden = "none",
    counted: Callable[[str], bool] | None = None,
) -> Walked:
    """`walk` without warnings; hidden files that are `counted` are among what was left out."""
    inside = None if follow_links else places(within or root)
    walker = _Walker(wanted, inside, hidden, counted)
    walker.enter(Entry("", str(root), False))
    while walker.links:  # last, so that a file goes by its own name where it has one
        links, walker.links = sorted(walker.links), []
        for link in links:
            walker.follow(link)
    return walker.found()


def warn_left_out(root: Path, found: Walked) -> Walked:
    """Warn about what a walk left out, hidden files apart, which are no news."""
    for reason, left_out in found.left_out.items():
        if reason == HIDDEN_FILES:
            continue
        message = f"{root}: {reason} are left out: {_listed(left_out)}"
        if reason == _LEADS_OUT:
            message += f"; {FOLLOW}"
            if not found.names:
                raise InputError(message)
        rank_zero_warn(printable(message))
    return found


def glob_files(pattern: str, follow_links: bool = False) -> list[Path]:
    """The files that a glob stands for, each once; `**` is any number of folders.

    Links may not lead out of the folder that the pattern names before its first wildcard.
    """
    parts = Path(pattern).parts
    fixed = Path(*takewhile(lambda part: not glob.has_magic(part), parts))
    tail = Path(pattern).relative_to(fixed).parts
    if not fixed.is_dir():
        return []
    if "**" in tail:
        hidden = "all" if any(part.startswith(".") for part in tail) else "none"
        names = walk(fixed, lambda _: True, follow_links, hidden=hidden)
        return [fixed / name for name in names if _matches(name.split("/"), tail)]
    walker = _Walker(lambda _: True, None if follow_links else places(fixed), "all")
    for match in glob.glob(pattern):  # no deeper than the pattern is
        if not os.path.isdir(match):
            name = Path(match).relative_to(fixed).as_posix()
            walker.follow(Entry(name, match, os.path.islink(match)))
    return [fixed / name for name in warn_left_out(fixed, walker.found()).names]


def _matches(name: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return True if a path matches a glob, both in parts."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        shown = list(takewhile(lambda part: not part.startswith("."), name))
        return any(_matches(name[i:], pattern[1:]) for i in range(len(shown) + 1))
    if not name or name[0].startswith(".") and not pattern[0].startswith("."):
        return False
    return fnmatchcase(name[0], pattern[0]) and _matches(name[1:], pattern[1:])


def places(folder: Path) -> list[Path]:
    """Folders that links may lead to: the folder itself, or the store of a hub's snapshot."""
    place = Path(os.path.realpath(folder))
    if place.parent.name == "snapshots":  # as huggingface_hub lays out what it fetches
        return [place, place.parent.parent / "blobs"]
    return [place]


def leads_out(path: Path, folder: Path) -> bool:
    """Return True if a path leads to something outside of a folder."""
    real = Path(os.path.realpath(path))
    return not any(real.is_relative_to(place) for place in places(folder))


def require_inside(path: Path, folder: Path, follow_links: bool) -> None:
    """Raise ValueError if a path is, or has in it, a link out of the folder."""
    if not follow_links and leads_out(path, folder):
        raise InputError(f"{path} is a link that leads out of {folder}: {FOLLOW}")


_LEADS_OUT = "links that lead out of it"
_IRREGULAR = "FIFOs, devices and sockets"
_BROKEN = "links that lead nowhere"
_CLOSED = "folders that cannot be read"
HIDDEN_FILES = "hidden files"
HIDDEN_FOLDERS = "files in hidden folders"


class _Walker:
    """State of a walk; `inside` is where links may lead, None for anywhere."""

    def __init__(
        self,
        wanted: Callable[[str], bool],
        inside: list[Path] | None,
        hidden: Hidden,
        counted: Callable[[str], bool] | None = None,
    ) -> None:
        self.wanted, self.inside, self.hidden, self.counted = wanted, inside, hidden, counted
        self.links: list[Entry] = []
        self.left_out: dict[str, list[str]] = defaultdict(list)
        self._found: list[tuple[bool, str, Key]] = []
        self._hidden: dict[tuple[str, str], Key] = {}  # of reason and name
        self._entered: set[Key] = set()

    def found(self) -> Walked:
        """Each file once: by the first of its own names, else of links to it."""
        first: dict[object, str] = {}
        for _, name, key in sorted(self._found):
            first.setdefault(key if key[1] else name, name)  # some file systems know no inodes
        left_out = {reason: sorted(names) for reason, names in self.left_out.items()}
        for (reason, name), key in sorted(self._hidden.items()):
            if key not in first:  # else a link leads to it
                left_out.setdefault(reason, []).append(name)
        return Walked(sorted(first.values()), left_out)

    def enter(self, folder: Entry) -> None:
        """Goes through a folder and all below it, and puts links aside."""
        folders = [folder]
        while folders:
            folder = folders.pop()
            try:
                if self._is_new(folder):
                    for entry in self._entries(folder):
                        if entry.is_link:
                            self.links.append(entry)
                        elif self._take(entry, os.lstat(entry.path)):
                            folders.append(entry)
            except OSError:
                self.left_out[_CLOSED].append(folder.name or ".")

    def follow(self, link: Entry) -> None:
        if not self.wanted(link.name.rpartition("/")[2]) and not os.path.isdir(link.path):
            return
        real = Path(os.path.realpath(link.path))
        if self.inside is not None and not any(real.is_relative_to(p) for p in self.inside):
            self.left_out[_LEADS_OUT].append(link.name)
            return
        try:
            is_folder = self._take(link, os.stat(link.path))
        except OSError:
            self.left_out[_BROKEN].append(link.name)
            return
        if is_folder:
            self.enter(link)

    def _entries(self, folder: Entry) -> Iterable[Entry]:
        with os.scandir(folder.path) as entries:
            for entry in entries:
                name = f"{folder.name}/{entry.name}" if folder.name else entry.name
                if self.hidden == "all" or not entry.name.startswith("."):
                    yield Entry(name, entry.path, entry.is_symlink())
                elif self.counted and not entry.is_symlink():
                    self._count_hidden(name, entry)

    def _count_hidden(self, name: str, entry: os.DirEntry) -> None:
        """Note a hidden file, or those of a hidden folder, that would be read but for its name."""
        assert self.counted is not None
        if not entry.is_dir():
            if self.counted(entry.name):
                self._hidden[HIDDEN_FILES, name] = _key(entry.path)
            return
        for folder, _, files in os.walk(entry.path):
            inner = os.path.relpath(folder, entry.path).replace(os.sep, "/")
            for file in filter(self.counted, files):
                shown = f"{name}/{file}" if inner == "." else f"{name}/{inner}/{file}"
                self._hidden[HIDDEN_FOLDERS, shown] = _key(os.path.join(folder, file))

    def _is_new(self, folder: Entry) -> bool:
        status = os.stat(folder.path)
        key = status.st_dev, status.st_ino
        known = key in self._entered
        self._entered.add(key)
        return not known or not status.st_ino

    def _take(self, entry: Entry, status: os.stat_result) -> bool:
        """Notes a file; whether it is a folder."""
        if stat.S_ISDIR(status.st_mode):
            return True
        if self.wanted(entry.name.rpartition("/")[2]):
            if stat.S_ISREG(status.st_mode):
                key = status.st_dev, status.st_ino
                self._found.append((entry.is_link, entry.name, key))
            else:
                self.left_out[_IRREGULAR].append(entry.name)
        return False


def _key(path: str) -> Key:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _listed(names: list[str]) -> str:
    """`4 (a, b, c, ...)`"""
    shown = sorted(names)[:3] + ["..."] * (len(names) > 3)
    return f"{len(names)} ({', '.join(shown)})"
