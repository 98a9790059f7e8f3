"""Our dream under Lightning against gordicaleksa/pytorch-deepdream's loop, steady steps alone.

    python benchmarks/deep_dream.py [--size 384] [--steps 30] [--rounds 6] [--output FILE.json]

The peer's loop is written here from its published recipe (its repository's deepdream.py): jitter of
32 px, mean squared activation, three Gaussians of 9 x 9 taps over the gradient, zero mean and unit
deviation, steps of 0.09, clamp; its networks run on to the last layer that it exposes, as there
(vgg16 with relu4_3 is its default). Networks and random weights are the same for all, as are steps,
sizes and seeds. Where normalisation is the same for all colours (googlenet) the recipes are equal.
The objective is compared at the images through which the peer comes: final images may differ, since
the smallest rounding can turn a maximum of a pooling layer, and with it a part of the gradient.
With --bf16 ours also runs at trainer.precision bf16-mixed, which is another computation: a second
row. --clock cpu counts the process's own seconds, for a machine that others use too; run it with
OMP_NUM_THREADS=1.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from _steps import Clock, fit, rows, steps_in_turn
from _tables import show
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from novum.datamodules import SingleImageDataModule
from novum.lightning_modules import DeepDream
from novum.lightning_modules.networks import Backbone

RATIO, SMOOTHING = 1.8, 0.5
NETWORKS = {  # our layer, and the layer up to which the peer runs the network
    "googlenet": ("inception4c", "inception4e"),
    "resnet50": ("layer3", "layer4"),
    "vgg16": ("relu4_3", "pool5"),
}


def ours(backbone: Backbone, layer: str, octaves: int, steps: int) -> DeepDream:
    return DeepDream(
        backbone,
        [layer],
        objective="l2",
        octaves=(1 - octaves, 0),
        octave_scale=RATIO,
        steps=steps,
        step_size=0.09 * float(backbone.std.mean()),
        normalise="standardise",
        smoothing=SMOOTHING,
    )


class PeerNetwork(nn.Module):
    """The plain network up to a module, giving what one of its layers gives."""

    def __init__(self, backbone: Backbone, layer: str, last: str) -> None:
        super().__init__()
        layer, last = (backbone.aliases.get(x, x).removeprefix("features.") for x in (layer, last))
        network = backbone.network
        children = dict(getattr(network, "features", network).named_children())
        names = list(children)
        self.children_in_order = [children[n] for n in names[: names.index(last) + 1]]
        self.place = names.index(layer)

    def forward(self, x: Tensor) -> Tensor:
        found = x
        for i, child in enumerate(self.children_in_order):
            x = child(x)
            if i == self.place:
                found = x.clone() if isinstance(child, nn.ReLU) else x  # the next may be in place
        return found


def peer(
    module: DeepDream,
    network: PeerNetwork,
    source: Tensor,
    clock: Clock | None = None,
    path: list | None = None,
) -> None:
    """gordicaleksa's loop on normalised pixels; jitter from our seeds, so that the two agree."""
    mean, std = module.backbone.mean, module.backbone.std
    low, high = -mean / std, (1 - mean) / std
    image = (source - mean) / std
    for octave, stage in enumerate(module.stages(source.shape[-2:])):
        image = F.interpolate(image, stage.size, mode="bilinear")  # cv.resize
        for i in range(module.steps):
            module.image.data = image
            shift = module._shift(octave * module.steps + i)
            rolled = image.roll(shift, (2, 3)).requires_grad_()
            found = network(rolled)
            loss = nn.MSELoss()(found, torch.zeros_like(found))
            loss.backward()
            if path is not None:
                path.append((rolled.detach() * std + mean, loss.item()))
            gradient = cascade(rolled.grad, (i + 1) / module.steps * 2 + SMOOTHING)
            gradient = (gradient - gradient.mean()) / gradient.std()
            rolled = rolled.detach() + 0.09 * gradient
            rolled = torch.max(torch.min(rolled, high), low)
            image = rolled.roll([-s for s in shift], (2, 3))
            if clock is not None:
                clock.tick()


def cascade(gradient: Tensor, sigma: float) -> Tensor:
    """Mean of three blurs, each by a dense 9 x 9 kernel that is rebuilt at each step."""
    padded = F.pad(gradient, [4] * 4, mode="reflect")
    blurs = []
    for factor in (0.5, 1.0, 2.0):
        place = torch.arange(9, dtype=torch.float32) - 4
        row = (-((place / (factor * sigma)) ** 2) / 2).exp()
        kernel = torch.outer(row, row)
        blurs.append(F.conv2d(padded, (kernel / kernel.sum()).expand(3, 1, 9, 9), groups=3))
    return (blurs[0] + blurs[1] + blurs[2]) / 3


def largest_difference(module: DeepDream, network: PeerNetwork, source: Tensor) -> float:
    """Relative, between the peer's loss and our objective at every image of the peer's."""
    path: list[tuple[Tensor, float]] = []
    peer(module, network, source, path=path)
    with torch.no_grad():
        values = [float(module.objective(module.backbone, image)) for image, _ in path]
    return max(abs(ours / theirs - 1) for ours, (_, theirs) in zip(values, path, strict=True))


def compare(name: str, args: argparse.Namespace, folder: str, now: Callable) -> list[dict]:
    layer, last = NETWORKS[name]
    torch.manual_seed(0)
    backbone = Backbone(name, weights="none")
    for module in backbone.network.modules():
        if isinstance(module, nn.Conv2d):  # so that activations neither vanish nor explode
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    data = SingleImageDataModule("china.jpg", size=args.size)
    source = data.train_reference()[:] / 255
    plain, logger = PeerNetwork(backbone, layer, last), TensorBoardLogger(folder)
    dream = ours(backbone, layer, args.octaves, args.steps)

    def novum(clock: Clock, precision: str = "32-true") -> None:
        module = ours(backbone, layer, args.octaves, args.steps)
        fit(module, data, clock, logger=logger, precision=precision)

    contestants = {"novum": novum, "gordicaleksa": lambda clock: peer(dream, plain, source, clock)}
    if args.bf16:
        contestants["novum, bf16"] = lambda clock: novum(clock, "bf16-mixed")
    seconds = steps_in_turn(contestants, args.rounds, now)
    difference = f"{largest_difference(dream, plain, source):.1e}"
    return [
        {
            "network": name,
            **row,
            "objective differs by": difference if row["contestant"] == "gordicaleksa" else "",
        }
        for row in rows(seconds, "novum")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--steps", type=int, default=30, help="an octave; the peer has 10")
    parser.add_argument("--octaves", type=int, default=1, help="the peer's pyramid has 4")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--output")
    args = parser.parse_args()
    now = time.process_time if args.clock == "cpu" else time.perf_counter
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        table = [row for name in args.networks for row in compare(name, args, folder, now)]
    show(f"Steady dream steps, longer side {args.size} px", table, args.output)


if __name__ == "__main__":
    main()
