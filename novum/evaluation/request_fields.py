"""Checks of a request's fields: kinds that a program may mistake, and places of results."""

import os
from dataclasses import fields
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novum.core.errors import InputError

if TYPE_CHECKING:
    from novum.evaluation.request import Request

PLACES = ("samples", "train", "heldout")
WORDS = "classifier calibrate_by groups image_column text_column split encoding".split()
SWITCHES = "follow_links contamination ask_heldout quick quiet redacted".split()
LONGEST_NAME = 255  # bytes of a part of a path, in all file systems that we know of


def option(field: str) -> str:
    """`--num-samples` of num_samples."""
    return f"--{field.replace('_', '-')}"


def check_fields(request: "Request") -> None:
    """Raise InputError for a value of another kind than its field is of."""
    for name in PLACES:
        _check_place(name, getattr(request, name))
    defaults = {field.name: field.default for field in fields(request)}
    for name in WORDS:
        value = getattr(request, name)
        if value == defaults[name]:
            continue
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{option(name)} {value!r}: give a text, or leave it out")
    for name in SWITCHES:
        if not isinstance(getattr(request, name), bool):
            raise InputError(f"{option(name)} {getattr(request, name)!r}: give True or False")
    if not isinstance(request.output, Path | None) or "\0" in str(request.output):
        raise InputError(f"--output {request.output!r}: give the path of a folder")


def _check_place(name: str, place: Any) -> None:
    if not isinstance(place, str):
        return
    if not place.strip():
        raise InputError(f"--{name} is empty: give a path or a name")
    if place.startswith("~") and os.path.expanduser(place) == place and not os.path.exists(place):
        user = place.partition("/")[0]
        raise InputError(
            f"--{name} {place}: {user} has no home folder on this machine, give a path"
        )
    longest = max(len(part.encode("utf-8", "surrogatepass")) for part in place.split("/"))
    if longest > LONGEST_NAME:
        raise InputError(
            f"--{name} is a text of {len(place):,} characters, and no path: give a path, or texts"
            " in a list"
        )


def is_whole(value: object) -> bool:
    """True of whole numbers, those of NumPy among them, and not of True and False."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def require_apart(name: str, path: Path | None, places: dict[str, Any]) -> None:
    """Raise InputError for a result that would replace what is judged, or be read with it later.

    Args:
        name: The option, as --output.
        path: Written to.
        places: Samples, training and held-out data; only those that are files or folders count.
    """
    for side, place in places.items():
        if path is None or not isinstance(place, str) or "\0" in place:
            continue
        read, written = Path(os.path.expanduser(place)).resolve(), path.resolve()
        if read == written and not read.is_dir():
            raise InputError(f"{name} {path} would replace --{side}: give another place")
        if read.is_dir() and written.is_relative_to(read):
            raise InputError(
                f"{name} {path} is inside of --{side} {place}, which would be read with it the next"
                " time: give another place"
            )
