"""Projection into a trained style space, and directions in it."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from novum.core.pixels import uint8_to_signed
from novum.core.protocols import Images, StyleGenerator
from novum.lightning_modules.networks.stylegan_generator import StyleGANGenerator, StyleLayer
from novum.lightning_modules.networks.stylegan_ops import downsample2d

Distance = Callable[[Tensor, Tensor], Tensor]  # images in [-1, 1], twice (n, c, h, w) -> (n,)


def pyramid_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of pixels, averaged over resolutions down to 8 pixels: (n,)."""
    distances = []
    while True:
        distances.append((a - b).square().mean((1, 2, 3)))
        if min(a.shape[2:]) < 16 or a.shape[2] % 2 or a.shape[3] % 2:
            return torch.stack(distances).mean(0)
        a, b = downsample2d(a), downsample2d(b)


class Projection(NamedTuple):
    ws: Tensor  # styles found (n, num_styles, w_dim)
    images: Tensor  # what the generator makes of them, float (n, c, h, w)
    distance: Tensor  # to what was asked (n,)


def project(
    generator: StyleGANGenerator,
    images: Tensor,
    *,
    space: Literal["w", "w+"] = "w",
    steps: int = 200,
    lr: float = 0.1,
    distance: Distance = pyramid_distance,
    seed: int = 0,
    label: int | None = None,
) -> Projection:
    """The styles whose images are nearest to the given ones (Karras et al., 2020, section 5).

    All images at once, by Adam from the mean w; noise that fades out over the first three quarters
    leads past poor valleys. Pixel noise stays as it is: otherwise it could draw any image.

    Args:
        generator: In evaluation mode its pixel noise is fixed.
        images: Float (n, c, h, w) in [-1, 1].
        space: One w for all layers, or one for each (w+).
        steps: Updates.
        lr: Highest learning rate; it rises over 5% of the steps, falls over the last 25%.
        distance: What is made small, for each image.
        seed: Of the fading noise.
        label: Class of a class-conditional generator whose mean w is begun from; null: of all.
    """
    generator.eval()
    device = generator.mean_w.device
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        z = torch.randn(1024, generator.latent_dim, generator=random).to(device)
        labels = torch.arange(1024, device=device) % max(1, generator.num_classes)
        if label is not None:
            labels = torch.full_like(labels, label)
        sampled = generator.map(z, labels)[:, 0]
    mean, spread = sampled.mean(0), float(sampled.std(0).square().mean().sqrt())
    layers = generator.num_styles if space == "w+" else 1
    w = mean.expand(len(images), layers, -1).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([w], lr=lr, betas=(0.9, 0.999))
    images = images.to(device)
    frozen = [p for p in generator.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    for step in range(steps):
        t = step / steps
        optimizer.param_groups[0]["lr"] = lr * min(1.0, t / 0.05) * _fall(min(1.0, (1 - t) / 0.25))
        strength = spread * 0.5 * max(0.0, 1 - t / 0.75) ** 2
        noise = torch.randn(w.shape, generator=random).to(device) * strength
        made = generator.synthesis((w + noise).expand(-1, generator.num_styles, -1))
        optimizer.zero_grad()
        distance(made, images).sum().backward()
        optimizer.step()
    for parameter in frozen:
        parameter.requires_grad_(True)
    with torch.no_grad():
        ws = w.detach().expand(-1, generator.num_styles, -1)
        made = generator.synthesis(ws)
        return Projection(ws, made, distance(made, images))


def _fall(t: float) -> float:
    return 0.5 - 0.5 * math.cos(t * math.pi)


def directions(
    generator: StyleGANGenerator, count: int, layers: range | None = None
) -> tuple[Tensor, Tensor]:
    """Unit directions in w (count, w_dim) that move the layers' styles most, and by how much.

    The eigenvectors of A^T A, A being the layers' affine weights one upon the other (closed-form
    factorisation: Shen & Zhou, 2021, eq. 6), without data or training.
    """
    affines = _affines(generator)
    chosen = [affines[i] for i in layers] if layers is not None else affines
    a = torch.cat([F.normalize(w, dim=1) for w in chosen]).double()
    values, vectors = torch.linalg.eigh(a.T @ a)
    order = values.argsort(descending=True)[:count]
    found = vectors[:, order].T
    sign = found.gather(1, found.abs().argmax(1, keepdim=True)).sign()  # eigenvectors have none
    return (found * sign).float(), values[order].float()


def _affines(generator: StyleGANGenerator) -> list[Tensor]:
    """Weights (c, w_dim) from w to each layer's style, coarsest first."""
    weights = []
    for block in generator.synthesis.levels():
        layers = [block.layer] if block.up is None else [block.up, block.layer]
        weights += [cast(StyleLayer, layer).affine.weight.detach() for layer in layers]
    return weights


def recover(
    module: StyleGenerator,
    sources: Mapping[str, Images],
    n: int = 64,
    space: Literal["w", "w+"] = "w+",
    steps: int = 200,
    seed: int = 0,
    label: int | None = None,
) -> tuple[dict[str, Projection], dict[str, float]]:
    """n images of `train` and of `heldout`, found in the style space, and how near.

    Returns:
        Both projections; recovery_train and recovery_heldout, the median distances; recovery_gap,
        their ratio less 1 (above 0: training images are found better, as if remembered); and
        recovery_p, the one-sided Mann-Whitney probability of such distances if nothing is
        remembered.
    """
    found = {}
    with torch.inference_mode(False), torch.enable_grad():
        for split, source in sources.items():
            random = torch.Generator().manual_seed(seed)
            rows = torch.randperm(len(source), generator=random)[:n]
            images = uint8_to_signed(source[rows].clone())
            generator = cast(StyleGANGenerator, cast(Any, module).ema)
            found[split] = project(
                generator, images, space=space, steps=steps, seed=seed, label=label
            )
    train, heldout = (found[split].distance.cpu() for split in ("train", "heldout"))
    from scipy.stats import mannwhitneyu

    test = mannwhitneyu(train.numpy(), heldout.numpy(), alternative="less")
    return found, {
        "recovery_train": float(train.median()),
        "recovery_heldout": float(heldout.median()),
        "recovery_gap": float(heldout.median() / train.median()) - 1,
        "recovery_p": float(test.pvalue),
    }
