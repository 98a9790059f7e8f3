"""Checkpoints of ours: what one holds, and the module in it; nothing of theirs is unpickled."""

import contextlib
import importlib
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule

from novum import trust
from novum.errors import first_line, raised_by_us


def load_module(
    path: Path, method: str = "features", kind: str = "feature extractor"
) -> LightningModule:
    """The module with that method that a checkpoint holds, built by its saved arguments."""
    arguments = read_checkpoint(path).get("hyper_parameters") or {}
    if not isinstance(arguments, dict):
        raise ValueError(f"{path} is no checkpoint of ours: its arguments have no names")
    cls = _module_class(arguments.get("_class_path", ""), path, method, kind)
    try:
        trust.check(arguments)
    except trust.Untrusted as error:
        raise ValueError(
            f"{path} {error}: nothing but novum and torch is imported at a checkpoint's word; let"
            " `predict` write samples, and judge those"
        ) from error
    try:
        return cls.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a constructor says of damaged arguments or weights
        if isinstance(error, ValueError) and raised_by_us(error):
            raise
        raise ValueError(
            f"{path} is a damaged checkpoint: {cls.__name__} cannot be built from it"
            f" ({type(error).__name__}: {first_line(error)})"
        ) from error


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A Lightning checkpoint's contents, tensors left on disk; no code in it is run."""
    check_whole(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file raises about anything
        raise _damaged(path, first_line(error)) from error
    parts = ("state_dict", "pytorch-lightning_version")
    missing = [x for x in parts if not isinstance(checkpoint, dict) or x not in checkpoint]
    if missing:
        raise ValueError(f"{path} is no Lightning checkpoint: it has no {missing[0]}")
    for name in ("images_seen", "tokens_seen"):
        if not isinstance(checkpoint.get(name, 0), int):
            raise ValueError(f"{path} is a damaged checkpoint: its {name} is no number")
    return checkpoint


def check_whole(path: str | Path) -> None:
    """ValueError if a checkpoint is missing or not as it was written, to the last bit.

    torch.load compares no checksums: of a flipped bit it would make other weights.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no checkpoint {path}: give a .ckpt file of a run")
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:
        raise _damaged(path, first_line(error)) from error
    if broken is not None:
        raise _damaged(path, f"{broken} does not match its checksum")


def _damaged(path: str | Path, cause: str) -> ValueError:
    return ValueError(f"{path} is no checkpoint, or a damaged one: {cause}")


def _module_class(class_path: str, path: Path, method: str, kind: str) -> type[LightningModule]:
    module, _, name = str(class_path).rpartition(".")
    cls = None
    # never import what a file names, but from our own house
    if module.split(".")[0] == "novum" and not module.endswith("__main__"):
        with contextlib.suppress(ImportError):  # told below, with the name
            cls = getattr(importlib.import_module(module), name, None)
    if not callable(getattr(cls, method, None)):
        found = class_path or "no module's class"
        raise ValueError(
            f"{path} is not a {kind} checkpoint: it holds {found}, and a module of novum"
            f" with a method {method} is needed"
        )
    return cls
