"""Networks by name, with what each takes for input and calls its outputs."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import timm
from torch import nn
from torchvision import models

from novum.core.checkpoints import load_module
from novum.core.errors import InputError
from novum.core.pretrained import LITE, efficientnet_lite, find_weights, load_weights

if TYPE_CHECKING:
    from novum.lightning_modules.classifier import Classifier

TORCHVISION = ("inception_v3", "googlenet", "vgg16", "vgg19", "resnet50")
HUB = "https://huggingface.co/{}/resolve/main/model.safetensors"


@dataclass
class Network:
    """A classifier and its interface."""

    module: nn.Module  # normalised images (n, channels, h, w) -> logits (n, classes)
    input_size: int  # px it was trained at
    mean: tuple[float, ...]  # of images in [0, 1], per channel
    std: tuple[float, ...]
    class_names: list[str]
    channels: int = 3


def build(name: str, weights: str) -> Network:
    """The network of that name; `weights` is a path, cache, download or none."""
    if name.startswith("checkpoint:"):
        return _ours(name.removeprefix("checkpoint:"))
    if name in LITE:
        return _lite(name, weights)
    if name in TORCHVISION:
        return _torchvision(name, weights)
    if timm.is_model(name):
        return _timm(name, weights)
    known = [*LITE, *TORCHVISION, *timm.list_models()]
    near = difflib.get_close_matches(name, known, 3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(
        f"no network '{name}': {hint}there are {', '.join((*LITE, *TORCHVISION))}, timm's models"
        " by their names, and checkpoint:PATH"
    )


def imagenet_classes() -> list[str]:
    """The 1000 classes of ILSVRC-2012 by short English names."""
    return list(models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def _ours(path: str) -> Network:
    """Network of a Novum classifier's checkpoint; it takes images in [-1, 1]."""
    module = cast("Classifier", load_module(Path(path), method="classify", kind="classifier"))
    half = (0.5,) * module.channels
    names = list(module.class_names)
    return Network(module.network, module.image_size, half, half, names, module.channels)


def _lite(name: str, weights: str) -> Network:
    if weights == "none":
        module = timm.create_model(f"tf_{name}", pretrained=False)
    else:
        path = None if weights in ("cache", "download") else weights
        module = efficientnet_lite(name, path)
    return _from_timm_config(module)


def _torchvision(name: str, weights: str) -> Network:
    published = models.get_model_weights(name)["IMAGENET1K_V1"]  # those that the papers used
    # the Inception networks take [-1, 1]; their transform_input maps from ImageNet's moments to it
    inception = name in ("inception_v3", "googlenet")
    options = {"aux_logits": False, "transform_input": False} if inception else {}
    if name != "resnet50":  # which has no such switch; the others' own initialisation is slow
        options["init_weights"] = weights == "none"
    module = models.get_model(name, weights=None, **options)
    preset = published.transforms()
    _load(module, name, published.url, Path(published.url).name, weights)
    return Network(
        module,
        preset.crop_size[0],
        (0.5,) * 3 if inception else tuple(preset.mean),
        (0.5,) * 3 if inception else tuple(preset.std),
        imagenet_classes(),
    )


def _timm(name: str, weights: str) -> Network:
    module = timm.create_model(name, pretrained=False)
    config = cast("dict[str, Any]", module.pretrained_cfg)
    url = HUB.format(config["hf_hub_id"]) if config.get("hf_hub_id") else config.get("url", "")
    if not url and weights in ("cache", "download"):
        raise InputError(f"timm publishes no weights of '{name}': give weights a path, or none")
    _load(module, name, url, f"{name}{Path(url).suffix}", weights)
    return _from_timm_config(module)


def _from_timm_config(module: nn.Module) -> Network:
    config = cast("dict[str, Any]", module.pretrained_cfg)
    classes = cast(int, module.num_classes)
    names = imagenet_classes() if classes == 1000 else [str(i) for i in range(classes)]
    size = config["input_size"][-1]
    return Network(module, size, tuple(config["mean"]), tuple(config["std"]), names)


def _load(module: nn.Module, name: str, url: str, filename: str, weights: str) -> None:
    """Weights into the module, as built where they are none; auxiliary heads are left out."""
    if weights == "none":
        return
    path = None if weights in ("cache", "download") else weights
    found = find_weights(name, url, filename, path, download=weights == "download")
    tensors = {k: v for k, v in load_weights(found).items() if not k.lower().startswith("aux")}
    try:
        module.load_state_dict(tensors)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(f"{found} does not hold the weights of {name}") from error


def paper_names(module: nn.Module, name: str) -> dict[str, str]:
    """Layer names of papers -> modules that compute them."""
    if name == "inception_v3":  # as Keras numbers them
        modules = [f"Mixed_{x}" for x in "5b 5c 5d 6a 6b 6c 6d 6e 7a 7b 7c".split()]
        return {f"mixed{i}": m for i, m in enumerate(modules)}
    if name == "googlenet":  # Lucid's and Caffe's
        blocks = [x.removeprefix("inception") for x, _ in module.named_children() if "ion" in x]
        lucid = {f"mixed{x}": f"inception{x}" for x in blocks}
        return lucid | {f"inception_{x}/output": f"inception{x}" for x in blocks}
    if name.startswith("resnet"):  # He et al., 2015, table 1
        return {f"conv{i + 1}_x": f"layer{i}" for i in range(1, 5)}
    if name.startswith("vgg"):
        return _vgg_names(cast(nn.Sequential, module.features))
    return {}


def _vgg_names(features: nn.Sequential) -> dict[str, str]:
    """conv4_2, relu3_1, pool5: block and number within it (Simonyan and Zisserman, 2015)."""
    names, block, number = {}, 1, 0
    for i, layer in enumerate(features):
        if isinstance(layer, nn.Conv2d):
            number += 1
            names[f"conv{block}_{number}"] = f"features.{i}"
        elif isinstance(layer, nn.ReLU):
            names[f"relu{block}_{number}"] = f"features.{i}"
        elif isinstance(layer, nn.MaxPool2d):
            names[f"pool{block}"] = f"features.{i}"
            block, number = block + 1, 0
    return names
