"""Our StyleGAN2 against a plain-op one of rosinality's recipe: same weights, same images.

    python benchmarks/stylegan.py [--sizes 32 64] [--width 64] [--batch 16] [--rounds 3]
                                  [--output FILE.json]
    python benchmarks/stylegan.py --device cuda --ada CHECKOUT    # of NVlabs/stylegan2-ada-pytorch

The recipe: weights of its own for each image in one grouped convolution, zero insertion and a full
2-D filter over every channel, new fakes for each network's update, R1 every 16 and path
length every 4 steps in updates of their own, an averaged generator parameter by parameter. Both
train with the same penalties, batch and optimizer; ours under Lightning. A step is the mean of a
whole cycle of 16. Memory is the highest resident size of a process that trains for one cycle.

With --ada the same training loop also drives the networks of stylegan2-ada-pytorch, in float32,
with that project's own operations, which it compiles on a GPU (nvcc and ninja must be there); else
they are its reference ones, and the table's head says so. Its networks are as wide as ours.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import warnings
from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from _steps import bare_trainer
from _tables import in_turn, median_ratio, show
from pytorch_lightning import LightningDataModule
from torch import Tensor

from novum.lightning_modules import StyleGAN
from novum.lightning_modules.networks import StyleGANDiscriminator, StyleGANGenerator
from novum.lightning_modules.networks.stylegan_generator import StyleLayer, ToImage
from novum.lightning_modules.networks.stylegan_ops import EqualConv2d, EqualLinear
from novum.lightning_modules.stylegan.stylegan import lazy_adam

OURS, PLAIN, ADA = "novum", "plain operations", "stylegan2-ada-pytorch"


# -- the recipe in plain operations ------------------------------------------------------------


def upfirdn(x: Tensor, kernel: Tensor, up: int, down: int, pad: tuple[int, int]) -> Tensor:
    """Zero insertion, padding, one 2-D convolution over (b * c, 1, h, w), decimation."""
    b, c, h, w = x.shape
    x = x.reshape(-1, h, 1, w, 1)
    x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1)).view(-1, 1, h * up, w * up)
    x = F.pad(x, (*pad, *pad))
    x = F.conv2d(x, kernel.flip(0, 1)[None, None].to(x))
    return x.view(b, c, *x.shape[2:])[:, :, ::down, ::down]


def filter_kernel(gain: float = 1.0) -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) * (gain / 64)


def fused_lrelu(x: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(x + bias.view(1, -1, *[1] * (x.ndim - 2)), 0.2) * math.sqrt(2)


def linear(layer: EqualLinear, x: Tensor) -> Tensor:
    x = F.linear(x, layer.weight * layer.scale)
    bias = layer.bias * layer.lr_multiplier
    return fused_lrelu(x, bias) if layer.activate else x + bias


def modulated(x: Tensor, layer: StyleLayer | ToImage, w: Tensor, demodulate: bool) -> Tensor:
    """(1, c_out, c_in, k, k) weights times styles, one group per image."""
    b, c, height, width = x.shape
    style = linear(layer.affine, w).view(b, 1, c, 1, 1)
    weight = layer.weight[None] * layer.scale * style
    if demodulate:
        weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8).view(b, -1, 1, 1, 1)
    c_out, k = weight.shape[1], weight.shape[-1]
    x = x.reshape(1, b * c, height, width)
    if getattr(layer, "up", False):
        weight = weight.transpose(1, 2).reshape(b * c, c_out, k, k)
        x = F.conv_transpose2d(x, weight, stride=2, groups=b)
        x = x.view(b, c_out, *x.shape[2:])
        return upfirdn(x, filter_kernel(4.0), 1, 1, (1, 1))
    x = F.conv2d(x, weight.view(b * c_out, c, k, k), padding=k // 2, groups=b)
    return x.view(b, c_out, *x.shape[2:])


def styled(x: Tensor, layer: StyleLayer, w: Tensor) -> Tensor:
    x = modulated(x, layer, w, True)
    noise = layer.noise.fixed if not layer.training else x.new_empty(len(x), 1, *x.shape[2:])
    noise = noise.normal_() if layer.training else noise
    return fused_lrelu(x + layer.noise.strength * noise, layer.bias)


def plain_map(g: StyleGANGenerator, z: Tensor) -> Tensor:
    x = z * torch.rsqrt(z.pow(2).mean(1, keepdim=True) + 1e-8)
    for layer in g.mapping.layers:
        x = linear(layer, x)
    return x[:, None].repeat(1, g.num_styles, 1)


def plain_synthesis(g: StyleGANGenerator, ws: Tensor) -> Tensor:
    x, image, used = g.synthesis.constant.repeat(len(ws), 1, 1, 1), None, 0
    for block, to_image in zip(g.synthesis.blocks, g.synthesis.to_image, strict=True):
        for layer in (block.up, block.layer) if block.up is not None else (block.layer,):
            x = styled(x, layer, ws[:, used])
            used += 1
        own = modulated(x, to_image, ws[:, used], False) + to_image.bias.view(1, -1, 1, 1)
        if image is not None:
            own = own + upfirdn(image, filter_kernel(4.0), 2, 1, (2, 1))
        image = own
    return image


def plain_conv(x: Tensor, layer: EqualConv2d) -> Tensor:
    weight, k = layer.weight * layer.scale, layer.weight.shape[-1]
    if layer.down:
        pad = (1, 1) if k == 1 else (2, 2)
        x = F.conv2d(upfirdn(x, filter_kernel(), 1, 1, pad), weight, stride=2)
    else:
        x = F.conv2d(x, weight, padding=k // 2)
    return x if layer.bias is None else fused_lrelu(x, layer.bias)


def plain_discriminator(d: StyleGANDiscriminator, images: Tensor) -> Tensor:
    x = plain_conv(images, d.from_image[0])
    for block in d.blocks:
        y = plain_conv(plain_conv(x, block.first), block.down)
        x = (y + plain_conv(x, block.skip)) / math.sqrt(2)
    b, c, h, w = x.shape
    group = min(b, d.group)
    deviation = x.view(group, -1, 1, c, h, w)
    deviation = torch.sqrt(deviation.var(0, unbiased=False) + 1e-8)
    deviation = deviation.mean([2, 3, 4], keepdim=True).squeeze(2).repeat(group, 1, h, w)
    x = plain_conv(torch.cat([x, deviation], 1), d.last)
    return linear(d.score, linear(d.dense, x.reshape(b, -1)))


class Plain:
    """The recipe's training loop."""

    def __init__(self, gan: StyleGAN) -> None:
        plain = torch.contiguous_format
        self.g = deepcopy(gan.generator).to(memory_format=plain)
        self.d = deepcopy(gan.discriminator).to(memory_format=plain)
        self.ema = deepcopy(self.g)
        self.g_opt = lazy_adam(self.g, 0.0025, (0.0, 0.99), 4)
        self.d_opt = lazy_adam(self.d, 0.0025, (0.0, 0.99), 16)
        self.mean_length = torch.zeros((), device=next(self.g.parameters()).device)
        self.latent_dim = gan.latent_dim

    def map(self, z: Tensor) -> Tensor:
        return plain_map(self.g, z)

    def make(self, ws: Tensor) -> Tensor:
        return plain_synthesis(self.g, ws)

    def judge(self, images: Tensor) -> Tensor:
        return plain_discriminator(self.d, images)

    def styles(self, n: int) -> Tensor:
        device = next(self.g.parameters()).device
        ws = self.map(torch.randn(n, self.latent_dim, device=device))
        if torch.rand(()) < 0.9:
            start = int(torch.randint(1, ws.shape[1], ()))
            others = self.map(torch.randn(n, self.latent_dim, device=device))
            ws = torch.cat([ws[:, :start], others[:, start:]], 1)
        return ws

    def step(self, real: Tensor, number: int) -> None:
        self.g.requires_grad_(False)
        self.d.requires_grad_(True)
        fake = self.make(self.styles(len(real)))
        loss = F.softplus(self.judge(fake)).mean()
        loss = loss + F.softplus(-self.judge(real)).mean()
        self.update(self.d_opt, loss)
        if number % 16 == 0:
            real = real.detach().requires_grad_(True)
            score = self.judge(real).sum()
            (gradient,) = torch.autograd.grad(score, real, create_graph=True)
            penalty = gradient.pow(2).reshape(len(real), -1).sum(1).mean()
            self.update(self.d_opt, 0.01 / 2 * penalty * 16)
        self.g.requires_grad_(True)
        self.d.requires_grad_(False)
        fake = self.make(self.styles(len(real)))
        self.update(self.g_opt, F.softplus(-self.judge(fake)).mean())
        if number % 4 == 0:
            ws = self.styles(len(real) // 2)
            images = self.make(ws)
            noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
            (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
            lengths = gradient.pow(2).sum(2).mean(1).sqrt()
            self.mean_length = self.mean_length + 0.01 * (
                lengths.detach().mean() - self.mean_length
            )
            self.update(self.g_opt, 2 * 4 * (lengths - self.mean_length).pow(2).mean())
        decay = 0.5 ** (32 / 10_000)
        for average, parameter in zip(self.ema.parameters(), self.g.parameters(), strict=True):
            average.data.mul_(decay).add_(parameter.data, alpha=1 - decay)

    @staticmethod
    def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Ada(Plain):
    """The loop with the networks and operations of a checkout of stylegan2-ada-pytorch."""

    def __init__(self, gan: StyleGAN, checkout: str, size: int, width: int) -> None:
        super().__init__(gan)
        device = self.mean_length.device
        sys.path.insert(0, checkout)
        from torch_utils.ops import bias_act, upfirdn2d
        from training import networks as theirs

        channels = {"channel_base": width * size, "num_fp16_res": 0}
        layers = len(gan.generator.mapping.layers)
        self.g = theirs.Generator(
            gan.latent_dim, 0, gan.latent_dim, size, 3,
            mapping_kwargs={"num_layers": layers}, synthesis_kwargs=channels,
        ).to(device)  # fmt: skip
        self.d = theirs.Discriminator(0, size, 3, **channels).to(device)
        self.ema = deepcopy(self.g)
        self.g_opt = lazy_adam(self.g, 0.0025, (0.0, 0.99), 4)
        self.d_opt = lazy_adam(self.d, 0.0025, (0.0, 0.99), 16)
        compiled = device.type == "cuda" and bias_act._init() and upfirdn2d._init()
        ours, own = (sum(p.numel() for p in g.parameters()) for g in (gan.generator, self.g))
        kind = "compiled" if compiled else "reference"
        print(f"{ADA}: {kind} operations, {own:,} parameters of the generator (ours {ours:,})")

    def map(self, z: Tensor) -> Tensor:
        return self.g.mapping(z, None)

    def make(self, ws: Tensor) -> Tensor:
        return self.g.synthesis(ws)

    def judge(self, images: Tensor) -> Tensor:
        return self.d(images, None)


# -- the contest -------------------------------------------------------------------------------


class Data(LightningDataModule):
    def __init__(self, images: Tensor, steps: int) -> None:
        super().__init__()
        self.images, self.steps = images, steps

    def train_dataloader(self) -> list[dict[str, Tensor]]:
        return ({"image": self.images} for _ in range(self.steps))


def networks(size: int, width: int) -> StyleGAN:
    torch.manual_seed(0)
    return StyleGAN(
        StyleGANGenerator(size, 3, width=width * 32 // size),
        StyleGANDiscriminator(size, 3, width=width * 32 // size),
        r1_gamma=0.01,
    )


def train_ours(gan: StyleGAN, real: Tensor, steps: int) -> None:
    device = real.device.type
    accelerator = "gpu" if device == "cuda" else device
    bare_trainer(max_steps=steps, accelerator=accelerator).fit(gan, Data(real, steps))
    gan.to(real.device)
    wait(real)


def train_plain(plain: Plain, real: Tensor, steps: int) -> None:
    for number in range(steps):
        plain.step(real, number)
    wait(real)


def wait(x: Tensor) -> Tensor:
    """The same, once a GPU has computed it."""
    if x.is_cuda:
        torch.cuda.synchronize()
    return x


def check_equal(gan: StyleGAN, plain: Plain, real: Tensor) -> None:
    """The contestants compute the same images and logits."""
    with torch.no_grad():
        gan.eval(), plain.g.eval(), plain.d.eval()
        z = torch.randn(len(real), gan.latent_dim, device=real.device)
        ours = gan.generator(z)
        torch.testing.assert_close(
            ours, plain_synthesis(plain.g, plain_map(plain.g, z)), rtol=1e-3, atol=1e-3
        )
        logits = plain_discriminator(plain.d, real).flatten()
        torch.testing.assert_close(gan.discriminator(real), logits, rtol=1e-3, atol=1e-3)
        gan.train(), plain.g.train(), plain.d.train()


def memory(contestant: str, size: int, args: argparse.Namespace) -> float:
    """Peak resident megabytes of a process of its own."""
    command = [sys.executable, __file__, "--sizes", str(size), "--contestant", contestant]
    command += ["--width", str(args.width), "--batch", str(args.batch), "--steps", "16"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_alone(args: argparse.Namespace) -> None:
    gan, real = networks(args.sizes[0], args.width), images(args.sizes[0], args.batch)
    if args.contestant == OURS:
        train_ours(gan, real, args.steps)
    else:
        train_plain(Plain(gan), real, args.steps)
    # of this program alone: ru_maxrss begins with what the parent held when it forked
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(int(status["VmHWM"].split()[0]) / 1024)


def images(size: int, batch: int) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def contest(size: int, args: argparse.Namespace) -> list[dict[str, object]]:
    gan, real = networks(size, args.width).to(args.device), images(size, args.batch).to(args.device)
    plain = Plain(gan)
    check_equal(gan, plain, real)
    peers = {PLAIN: plain}
    if args.ada:
        peers[ADA] = Ada(gan, args.ada, size, args.width * 32 // size)
    step = in_turn(
        {OURS: lambda: train_ours(gan, real, args.steps)}
        | {name: partial(train_plain, peer, real, args.steps) for name, peer in peers.items()},
        args.rounds,
        warm_up=args.warm_up,
    )
    gan.eval()
    z = torch.randn(args.batch, gan.latent_dim, device=args.device)
    for peer in peers.values():
        peer.g.eval()
    with torch.inference_mode():
        make = in_turn(
            {OURS: lambda: wait(gan.generator(z))}
            | {name: partial(generate, peer, z) for name, peer in peers.items()},
            rounds=7,
        )
    return [
        {
            "contestant": f"{name}, {size} px",
            "ms/step": 1000 * statistics.median(step[name]) / args.steps,
            "step ratio": median_ratio(step[name], step[PLAIN]),
            "ms to generate": 1000 * statistics.median(make[name]),
            "generation ratio": median_ratio(make[name], make[PLAIN]),
            "peak MB": "" if name == ADA or args.device != "cpu" else memory(name, size, args),
        }
        for name in (OURS, *peers)
    ]


def generate(peer: Plain, z: Tensor) -> Tensor:
    return wait(peer.make(peer.map(z)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--width", type=int, default=64, help="feature maps at 32 px")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--ada", metavar="CHECKOUT", help="of NVlabs/stylegan2-ada-pytorch")
    parser.add_argument("--contestant", choices=(OURS, PLAIN), help=argparse.SUPPRESS)
    parser.add_argument("--output")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if args.contestant:
        return run_alone(args)
    rows = [row for size in args.sizes for row in contest(size, args)]
    show(f"StyleGAN2, RGB, batch {args.batch}: one step, one batch of samples", rows, args.output)


if __name__ == "__main__":
    main()
