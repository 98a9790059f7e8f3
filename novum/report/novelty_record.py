"""Evaluations of a run as TensorBoard's Novelty tab reads them: `novelty/` in the run's folder.

A line of timeline.jsonl for each evaluation, a file of its rows, and one picture of all their
images. They are written once; what is read may come from anybody, and is held to its shape.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from novum.core.files import open_regular, read_regular, whole_file, write_text
from novum.core.thinning import most_crowded
from novum.report.model import Estimate
from novum.report.schema import Misfit, build

FOLDER = "novelty"
TIMELINE = "timeline.jsonl"
COLUMNS = ("sample", "train", "heldout", "difference")  # of the picture, a row of it for each row
DIGITS = 15  # of a step in the name of a file
MOST_ROWS = 64
MOST_PICTURES = 500  # evaluations of a run that keep their pictures
MOST_BYTES = 1 << 26  # of a file that is read
SUFFIXES = {b"\x89PNG": "png", b"\xff\xd8\xff\xe0": "jpg"}  # by a picture's first bytes


@dataclass(frozen=True)
class ImageRow:
    """A sample beside its nearest images; its place in the list is its row of the picture."""

    sample: str | int
    train: str | int
    space: str  # in which the distances are
    pair: str = ""  # fingerprint of both
    heldout: str | int | None = None
    train_distance: float | None = None
    heldout_distance: float | None = None
    q: float | None = None
    named: bool = False  # by the copy test
    fact: str | None = None
    realism: float | None = None
    transform: str | None = None  # how the training image was altered
    ordinary: bool = False  # chosen at random


@dataclass(frozen=True)
class Stretch:
    """A part of a passage; `same` as on the other side, or not."""

    text: str
    same: bool = True


@dataclass(frozen=True)
class PassageRow:
    """A passage of a sample beside its source."""

    text: int  # number of the sample
    offset: int
    file: str
    file_offset: int
    length: int
    kind: str
    own: list[Stretch]
    source: list[Stretch]
    pair: str = ""
    before: str = ""  # text around the passage
    after: str = ""
    q: float | None = None
    bits: float | None = None
    identity: float | None = None
    named: bool = False
    fact: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the timeline."""

    step: int
    kind: str = "image"  # or text
    unit: str = "steps"  # that the step counts
    finding: str = ""
    headline: str = ""
    details: str = ""
    copy_rate: Estimate | None = None  # of all spaces together
    figures: dict[str, Estimate] = field(default_factory=dict)  # tag -> value
    facts: int = 0
    named: int = 0
    onset: str = ""  # of copying, as StopOnCopying says it
    redacted: bool = False


@dataclass(frozen=True)
class Rows:
    """The rows of one evaluation, of images or of text."""

    cell: list[int] = field(default_factory=list)  # width and height of an image in the picture
    images: list[ImageRow] = field(default_factory=list)
    passages: list[PassageRow] = field(default_factory=list)


def write_evaluation(
    run: Path, evaluation: Evaluation, rows: Rows | None = None, picture: bytes | None = None
) -> None:
    """Write an evaluation in the place of a former one of this step; the line goes last."""
    folder, stem = run / FOLDER, _stem(evaluation.step)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{stem}.rows.*"):
        old.unlink(missing_ok=True)
    if rows is not None:
        write_text(folder / f"{stem}.rows.json", json.dumps(_finite(asdict(rows))))
    if picture is not None:
        write_picture(run, evaluation.step, "rows", picture)
    values = asdict(evaluation)
    del values["onset"]  # is said on its own
    add_line(run, values)


def write_picture(run: Path, step: int, name: str, encoded: bytes) -> None:
    """Write PNG or JPEG bytes as the picture of that name, and remove what is beyond the limit."""
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    suffix = SUFFIXES.get(encoded[:4], "png")
    for other in set(SUFFIXES.values()) - {suffix}:
        (folder / f"{_stem(step)}.{name}.{other}").unlink(missing_ok=True)
    with whole_file(folder / f"{_stem(step)}.{name}.{suffix}") as file:
        file.write(encoded)
    _thin(folder, name)


def add_line(run: Path, values: Mapping[str, Any]) -> None:
    """Add what is known of an evaluation to the timeline; `values` hold its step."""
    (run / FOLDER).mkdir(parents=True, exist_ok=True)
    line = json.dumps(_finite(dict(values)))
    with (run / FOLDER / TIMELINE).open("ab") as file:  # after one that was cut off, too
        file.write(f"\n{line}".encode())


def read_timeline(run: Path) -> list[Evaluation]:
    """Evaluations in the order of their steps; of lines of one step the later ones count.

    Lines that are no part of an evaluation are passed over.
    """
    known: dict[int, dict[str, Any]] = {}
    for values in _lines(run / FOLDER / TIMELINE):
        step = values.get("step")
        if type(step) is int and 0 <= step < 10**DIGITS:
            known.setdefault(step, {}).update(values)
    found = []
    for _, values in sorted(known.items()):
        with suppress(Misfit):
            found.append(build(Evaluation, values, "an evaluation"))
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open_regular(path) as file:
        data = file.read(MOST_BYTES)
    for line in data.splitlines():
        with suppress(ValueError, RecursionError):
            values = json.loads(line)
            if isinstance(values, dict):
                yield values


def read_rows(run: Path, step: int) -> Rows:
    """Rows of an evaluation; none if it has none, or they have another shape."""
    path = run / FOLDER / f"{_stem(step)}.rows.json"
    if not path.is_file():
        return Rows()
    try:
        return build(Rows, json.loads(read_regular(path, MOST_BYTES)), "the rows")
    except (ValueError, RecursionError):
        return Rows()


def picture_path(run: Path, step: int, name: str) -> Path | None:
    """Path of a picture, if there is one, inside of the run's folder."""
    folder = run / FOLDER
    for suffix in SUFFIXES.values():
        path = folder / f"{_stem(step)}.{name}.{suffix}"
        if path.is_file() and path.resolve().parent == folder.resolve():
            return path
    return None


def _stem(step: int) -> str:
    return f"{step:0{DIGITS}d}"


def _thin(folder: Path, name: str) -> None:
    """Remove the picture that is nearest to its neighbours in log time, if there are too many."""
    paths = {
        int(path.name.split(".")[0]): path
        for suffix in SUFFIXES.values()
        for path in folder.glob(f"*.{name}.{suffix}")
        if path.name.split(".")[0].isdigit()
    }
    while len(paths) > MOST_PICTURES:
        paths.pop(most_crowded(sorted(paths))).unlink(missing_ok=True)


def _finite(values: Any) -> Any:
    """NaN and infinity, which JSON lacks, as unknown."""
    if isinstance(values, float):
        return float(f"{values:.6g}") if abs(values) < float("inf") else None
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return values
