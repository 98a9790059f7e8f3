"""SSCD (Pizzi et al., 2022), a network that learned to recognise altered copies: `sscd:PATH`.

It comes as a file: weights, which run nothing, or TorchScript, which is a program.
"""

import hashlib
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from novum.core import security
from novum.core.errors import InputError, first_line
from novum.core.pretrained import fold_batch_norms, load_weights
from novum.metrics.features.extraction import resize, weights_hash
from novum.metrics.features.extractor import FeatureExtractor

SIDE = 288  # px, as published: the whole image as a square
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
POWER = 3.0  # of the generalised mean over places
BACKBONE = "backbone."


class Sscd(FeatureExtractor):
    """Descriptors of unit length by the network in a file.

    Args:
        path: Weights of a torchvision ResNet-18 or ResNet-50 (`*.torchvision.pt`), or TorchScript
            (`*.torchscript.pt`), which takes normalised images and gives a descriptor each.
        size: px that images are resized to.
    """

    LAYER = "descriptor"
    mean: Tensor
    std: Tensor

    def __init__(self, path: str | Path, size: int = 0) -> None:
        super().__init__(f"sscd:{path}")
        self.path, self.size = Path(path), size or SIDE
        if not self.path.is_file():
            raise InputError(f"weights of 'sscd': there is no file {path}")
        if _is_program(self.path):
            self.network, known = _program(self.path), _digest(self.path)
        else:
            self.network = _network(self.path)
            known = weights_hash(self.network)
        self.spec = f"sscd/{self.LAYER}/bilinear-antialias-{self.size}/float32/weights-{known}"
        self.register_buffer("mean", 255 * torch.tensor(MEAN)[:, None, None], False)
        self.register_buffer("std", 255 * torch.tensor(STD)[:, None, None], False)
        self.requires_grad_(False).eval()

    def features(self, images: Tensor) -> Tensor:
        x = (resize(images, self.size) - self.mean) / self.std
        try:
            found = self.network(x)
        except Exception as error:  # of a program that is another's
            raise InputError(f"{self.path} fails on images: {first_line(error)}") from error
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(images):
            raise InputError(f"{self.path} gives no descriptor (n, d) of images (n, 3, h, w)")
        return F.normalize(found.float())


class GeneralisedMean(nn.Module):
    """Mean of the p-th powers over all places, to the power of 1 / p (Radenović et al., 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=1e-6).pow(POWER).mean((2, 3), keepdim=True).pow(1 / POWER)


def _is_program(path: Path) -> bool:
    """TorchScript is a zip file that has its code beside the weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        parts = [name.split("/")[1:] for name in archive.namelist()]
    return any(part[:1] == ["code"] or part == ["constants.pkl"] for part in parts)


def _program(path: Path) -> nn.Module:
    if not security.trusts_all():
        raise InputError(
            f"{path} is TorchScript, which is a program: --trust if it is yours (from code:"
            " novum.trusting), or give the network's weights (*.torchvision.pt)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that TorchScript is old
            return torch.jit.load(path, map_location="cpu").eval()
    except Exception as error:  # a damaged file raises about anything
        raise InputError(f"{path} is damaged TorchScript: {first_line(error)}") from error


def _network(path: Path) -> nn.Module:
    """A torchvision ResNet with the weights of a file; nothing is unpickled."""
    from torchvision.models import resnet18, resnet50

    weights = {name.removeprefix(BACKBONE): x for name, x in load_weights(path).items()}
    build: Any = resnet50 if "layer1.0.conv3.weight" in weights else resnet18
    try:
        network = build(num_classes=len(weights["fc.weight"]))
        network.load_state_dict(weights)
    except (RuntimeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not hold the weights of a torchvision ResNet-18 or ResNet-50: give SSCD's"
            " *.torchvision.pt"
        ) from error
    network.avgpool = GeneralisedMean()
    return fold_batch_norms(network.eval())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
