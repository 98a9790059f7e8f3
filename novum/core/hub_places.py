"""Names of places on the Hugging Face Hub."""

import re

from novum.core.errors import InputError

HUB = "hf://"
DATASETS = "hf://datasets/"
NAME = r"\w[\w.-]*/\w[\w.-]*"  # OWNER/NAME


def is_hub(place: object) -> bool:
    """Return True of a place on the hub."""
    return isinstance(place, str) and place.startswith(HUB)


def dataset_name(place: str) -> str:
    """`OWNER/NAME[:CONFIG]`, or `NAME`, as `datasets` calls a data set of the hub."""
    name = place.removeprefix(DATASETS).rstrip("/")
    if not place.startswith(DATASETS) or not re.fullmatch(rf"({NAME}|\w[\w.-]*)(:[\w.-]+)?", name):
        raise InputError(f"{place} is no data set: give {DATASETS}OWNER/NAME, or OWNER/NAME:CONFIG")
    return name
