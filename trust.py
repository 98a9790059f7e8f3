"""What a file that nobody has to trust may ask for: the classes it names, the places it writes to.

A config on the command line is code. The config inside a picture, the one beside a checkpoint and
the arguments within a checkpoint are data: they may name our classes and torch's, and no more.
"""

import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import yaml

MOST_VALUES = 20_000  # of a config; aliases of YAML can unfold a small one without end
OURS = ("novum", "torch")
LIGHTNING = (*OURS, "pytorch_lightning", "lightning")
# what is not built as it is named, but runs, loads or fetches
DENIED = re.compile(r"torch\.(hub|load|jit|package|utils|distributed|multiprocessing)\b")
FILES = ("jpg", "jpeg", "png", "gif", "bmp", "webp", "tif", "tiff", "txt", "ckpt", "npy", "npz")
PICTURES = (b"\x89PNG", b"\xff\xd8\xff")  # no YAML; one of ours holds a config
PLACES = ("folder", "dirpath", "default_root_dir")  # arguments that something is written to


class Untrusted(ValueError):
    """Says what a file asks for that it may not have."""


def read_config(text: str) -> dict[str, Any]:
    """A YAML config of somebody else's, which names and writes nothing that it may not.

    Raises:
        Untrusted: If it does, or is no config.
    """
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Untrusted("is no YAML") from error
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise Untrusted("is no config")
    check(config, LIGHTNING)
    return config


def data_arguments(config: Path, cls: type) -> dict[str, Any] | None:
    """What a run's config gives the data module `cls`; None if its data is of another class.

    Raises:
        ValueError: If it is no config of a run.
    """
    try:
        data = read_config(config.read_text(encoding="utf-8"))["data"]
        arguments = data["init_args"]
        if not data["class_path"].endswith(f".{cls.__name__}"):
            return None
        inspect.signature(cls).bind(**arguments)
        return arguments
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{config} is no config of a run: mend it or move it away") from error


def arguments_of_run(checkpoint: Path, cls: type) -> dict[str, Any] | None:
    """The data module's arguments of a checkpoint's run, from config.yaml beside its folder."""
    if not checkpoint.is_file():
        raise FileNotFoundError(f"there is no checkpoint {checkpoint}")
    config = checkpoint.parent.parent / "config.yaml"
    return data_arguments(config, cls) if config.is_file() else None


def check(arguments: Any, heads: tuple[str, ...] = OURS) -> None:
    """Raises Untrusted unless all that would be imported for these arguments is known."""
    try:
        for number, (key, value) in enumerate(_values(arguments)):
            if number == MOST_VALUES:
                raise Untrusted("is far too large")
            _check_value(key, value, heads)
    except RecursionError as error:
        raise Untrusted("is nested too deeply") from error


def _values(value: Any, key: object = "") -> Iterator[tuple[object, Any]]:
    """Every plain value under the key that leads to it."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _values(part, name)
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from _values(part, key)
    yield key, value


def _check_value(key: object, value: Any, heads: tuple[str, ...]) -> None:
    if not isinstance(value, str) or key == "_instantiator":  # Lightning holds it to a list
        return
    if key == "class_path" or _importable(value):
        if value.split(".")[0] not in heads or DENIED.match(value):
            raise Untrusted(f"names {value}")
    if key in PLACES and (PurePath(value).is_absolute() or ".." in PurePath(value).parts):
        raise Untrusted(f"writes to {value}")
    if _is_config(value):
        raise Untrusted(f"takes in another file, {value}")


def _importable(value: str) -> bool:
    """Whether a value is a dotted name that starts with something that can be imported."""
    head, *rest = value.split(".")
    if not all(part.isidentifier() for part in (head, *rest)) or not rest or rest[-1] in FILES:
        return False
    return importlib.util.find_spec(head) is not None


def _is_config(value: str) -> bool:
    """Whether jsonargparse could read a class and its arguments out of a file of this name."""
    if len(value) > 4096 or "\0" in value or not Path(value).is_file():
        return False
    with open(value, "rb") as file:
        text = file.read(2**20)
    return b"class_path" in text and not text.startswith(PICTURES)
