"""Cost of Lightning in a step of a dream and of a style transfer at 256 px.

    python benchmarks/single_image_overhead.py [--steps 60] [--rounds 8] [--output FILE.json]

Each recipe is run under Lightning, as a user runs it (manual optimization, logger, bar and losses
on), and in a plain loop over the same objective, in turn; both with EfficientNet-Lite0, the network
of the configs and the fastest there is. Only steady steps are counted, not the trainer's start.
"""

import argparse
import tempfile
import warnings

import torch
from _steps import Clock, fit, rows, steps_in_turn
from _tables import show
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from novum.datamodules import SingleImageDataModule, StyleImageDataModule
from novum.lightning_modules import DeepDream, StyleTransfer
from novum.lightning_modules.dreams.deep_dream import normalised
from novum.lightning_modules.dreams.gradient_blur import smooth
from novum.lightning_modules.networks import Backbone

SIZE = 256
LAYERS = ["conv_stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3"]


def dream(backbone: Backbone, steps: int) -> DeepDream:
    return DeepDream(
        backbone,
        ["blocks.3.2", "blocks.5.1"],
        objective="l2",
        octaves=(0, 0),
        steps=steps,
        step_size=0.015,
        normalise="standardise",
        smoothing=0.5,
    )


def bare_dream(module: DeepDream, source: Tensor, clock: Clock) -> None:
    """The same steps without Lightning, optimizer, logger or bar."""
    image = source.clone()
    module.image.data = image  # for its shape
    for step in range(module.steps):
        shift = module._shift(step)
        _, gradient = module.gradient(image.roll(shift, (2, 3)))
        gradient = smooth(gradient, (step + 1) / module.steps * 2 + module.smoothing)
        gradient = normalised(gradient, module.normalise).roll([-s for s in shift], (2, 3))
        image = image.add(gradient, alpha=module.step_size).clamp_(0, 1)
        clock.tick()


def style(backbone: Backbone, steps: int) -> StyleTransfer:
    return StyleTransfer(
        backbone, ["blocks.3"], ["image", *LAYERS], min_scale=SIZE, initial_steps=steps
    )


def bare_style(module: StyleTransfer, steps: int, clock: Clock) -> None:
    """The same steps, average included; `module` holds the targets of a run of one step."""
    image = module.contents.clone().requires_grad_()
    average = image.detach().clone()
    optimizer = torch.optim.Adam([image], lr=0.02, betas=(0.9, 0.99))
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack(list(module.terms(image).values())).sum().backward()
        optimizer.step()
        with torch.no_grad():
            image.clamp_(0, 1)
            average.lerp_(image, 0.01)
        clock.tick()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    backbone, steps = Backbone("efficientnet_lite0"), args.steps
    image = SingleImageDataModule("china.jpg", size=SIZE)
    pair = StyleImageDataModule(["china.jpg"], ["flower.jpg"], size=SIZE)
    source, bare_module = image.train_reference()[:] / 255, dream(backbone, steps)
    targets = style(backbone, 1)
    fit(targets, pair)
    table = []
    with tempfile.TemporaryDirectory() as folder:
        logger = TensorBoardLogger(folder)
        for technique, ours, bare in (
            (
                "dream",
                lambda clock: fit(dream(backbone, steps), image, clock, logger=logger),
                lambda clock: bare_dream(bare_module, source, clock),
            ),
            (
                "style transfer",
                lambda clock: fit(style(backbone, steps), pair, clock, logger=logger),
                lambda clock: bare_style(targets, steps, clock),
            ),
        ):
            seconds = steps_in_turn({"under Lightning": ours, "bare loop": bare}, args.rounds)
            table += [{"technique": technique, **row} for row in rows(seconds, "under Lightning")]
    show(f"Steady steps, longer side {SIZE} px", table, args.output)


if __name__ == "__main__":
    main()
