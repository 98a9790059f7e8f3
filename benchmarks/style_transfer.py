"""Style transfer steps against the objective of crowsonkb/style-transfer-pytorch, on one VGG19.

    python benchmarks/style_transfer.py [--steps 6] [--rounds 3] [--output FILE.json]
    python benchmarks/style_transfer.py --optimizers FILE.png


The peer's step is written here from its published recipe: VGG19 to relu5_1 with the first padding
replicated; content by mean square at relu4_2 (0.015), Wasserstein-2 at relu1_1 to relu5_1 (256 : 64
: 16 : 4 : 1) with matrix roots by 12 Newton-Schulz iterations, backward through a Lyapunov equation
by 12 more, total variation (2); Adam, clamp, moving average, and the loss read at each step. Both
networks hold the same random weights; the image is 256 x 171.

The second command plots the loss against seconds for Adam and L-BFGS, on EfficientNet-Lite0.
"""

import argparse
import statistics
import time
import warnings

import torch
import torch.nn.functional as F
from _tables import in_turn, median_ratio, show
from matplotlib.figure import Figure
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torchvision.models import vgg19

from novum.callbacks import ProgressBar
from novum.datamodules import StyleImageDataModule
from novum.lightning_modules import StyleTransfer
from novum.lightning_modules.networks import Backbone

LONGER = 256
STYLE = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
WEIGHTS = [256.0, 64.0, 16.0, 4.0, 1.0]
PEER_STYLE, PEER_CONTENT = (1, 6, 11, 20, 29), 22  # the same layers by number


class NewtonSchulzRoot(torch.autograd.Function):
    """Square root of a positive matrix and its derivative, both by iteration."""

    iterations = 12

    @staticmethod
    def forward(ctx, matrix: Tensor) -> Tensor:
        norm = matrix.norm()
        y, z = matrix / norm, torch.eye(len(matrix), dtype=matrix.dtype)
        three = 3 * z
        for _ in range(NewtonSchulzRoot.iterations):
            step = (three - z @ y) / 2
            y, z = y @ step, step @ z
        root = y * norm.sqrt()
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (root,) = ctx.saved_tensors
        a, q = root / root.norm(), gradient / root.norm()
        three = 3 * torch.eye(len(a), dtype=a.dtype)
        for _ in range(NewtonSchulzRoot.iterations):
            rest = three - a @ a
            q = (q @ rest - a.T @ (a.T @ q - q @ a)) / 2
            a = a @ rest / 2
        return q / 2


class Peer(nn.Module):
    """The published objective."""

    def __init__(self, network: nn.Module, content: Tensor, style: Tensor) -> None:
        super().__init__()
        self.layers = network.features[: PEER_STYLE[-1] + 1]
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])
        with torch.no_grad():
            self.content = self.activations(content)[PEER_CONTENT]
            found = self.activations(style)
            self.targets = [self.gaussian(found[i]) for i in PEER_STYLE]
            self.roots = [NewtonSchulzRoot.apply(covariance) for _, covariance in self.targets]

    def activations(self, images: Tensor) -> dict[int, Tensor]:
        x, found = (images - self.mean) / self.std, {}
        for i, layer in enumerate(self.layers):
            x = found[i] = layer(x)
        return found

    @staticmethod
    def gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
        x = features[0].flatten(1)
        mean = x.mean(1)
        apart = x - mean[:, None]
        return mean, apart @ apart.T / x.shape[1] + 1e-4 * torch.eye(len(x), dtype=x.dtype)

    def forward(self, images: Tensor) -> Tensor:
        found = self.activations(images)
        loss = 0.015 * F.mse_loss(found[PEER_CONTENT], self.content)
        for i, weight, (mean, covariance), root in zip(
            PEER_STYLE, WEIGHTS, self.targets, self.roots, strict=True
        ):
            own_mean, own = self.gaussian(found[i])
            joint = NewtonSchulzRoot.apply(root @ own @ root)
            distance = torch.diagonal(covariance + own - 2 * joint).mean()
            loss = loss + weight / sum(WEIGHTS) * (F.mse_loss(own_mean, mean) + distance)
        return loss + 2 * self.variation(images)

    @staticmethod
    def variation(images: Tensor) -> Tensor:
        x = F.pad(images, (1, 1, 1, 1), "replicate")
        near = (x[..., 1:-1, 2:] - x[..., 1:-1, 1:-1]).square().mean()
        near = near + (x[..., 2:, 1:-1] - x[..., 1:-1, 1:-1]).square().mean()
        far = (x[..., 1:, 1:] - x[..., :-1, :-1]).square().mean()
        far = far + (x[..., 1:, :-1] - x[..., :-1, 1:]).square().mean()
        return 2 * (near / 3 + far / 12)


def peer_run(objective: Peer, content: Tensor, steps: int) -> float:
    """Steps of the published loop; the last loss."""
    image = content.clone().requires_grad_()
    average, optimizer = content.clone(), torch.optim.Adam([image], lr=0.02)
    for _ in range(steps):
        loss = objective(image)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            image.clamp_(0, 1)
            average.mul_(0.99).add_(0.01 * image)
        value = loss.item()
    return value


def our_backbone() -> Backbone:
    torch.manual_seed(0)
    backbone = Backbone("vgg19", "none")
    backbone.network.features[0].padding_mode = "replicate"
    return backbone


def our_module(backbone: Backbone, steps: int, **settings) -> StyleTransfer:
    recipe = dict(
        content_layers=["relu4_2"],
        style_layers=STYLE,
        style_weights=WEIGHTS,
        content_weight=0.015,
        tv_weight=2.0,
        relative=False,
        min_scale=LONGER,
        initial_steps=steps,
    )
    return StyleTransfer(backbone, **{**recipe, **settings})


