"""Arguments that are places, and where untrusted files may read and write."""

import os
import re
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from novum.core.security.specs import CheckPlace
from novum.core.security.untrusted import Untrusted

FETCHED = ("cache", "download", "none")  # weights by their publisher, or none
EMBEDDED = ("china.jpg", "flower.jpg", "noise")
CHECKPOINT = "checkpoint:"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # characters that a terminal obeys
TEXTS = ("alphabet", "merges", "prime")  # arguments that may hold any character
MOST_PROCESSES = 64


def anywhere(cls: type, name: str, value: Any) -> None:
    """The `CheckPlace` of files that the user trusts."""


def within(folder: Path | None, typed: Collection[str] = ()) -> CheckPlace:
    """Reading inside of a folder only, and nowhere if it is None; writing nowhere.

    Args:
        folder: What was handed over.
        typed: What the user typed, who may be asked for these places as well.
    """
    return partial(_check, folder, frozenset(typed))


def _check(folder: Path | None, typed: frozenset[str], cls: type, name: str, value: Any) -> None:
    if name == "follow_links" and value:
        raise Untrusted("follows links that lead anywhere")
    if (cls.__name__, name) in PROCESSES:
        _count_processes(value)
    rule = PLACES.get((cls.__name__, name), _read_nothing if name in TEXTS else _show)
    for text in value if isinstance(value, list | tuple) else (value,):
        if isinstance(text, str) and text not in typed:
            rule(folder, text)


def _read_nothing(folder: Path | None, text: str) -> None:
    """Rule for a text that is neither a place nor shown."""


def _show(folder: Path | None, text: str) -> None:
    """Metrics, layers and columns are shown by these names."""
    if CONTROL.search(text):
        raise Untrusted(f"holds control characters: {text[:100]}")


def _count_processes(value: Any) -> None:
    text = str(value)[:9]
    number = int(text) if text.isdecimal() else 0
    if number > MOST_PROCESSES:
        raise Untrusted(f"starts {text} processes, more than {MOST_PROCESSES}")


def _read(folder: Path | None, text: str) -> None:
    if "://" in text or folder is None or not _lies_in(folder, text):
        raise Untrusted(f"reads {text[:300]}, outside of {folder or 'what was given'}")


def _read_existing(folder: Path | None, text: str) -> None:
    """Rule for names that are looked for on a hub if no such file is here."""
    _read(folder, text)
    if not os.path.exists(os.path.expanduser(text)):
        raise Untrusted(f"reads {text[:300]}, which is not here and may be a name on a hub")


def _lies_in(folder: Path, text: str) -> bool:
    """Return True if a plain path, links followed, is inside; globs could match other links."""
    if any(sign in text for sign in "*?[\0") or len(text) > 4096:
        return False
    found = os.path.realpath(os.path.expanduser(text))  # unlike Path, of links in a circle as well
    return Path(found).is_relative_to(folder.resolve())


def _read_groups(folder: Path | None, text: str) -> None:
    """Rule for a file or a pattern, which may be one whose search has no end."""
    if not os.path.isfile(os.path.expanduser(text)):
        raise Untrusted(f"groups images by the pattern {text[:100]}")
    _read(folder, text)


def _read_image(folder: Path | None, text: str) -> None:
    if text not in EMBEDDED or Path(text).exists():  # a file of that name comes first
        _read(folder, text)


def _read_checkpoint(folder: Path | None, text: str) -> None:
    """Rule for names, of which only checkpoint:PATH is a place."""
    if text.startswith(CHECKPOINT):
        _read(folder, text.removeprefix(CHECKPOINT))


def _read_extractor(folder: Path | None, text: str) -> None:
    """Those registered by others may unpickle what they download."""
    _read_checkpoint(folder, text)
    if not text.startswith(CHECKPOINT) and text.partition("@")[0] not in EXTRACTORS:
        raise Untrusted(f"names the feature extractor {text[:100]}, which is not on the list")


def _weights(folder: Path | None, text: str) -> None:
    if text not in FETCHED:
        raise Untrusted(f"names weights, {text[:100]}")


def _write(folder: Path | None, text: str) -> None:
    raise Untrusted(f"writes to {text[:100]}")


def _write_suffix(folder: Path | None, text: str) -> None:
    if text and not text.replace("-", "").replace("_", "").replace(".", "").isalnum():
        _write(folder, text)


PROCESSES = {("ImageDataModule", "num_workers"), ("Trainer", "devices"), ("Trainer", "num_nodes")}
EXTRACTORS = ("clip", "dinov2", "efficientnet_lite0", "inception", "inception_bf16", "pixels")
PLACES: dict[tuple[str, str], Callable[[Path | None, str], None]] = {
    ("ImageDataModule", "path"): _read_existing,
    ("ImageDataModule", "predict_path"): _read_existing,
    ("ImageDataModule", "groups"): _read_groups,
    ("TextDataModule", "files"): _read,
    ("TextDataModule", "path"): _read_existing,
    ("TextDataModule", "vocabulary_of"): _read,
    ("CharLSTM", "transfer"): _read,
    ("CharTransformer", "transfer"): _read,
    ("SingleImageDataModule", "image"): _read_image,
    ("SingleImageDataModule", "guide"): _read_image,
    ("StyleImageDataModule", "contents"): _read_image,
    ("StyleImageDataModule", "styles"): _read_image,
    ("StyleImageDataModule", "masks"): _read_image,
    ("StyleGAN", "transfer"): _read,
    ("LatentSpace", "classifier"): _read,
    ("Backbone", "name"): _read_checkpoint,
    ("Backbone", "weights"): _weights,
    ("FineTuned", "name"): _read_checkpoint,
    ("FineTuned", "weights"): _weights,
    ("ClassJudge", "network"): _read_checkpoint,
    ("ClassJudge", "weights"): _weights,
    ("WriteSamples", "folder"): _write,
    ("CSVLogger", "save_dir"): _write,
    ("TensorBoardLogger", "save_dir"): _write,
    ("TensorBoardLogger", "sub_dir"): _write,
    ("TensorBoardLogger", "filename_suffix"): _write_suffix,
    ("TensorBoardLogger", "comment"): _write_suffix,
    ("Trainer", "default_root_dir"): _write,
    ("Trainer", "model_registry"): _write,
    ("Trainer", "profiler"): _write,
} | {
    (callback, "features"): _read_extractor
    for callback in (
        "DensityCoverage",
        "FrechetDistanceCallback",
        "KernelDistance",
        "LatentSpace",
        "NearestNeighbours",
        "PrecisionRecall",
        "SetMetrics",
        "SourceDistance",
        "StyleSources",
        "TrainingHealth",
    )
}
