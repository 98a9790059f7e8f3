"""Groups of images that are held out whole: the slices of a patient, the frames of a clip."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from novum.core.errors import InputError
from novum.core.files import read_regular
from novum.datamodules.sources.image_sources import ImageSource

SIDES = ("train", "heldout")
COLUMNS = ("image", "group")  # and `set`, where images of two sets have one name
ANY = ""  # side of images that are not split yet
MOST_BYTES = 1 << 28  # of a file of groups


def cut_groups(where: str, ids: Sequence[int | str], count: int, seed: int) -> Tensor:
    """Mask of about `count` images that are held out: whole groups, drawn at random.

    Raises:
        InputError: If an image has no group, or all have the same one.
    """
    found = list(find_groups(where, [(ANY, name) for name in ids]))
    names, number, sizes = np.unique(found, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise InputError(f"groups: all images are in {found[0]!r}: to hold one out takes two")
    order = np.random.default_rng(seed).permutation(len(names))
    held = np.abs(sizes[order].cumsum()[:-1] - count).argmin() + 1  # never all of them
    return torch.from_numpy(np.isin(number, order[:held]))


def read_groups(where: str, images: Mapping[str, ImageSource]) -> Tensor:
    """Number of the group of each training image, then of each held-out image, (t + h,) int64.

    Args:
        where: A CSV file with the columns image (as the report names it), group and, where both
            sets have images of one name, set (train or heldout); or a regular expression that is
            searched for in the names of images, of which the first group, or the whole match,
            names the group.
        images: The sets by name.

    Raises:
        InputError: If an image has no group, or a group is in both sets.
    """
    named = [(side, name) for side in SIDES if side in images for name in images[side].ids]
    found = list(find_groups(where, named))
    sides: dict[str, str] = {}
    for (side, _), group in zip(named, found, strict=True):
        if sides.setdefault(group, side) != side:
            raise InputError(
                f"groups: {group!r} is in training and in held-out images: hold out groups whole"
            )
    numbers = {group: i for i, group in enumerate(sides)}
    return torch.tensor([numbers[group] for group in found])


def find_groups(where: str, named: list[tuple[str, int | str]]) -> Iterator[str]:
    """Name of the group of each image, given as its side and its name.

    Raises:
        InputError: If an image has no group.
    """
    return _of_file(where, named) if Path(where).is_file() else _of_names(where, named)


def _of_names(pattern: str, named: list[tuple[str, int | str]]) -> Iterator[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"groups: {pattern!r} is neither a file nor a regular expression ({error})"
        ) from error
    for side, name in named:
        match = expression.search(str(name))
        if match is None:
            raise InputError(
                f"groups: {pattern!r} does not match {name!r}{_of(side)}: give a pattern that"
                " matches all names, or a CSV file with the columns image and group"
            )
        yield (match.group(1) or "") if expression.groups else match.group()


def _of_file(where: str, named: list[tuple[str, int | str]]) -> Iterator[str]:
    try:
        text = read_regular(where, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not text in UTF-8: give a CSV file") from error
    rows = csv.DictReader(text.splitlines())
    if not set(COLUMNS) <= set(rows.fieldnames or ()):
        raise InputError(f"{where} needs the columns {', '.join(COLUMNS)}: name them in line 1")
    groups: dict[tuple[str, str], str] = {}
    for row in rows:
        side, name, group = row.get("set") or ANY, row["image"], row["group"]
        groups[side, name] = group
        if groups.setdefault((ANY, name), group) != group:
            groups[ANY, name] = ""  # in two sets by one name
    for side, name in named:
        group = groups.get((side, str(name))) or groups.get((ANY, str(name)))
        if not group:
            raise InputError(f"{where} has no group for {name}{_of(side)}: add a line")
        yield group


def _of(side: str) -> str:
    return f" of {side}" if side else ""
