"""Labels in the dataset.json beside images, as dataset_tool of stylegan3 and its kin write it."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError, first_line, printable
from novum.core.files import read_regular
from novum.datamodules.sources.walk import require_inside

NAME = "dataset.json"
MOST_BYTES = 1 << 30  # of 10 million images


def read_content(root: Path, follow_links: bool) -> dict[str, Any] | None:
    """The file of a folder; None if there is none, or it is of something else."""
    path = root / NAME
    if not path.is_file():
        return None
    require_inside(path, root, follow_links)
    try:
        content = json.loads(read_regular(path, MOST_BYTES))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({first_line(error)}): repair it, or rename it if it is not of"
            " the images"
        ) from error
    return content if isinstance(content, dict) and "labels" in content else None


def labels_of(root: Path, content: dict[str, Any], names: list[str]) -> Tensor | None:
    """Labels (n,) int64 of images by their path below the folder; None if they are not all there.

    A file without them (`"labels": null`) is of a set without labels.
    """
    given = content["labels"]
    if given is None:
        return None
    try:
        known = {str(name).replace("\\", "/"): label for name, label in given}
    except (TypeError, ValueError) as error:
        raise InputError(
            f'{root / NAME}: "labels" must be a list of pairs, ["00000/a.png", 6], or null'
        ) from error
    classes = [label for label in known.values() if type(label) is int and label >= 0]
    missing = [name for name in names if name not in known]
    problem = ""
    if len(classes) < len(known):
        problem = "labels that are no classes, whole numbers from 0 up"
    elif missing:
        problem = f"no label for {len(missing):,} images, such as {missing[0]}"
    if problem:
        rank_zero_warn(printable(f"{root / NAME} has {problem}: the images are read without"))
        return None
    return torch.tensor([known[name] for name in names])
