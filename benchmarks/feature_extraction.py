"""Images per second of our feature extractors against torch-fidelity's InceptionV3.

    python benchmarks/feature_extraction.py [--images 128] [--size 32] [--weights FILE]

torch-fidelity is called as it calls itself, 64 images at a time; ours through `extract_features`.
Without a file of the published weights both Inceptions get the same random ones.
"""

import argparse
import io
import os
import statistics
import tempfile
import warnings
from pathlib import Path
from unittest.mock import patch

import torch
from _tables import in_turn, median_ratio, show
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from novum.metrics.features import extract_features, load_extractor
from novum.metrics.features.inception import Inception, InceptionBFloat16


def random_weights(folder: str) -> str:
    """A file of random weights that tell images apart, with batch norms that do something."""
    torch.manual_seed(0)
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], empty)
    for name, tensor in network.state_dict().items():
        if tensor.ndim == 4:
            torch.nn.init.kaiming_normal_(tensor)
        elif name.endswith(("running_var", "bn.weight")):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bn.bias")):
            tensor.uniform_(-0.5, 0.5)
    torch.save(network.state_dict(), Path(folder) / "inception.pth")
    return str(Path(folder) / "inception.pth")


@torch.inference_mode()
def peers_features(extractor: FeatureExtractorInceptionV3, images: Tensor) -> Tensor:
    return torch.cat([extractor(batch.to(DEVICE))[0].cpu() for batch in images.split(64)])


def largest_difference(features: Tensor, expected: Tensor) -> float:
    """Largest |difference| / |expected| of an image's features."""
    return float(((features - expected).norm(dim=1) / expected.norm(dim=1)).max())


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PEER = "torch-fidelity inception-v3-compat"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights")
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    generator = torch.Generator().manual_seed(0)
    shape = (args.images, 3, args.size, args.size)
    images = torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = args.weights or random_weights(folder)
        theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], path).to(DEVICE)
        ours = {
            "inception": Inception(feature_extractor_weights_path=path),
            "inception, bfloat16": InceptionBFloat16(feature_extractor_weights_path=path),
            "efficientnet_lite0 (64 px)": load_extractor("efficientnet_lite0"),
        }

    def features(name: str) -> Tensor:
        return extract_features(ours[name], images, progress=False, device=DEVICE)

    load_before = os.getloadavg()[0]
    contestants = {PEER: lambda: peers_features(theirs, images)}
    contestants |= {name: lambda name=name: features(name) for name in ours}
    seconds = in_turn(contestants, args.rounds)
    expected = contestants[PEER]()
    rows = []
    for name, times in seconds.items():
        same_network = "inception" in name
        difference = largest_difference(contestants[name](), expected) if same_network else ""
        rows.append(
            {
                "extractor": name,
                "images/s": args.images / statistics.median(times),
                "times torch-fidelity": median_ratio(times, seconds[PEER]),
                "relative difference": difference,
            }
        )
    load = f"load {load_before:.1f} to {os.getloadavg()[0]:.1f}"
    show(f"Features of {args.images} images of {args.size} px, {load}", rows, args.output)


if __name__ == "__main__":
    main()
