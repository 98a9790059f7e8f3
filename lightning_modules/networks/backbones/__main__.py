"""List the layers of a network: `python -m novum.lightning_modules.networks.backbones NAME`."""

import argparse

import torch

from novum.core.errors import NovumError
from novum.lightning_modules.networks.backbones.backbone import Backbone


def main() -> None:
    parser = argparse.ArgumentParser(prog="backbones", description=__doc__)
    parser.add_argument("name", help="inception_v3, googlenet, vgg16, vgg19, resnet50, ...")
    try:
        list_layers(Backbone(parser.parse_args().name, weights="none"))
    except NovumError as error:
        parser.exit(error.exit_code, f"backbones: {error}\n")


@torch.inference_mode()
def list_layers(backbone: Backbone) -> None:
    """Print a line per layer: its name, the shape of its output, other names."""
    names = backbone.layers()
    papers: dict[str, list[str]] = {}
    for alias, layer in backbone.aliases.items():
        papers.setdefault(layer, []).append(alias)
    image = torch.zeros(1, 3, backbone.input_size, backbone.input_size)
    for name, x in backbone.activations(image, names).items():
        shape = " x ".join(map(str, x.shape[1:]))
        print(f"{name:<40} {shape:<18} {' '.join(papers.get(name, ()))}".rstrip())


if __name__ == "__main__":
    main()
