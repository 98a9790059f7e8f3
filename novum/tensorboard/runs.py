"""Runs below TensorBoard's log folder that have something for the Novelty tab."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from novum.report.novelty_record import FOLDER, TIMELINE, Evaluation, read_timeline

GONE = "0-0"  # version of a run that was removed a moment ago
KEPT = 5.0  # seconds until folders are looked through again


class Run(NamedTuple):
    """A run's folder; `inside` of the log folder, or linked from there."""

    folder: Path
    inside: bool


class Runs:
    """Runs by the name that TensorBoard gives them.

    Args:
        places: Log folders, by the name that stands before those of their runs, or "".
    """

    def __init__(self, places: dict[str, Path]) -> None:
        self.places = places
        self._found: dict[str, Run] = {}
        self._looked = float("-inf")
        self._timelines: dict[str, tuple[str, list[Evaluation]]] = {}

    def find(self) -> dict[str, Run]:
        """Return the runs that are there now, or were a moment ago."""
        if time.monotonic() - self._looked > KEPT:
            self._found = {
                name: run
                for prefix, root in self.places.items()
                for name, run in _below(prefix, root)
            }
            self._looked = time.monotonic()
        return self._found

    def timeline(self, name: str) -> list[Evaluation]:
        """Return the evaluations of a run, read again when the file has changed."""
        folder, version = self.find()[name].folder, self.version(name)
        if version == GONE:
            return []
        known = self._timelines.get(name)
        if known is None or known[0] != version:
            known = self._timelines[name] = version, read_timeline(folder)
        return known[1]

    def version(self, name: str) -> str:
        """Return a mark of a run's timeline, which changes when the file does."""
        try:
            found = (self.find()[name].folder / FOLDER / TIMELINE).stat()
        except FileNotFoundError:
            return GONE
        return f"{found.st_mtime_ns}-{found.st_size}"


def places_of(logdir: str, logdir_spec: str = "") -> dict[str, Path]:
    """Local log folders, as `--logdir` or `--logdir_spec` (NAME:FOLDER,...) name them."""
    if not logdir_spec:
        return {"": Path(logdir).expanduser()} if logdir and "://" not in logdir else {}
    places = {}
    for part in logdir_spec.split(","):
        name, colon, folder = part.partition(":")
        if "://" not in part:
            places[name if colon else ""] = Path(folder if colon else part).expanduser()
    return places


def _below(prefix: str, root: Path) -> Iterator[tuple[str, Run]]:
    """Links are followed, as TensorBoard does, but no folder is entered twice."""
    entered: set[tuple[int, int]] = set()
    real = Path(os.path.realpath(root))
    for place, folders, _ in os.walk(root, followlinks=True):
        key = _identity(place)
        if key is None or key in entered:
            folders.clear()
            continue
        entered.add(key)
        folders.sort()
        if FOLDER in folders and os.path.isfile(os.path.join(place, FOLDER, TIMELINE)):
            folders.remove(FOLDER)
            name = os.path.relpath(place, root)
            name = f"{prefix}/{name}".strip("/") if name != "." else prefix or "."
            inside = Path(os.path.realpath(place)).is_relative_to(real)
            yield name, Run(Path(place), inside)


def _identity(place: str) -> tuple[int, int] | None:
    """Device and number of a folder; None if it is gone since it was listed."""
    try:
        found = os.stat(place)
    except OSError:
        return None
    return found.st_dev, found.st_ino
