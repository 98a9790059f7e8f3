"""Published weights: from a path, the cache folder, torch hub's folder, or a download."""

import os
import shutil
import urllib.request
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor

from novum.paths import cache_folder


def find_weights(name: str, url: str, filename: str, path: str | Path | None = None) -> Path:
    """The weights file of an extractor; if it is nowhere, one process of the machine fetches it."""
    if path is not None:
        if not Path(path).is_file():
            raise ValueError(f"weights of '{name}': there is no file {path}")
        return Path(path)
    stored = cache_folder() / "weights" / filename
    places = (stored, Path(torch.hub.get_dir()) / "checkpoints" / filename)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        try:
            _download(url, stored)
        except OSError as error:  # URLError and timeouts are OSErrors
            raise ValueError(
                f"no weights for '{name}': put {filename} into {stored.parent}, from {url}"
                f" (the download failed: {error})"
            ) from error
    return found or stored


def load_weights(path: Path) -> dict[str, Tensor]:
    """A state dict of plain tensors; nothing is unpickled."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        cause = str(error).strip().split("\n")[0]
        raise ValueError(f"{path} is no file of weights, or a damaged one: {cause}") from error


def _download(url: str, target: Path) -> None:
    """Fetch into place by a rename, one process at a time, so that no half file is ever found."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.is_file():  # another process was faster
            return
        partial = target.with_suffix(".part")
        with urllib.request.urlopen(url, timeout=30) as response, open(partial, "wb") as file:
            shutil.copyfileobj(response, file)
        os.replace(partial, target)
