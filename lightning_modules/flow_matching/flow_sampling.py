"""Samples, edits and likelihoods by the averaged network of flow matching."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from novum.core.errors import InputError
from novum.core.pixels import signed_to_uint8, uint8_to_signed
from novum.core.precision import full_precision
from novum.lightning_modules.flow_matching.bits_per_dim import Bits, image_bits
from novum.lightning_modules.flow_matching.flow import Flow
from novum.lightning_modules.flow_matching.item_losses import item_losses
from novum.lightning_modules.flow_matching.processes import EDM, RectifiedFlow
from novum.lightning_modules.flow_matching.solvers import RK45, Euler, Heun, Solution
from novum.lightning_modules.sampling import LatentSampling
from novum.lightning_modules.training_utils import require_labels

PROBES, DENSITY_STEPS = 2, 40  # of a likelihood: of its trace, and of its path


class FlowImages(nn.Module):
    """Noise (n, d)[, labels (n,)] -> images (n, c, h, w) about in [-1, 1].

    Steps are a loop of the graph, which so has a network two or three times, not at each step.
    """

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.network, self.flow = flow.network, flow

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        flow = self.flow
        times = flow.process.times(flow.solver.steps).to(z)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return flow.velocity(x, t, labels)

        def step(x: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
            return flow.solver(velocity, x, ends).x, ends[:1].clone()

        ends = torch.stack([times[:-1], times[1:]], 1)  # (steps, 2)
        x, _ = scan(step, z * flow.process.prior_std, ends)
        return flow.arrive(x, times[-1], velocity).unflatten(1, flow.shape)


class FlowSampling(LatentSampling):
    """Uses of a flow that has been learned; subclasses set the attributes below.

    The latents are the noise, pixel by pixel. `evaluations` counts how often the network was asked.
    """

    item_loss = "denoising loss"

    process: RectifiedFlow | EDM
    sampler: Euler | Heun | RK45
    guidance: float
    use_labels: bool

    def __init__(self) -> None:
        super().__init__()
        self.evaluations = [
            0.0,
            0,
        ]  # of the network since the last log: sum, and of how many images

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self._flow().shape

    @property
    def latent_dim(self) -> int:
        return math.prod(self.image_shape)

    @property
    def num_classes(self) -> int:
        return super().num_classes if self.use_labels else 0

    def _flow(self) -> Flow:
        return Flow(self.ema, self.process, self.sampler, self.guidance)

    # -- images --------------------------------------------------------------------------------

    @torch.inference_mode()
    def decode(self, latents: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Noise (n, latent_dim) -> uint8 images (n, c, h, w).

        Without labels a class-conditional network goes through the classes in turn.
        """
        labels = self._labels_of(len(latents), labels)
        return self._made(self._flow().make, latents, labels)

    def image_network(self) -> nn.Module:
        """A graph of all steps: one of a fixed number of them."""
        if isinstance(self.sampler, RK45):
            raise InputError(
                "RK45 finds its steps as it goes, and a graph has a fixed number of them: choose"
                " --steps N of Heun"
            )
        return FlowImages(self._flow())

    @torch.inference_mode()
    def vary(
        self,
        images: Tensor,
        strength: float = 0.5,
        *,
        seed: int | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Uint8 images taken a share of the way to noise and back, as no class or as `labels`."""
        if not 0 < strength <= 1:
            raise InputError(f"strength is {strength}: it must be above 0, and at most 1")
        x, noise, labels = self._given(images, seed, labels)
        flow = self._flow()
        return self._made(lambda z, x, y: flow.vary(z, x, y, strength), noise, x, labels)

    @torch.inference_mode()
    def inpaint(
        self,
        images: Tensor,
        hole: Tensor,
        *,
        seed: int | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Uint8 images whose pixels in the hole (h, w) are made anew, as no class or `labels`."""
        if hole.dtype != torch.bool or hole.shape != images.shape[-2:]:
            raise InputError(
                f"the hole must be a mask of {tuple(images.shape[-2:])}, not {hole.dtype}"
                f" {tuple(hole.shape)}"
            )
        x, noise, labels = self._given(images, seed, labels)
        there = hole.to(self.device)
        flat = there.expand(self.image_shape).flatten()
        flow = self._flow()
        made = self._made(lambda z, x, y: flow.fill(z, x, flat, y), noise, x, labels)
        return torch.where(there, made, images.to(self.device))

    def _given(
        self, images: Tensor, seed: int | None, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Flat images (n, d), as much noise, and their labels."""
        self.require_shape(images)
        if labels is not None:
            labels = self._labels_of(len(images), labels)
        noise = self.sample_latents(len(images), seed=seed)
        return uint8_to_signed(images).flatten(1), noise, labels

    def require_shape(self, images: Tensor) -> None:
        """Refuse images (n, c, h, w) of another size than the network's."""
        if images.shape[1:] != self.image_shape:
            raise InputError(
                f"images are {tuple(images.shape[1:])}, and the model's {self.image_shape}: give"
                " the same size and channels"
            )

    def _made(
        self, follow: Callable[..., Solution], first: Tensor, *others: Tensor | None
    ) -> Tensor:
        """Images of what `follow` finds for rows, in chunks of one size; counts evaluations."""
        self.ema.eval()
        counts: list[Tensor] = []

        def images(*rows: Tensor | None) -> Tensor:
            x, evaluations = follow(*rows)
            counts.append(evaluations)
            return signed_to_uint8(x.unflatten(1, self.image_shape))

        made = self._in_chunks(images, first, *others)
        asked = float(torch.cat(counts)[: len(first)].sum())
        self.evaluations = [self.evaluations[0] + asked, self.evaluations[1] + len(first)]
        return made

    # -- measures ------------------------------------------------------------------------------

    @torch.inference_mode()
    def item_losses(self, images: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Losses (n,) of uint8 images (n, c, h, w), by the averaged network.

        Times and noise are the same for all images, any batch and any weights.
        """
        self.ema.eval()
        if labels is not None and self.num_classes:
            require_labels(labels, self.num_classes)
        labels = labels.to(self.device) if labels is not None and self.num_classes else None
        with full_precision(self.device):
            return item_losses(self.ema, self.process, images, labels)

    def bits_per_dim(
        self,
        images: Tensor,
        *,
        labels: Tensor | None = None,
        solver: Euler | Heun | RK45 | None = None,
    ) -> Bits:
        """Bits per dimension of uint8 images (n, c, h, w), given their classes if labels are.

        Validation's are by 40 steps of Heun.
        """
        self.ema.eval()
        with torch.inference_mode(False), torch.no_grad(), full_precision(self.device):
            labels = None if labels is None else labels.to(self.device).clone()
            solver = solver if solver is not None else Heun(DENSITY_STEPS)
            flow = self._flow()._replace(guidance=1.0, solver=solver)
            return image_bits(flow, images.clone(), labels, PROBES)
