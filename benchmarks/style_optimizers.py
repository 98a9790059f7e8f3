"""Loss against wall-clock of Adam and L-BFGS, for both statistics of a style.

    python benchmarks/style_optimizers.py docs/images/style_optimizers.png [--seconds 30]

china.jpg in the style of flower.jpg at 256 px, one scale, EfficientNet-Lite0 with its weights. The
seconds are those of the steps, evaluations of the line search included; the losses are the image's
own, not the average's, and are read at each step, for both alike.
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from itertools import accumulate

import torch
from _steps import Clock, fit
from matplotlib.figure import Figure
from pytorch_lightning import Callback, Trainer

from novum.datamodules import StyleImageDataModule
from novum.lightning_modules import StyleTransfer
from novum.lightning_modules.networks import Backbone

SIZE = 256
LAYERS = ["conv_stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3"]
OPTIMIZERS: dict[str, Callable | None] = {
    "Adam, lr 0.02": None,  # the module's own
    "L-BFGS, lr 1": partial(torch.optim.LBFGS, max_iter=1, history_size=100),
    "L-BFGS, strong Wolfe": partial(
        torch.optim.LBFGS, max_iter=5, history_size=100, line_search_fn="strong_wolfe"
    ),
}


class Losses(Callback):
    """The loss of each step, until the time is up."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds, self.values = clock, seconds, []

    def on_train_batch_end(self, trainer: Trainer, pl_module: StyleTransfer, *rest) -> None:
        logged = trainer.callback_metrics
        self.values.append(sum(float(v) for k, v in logged.items() if k.startswith("loss/")))
        trainer.should_stop = self.clock.times[-1] - self.clock.times[0] > self.seconds


def curve(
    backbone: Backbone, statistic: str, optimizer: Callable | None, seconds: float
) -> tuple[list[float], list[float]]:
    """Seconds since the first step, and the least loss until then."""
    module = StyleTransfer(
        backbone,
        ["blocks.3"],
        ["image", *LAYERS],
        statistic=statistic,
        min_scale=SIZE,
        initial_steps=100_000,
        optimizer=optimizer,
    )
    clock = Clock()
    losses = Losses(clock, seconds)
    data = StyleImageDataModule(["china.jpg"], ["flower.jpg"], size=SIZE)
    fit(module, data, clock, callbacks=[losses], log_every_n_steps=1)
    return [t - clock.times[0] for t in clock.times], list(accumulate(losses.values, min))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", help="the PNG to write")
    parser.add_argument("--seconds", type=float, default=30, help="of each run")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    backbone = Backbone("efficientnet_lite0")
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, statistic in zip(figure.subplots(1, 2), ("wasserstein", "gram"), strict=True):
        for name, optimizer in OPTIMIZERS.items():
            times, losses = curve(backbone, statistic, optimizer, args.seconds)
            axes.plot(times, losses, label=name)
            at = [losses[sum(t <= s for t in times) - 1] for s in (args.seconds / 3, args.seconds)]
            print(f"{statistic}, {name}: {at[0]:.4f} at a third, {at[1]:.4f} at the end")
        axes.set(xlabel="seconds", ylabel="loss", yscale="log", title=statistic)
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    figure.savefig(args.picture, dpi=110)


if __name__ == "__main__":
    main()
