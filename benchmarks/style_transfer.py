"""Style transfer steps against the objective of crowsonkb/style-transfer-pytorch, on one VGG19.

    python benchmarks/style_transfer.py [--steps 15] [--rounds 6] [--output FILE.json]

The peer's step is written here from its published recipe: VGG19 to relu5_1 with the first padding
replicated; content by mean square at relu4_2 (0.015), Wasserstein-2 at relu1_1 to relu5_1 (256 : 64
: 16 : 4 : 1) with matrix roots by 12 Newton-Schulz iterations, backward through a Lyapunov equation
by 12 more, total variation (2); Adam, clamp, moving average, and the loss read at each step. Both
networks hold the same random weights; the image is 256 x 171. Ours runs under Lightning, with bar
and losses; steady steps alone are counted. --clock cpu counts the process's own seconds, for a
machine that others use; run it with OMP_NUM_THREADS=1.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from _steps import Clock, fit, rows, steps_in_turn
from _tables import show
from torch import Tensor, nn
from torchvision.models import vgg19

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


def peer_run(objective: Peer, content: Tensor, steps: int, clock: Clock) -> None:
    """Steps of the published loop."""
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
        loss.item()
        clock.tick()


def our_backbone() -> Backbone:
    torch.manual_seed(0)
    backbone = Backbone("vgg19", "none")
    backbone.network.features[0].padding_mode = "replicate"
    return backbone


def our_module(backbone: Backbone, steps: int) -> StyleTransfer:
    return StyleTransfer(
        backbone,
        content_layers=["relu4_2"],
        style_layers=STYLE,
        style_weights=WEIGHTS,
        content_weight=0.015,
        tv_weight=2.0,
        relative=False,
        min_scale=LONGER,
        initial_steps=steps,
    )


def compare_steps(steps: int, rounds: int, now: Callable[[], float]) -> list[dict]:
    data = StyleImageDataModule(["china.jpg"], ["flower.jpg"], size=LONGER)
    backbone = our_backbone()
    network = vgg19(weights=None).requires_grad_(False).eval()
    network.load_state_dict(backbone.network.state_dict())
    network.features[0].padding_mode = "replicate"
    content, style = data.contents / 255, resize(data.styles[0])
    peer = Peer(network, content, style)
    print(f"objective of the content image: {objectives(backbone, data, network, style)}")
    seconds = steps_in_turn(
        {
            "novum": lambda clock: fit(our_module(backbone, steps), data, clock),
            "crowsonkb": lambda clock: peer_run(peer, content, steps, clock),
        },
        rounds,
        now,
    )
    return rows(seconds, "novum")


def resize(style: Tensor) -> Tensor:
    """To the size that StyleTransfer gives it."""
    h, w = (round(side * LONGER / max(style.shape[-2:])) for side in style.shape[-2:])
    return F.interpolate(style[None] / 255, (h, w), mode="bicubic", antialias=True)


@torch.no_grad()
def objectives(backbone, data, network, style) -> dict[str, float]:
    """Ours, the peer's as published, and the peer's with its iterations run until they converge."""
    module = our_module(backbone, 1)
    fit(module, data)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    now = time.process_time if args.clock == "cpu" else time.perf_counter
    table = compare_steps(args.steps, args.rounds, now)
    show("Style transfer, steady steps, VGG19, 256 x 171", table, args.output)


if __name__ == "__main__":
    main()