def fit(module: StyleTransfer, data: StyleImageDataModule, **settings) -> StyleTransfer:
    """As train.py does, without a logger."""
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=-1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        **{"callbacks": [ProgressBar()], **settings},
    )
    trainer.fit(module, data)
    return module


def bare_run(backbone: Backbone, data: StyleImageDataModule, steps: int) -> float:
    """Our objective in a plain loop: what Lightning is measured against."""
    module = fit(our_module(backbone, 1), data, callbacks=[], enable_progress_bar=False)
    image = module.contents.clone().contiguous(memory_format=torch.channels_last)
    image.requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.02, betas=(0.9, 0.99))
    started = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack(list(module.terms(image).values())).sum().backward()
        optimizer.step()
        with torch.no_grad():
            image.clamp_(0, 1)
    return time.perf_counter() - started


class Clock(ProgressBar):
    """When each step ended, and its loss."""

    def on_train_start(self, *args) -> None:
        super().on_train_start(*args)
        self.times, self.started = [], time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: StyleTransfer, *rest) -> None:
        super().on_train_batch_end(trainer, pl_module, *rest)
        self.times.append(time.perf_counter() - self.started)


def compare_steps(steps: int, rounds: int) -> list[dict]:
    data = StyleImageDataModule(["china.jpg"], ["flower.jpg"], size=LONGER)
    backbone = our_backbone()
    network = vgg19(weights=None).requires_grad_(False).eval()
    network.load_state_dict(backbone.network.state_dict())
    network.features[0].padding_mode = "replicate"
    content, style = data.contents / 255, resize(data.styles[0])
    peer = Peer(network, content, style)
    print(f"objective of the content image: {objectives(backbone, data, network, style)}")
    times: list[float] = []
    seconds = in_turn(
        {
            "novum under Lightning": lambda: times.append(timed(backbone, data, steps)),
            "novum, bare loop": lambda: times.append(bare_run(backbone, data, steps)),
            "crowsonkb's recipe": lambda: peer_run(peer, content, steps),
        },
        rounds,
    )
    seconds["novum under Lightning"] = times[2::2]  # of the steps alone, without the targets
    seconds["novum, bare loop"] = times[3::2]
    theirs = seconds["crowsonkb's recipe"]
    return [
        {
            "contestant": name,
            "s/step (median)": statistics.median(times) / steps,
            "steps/s": steps / statistics.median(times),
            "times as fast (median of rounds)": median_ratio(times, theirs),
        }
        for name, times in seconds.items()
    ]


def timed(backbone: Backbone, data: StyleImageDataModule, steps: int) -> float:
    """Seconds of the steps after the first, which computes the targets, scaled to all of them."""
    clock = Clock()
    fit(our_module(backbone, steps + 1), data, callbacks=[clock])
    return clock.times[-1] - clock.times[0]


def resize(style: Tensor) -> Tensor:
    """To the size that StyleTransfer gives it."""
    h, w = (round(side * LONGER / max(style.shape[-2:])) for side in style.shape[-2:])
    return F.interpolate(style[None] / 255, (h, w), mode="bicubic", antialias=True)


@torch.no_grad()
def objectives(backbone, data, network, style) -> dict[str, float]:
    """Ours, the peer's as published, and the peer's with its iterations run until they converge."""
    module = fit(our_module(backbone, 1), data, callbacks=[], enable_progress_bar=False)
    content = data.contents / 255
    ours = float(sum(term.sum() for term in module.terms(content).values()))
    published = float(Peer(network, content, style)(content))
    NewtonSchulzRoot.iterations = 40
    converged = float(Peer(network.double(), content.double(), style.double())(content.double()))
    NewtonSchulzRoot.iterations = 12
    network.float()
    return {
        "ours": ours,
        "published, 12 iterations": published,
        "converged, 40 in float64": converged,
        "ours / converged - 1": ours / converged - 1,
    }


def plot_optimizers(path: str, seconds_limit: float = 60) -> None:
    """Loss against wall-clock of Adam and L-BFGS at one scale."""
    data = StyleImageDataModule(["china.jpg"], ["flower.jpg"], size=LONGER)
    backbone = Backbone("efficientnet_lite0")
    contestants = {
        "Adam, lr 0.02": None,
        "L-BFGS, 100 pairs": lambda x: torch.optim.LBFGS(x, max_iter=1, history_size=100),
    }
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, optimizer in contestants.items():
        module = StyleTransfer(
            backbone,
            ["blocks.3"],
            ["conv_stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3"],
            min_scale=LONGER,
            initial_steps=300,
            optimizer=optimizer,
        )
        record = Record(seconds_limit)
        fit(module, data, callbacks=[record], log_every_n_steps=1)
        axes.plot(record.times, record.losses, label=name)
        print(f"{name}: {record.losses[-1]:.4f} after {record.times[-1]:.0f} s")
    axes.set(xlabel="seconds", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


class Record(Clock):
    """Also the losses, until the time is up."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit, self.losses = limit, []

    def on_train_batch_end(self, trainer: Trainer, pl_module: StyleTransfer, *rest) -> None:
        super().on_train_batch_end(trainer, pl_module, *rest)
        logged = trainer.callback_metrics
        self.losses.append(sum(float(v) for k, v in logged.items() if k.startswith("loss/")))
        trainer.should_stop = self.times[-1] > self.limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--optimizers", metavar="FILE.png")
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if args.optimizers:
        plot_optimizers(args.optimizers)
        return
    rows = compare_steps(args.steps, args.rounds)
    show("Style transfer step, VGG19, 256 x 171", rows, args.output)


if __name__ == "__main__":
    main()
