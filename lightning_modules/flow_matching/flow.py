"""The flow of a trained network: noise followed to images, part of the way, or in a hole."""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from novum.lightning_modules.flow_matching.processes import EDM, RectifiedFlow
from novum.lightning_modules.flow_matching.solvers import RK45, Euler, Heun, Solution, Velocity


class Flow(NamedTuple):
    """A network and what its answers mean; states are flat images (n, d).

    Args:
        network: (noisy images, times, labels) -> answers.
        process: What the answers are about.
        solver: How velocities are followed.
        guidance: Away from no class, towards the labels; 1 is none.
    """

    network: nn.Module
    process: RectifiedFlow | EDM
    solver: Euler | Heun | RK45
    guidance: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image (c, h, w)."""
        size = cast(int, self.network.image_size)
        return cast(int, self.network.channels), size, size

    def velocity(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """dx/dt (n, d) at times (n,) (classifier-free guidance: Ho & Salimans, 2022, eq. 6)."""
        images = x.unflatten(1, self.shape)
        inputs, time = self.process.inputs(images, t)
        if not self.guides(labels):
            answer = self.network(inputs, time, labels)
        else:
            none = torch.full_like(cast(Tensor, labels), cast(int, self.network.num_classes))
            both = torch.cat([cast(Tensor, labels), none])
            answers = self.network(inputs.repeat(2, 1, 1, 1), time.repeat(2), both)
            given, free = answers[: len(x)], answers[len(x) :]
            answer = torch.lerp(free, given, self.guidance)
        return self.process.velocity(answer, images, t).flatten(1)

    def guides(self, labels: Tensor | None) -> bool:
        """True if a velocity takes two evaluations of the network."""
        return labels is not None and self.guidance != 1

    def make(self, noise: Tensor, labels: Tensor | None) -> Solution:
        """Images of noise of variance 1."""
        return self._follow(noise * self.process.prior_std, labels)

    def vary(
        self, noise: Tensor, images: Tensor, labels: Tensor | None, strength: float
    ) -> Solution:
        """Images taken part of the way to noise, and back (SDEdit: Meng et al., 2022)."""
        start = self.process.times(self.solver.steps, strength)[:1].to(noise)
        x = self.process.mix(images, noise, start.expand(len(noise)))
        return self._follow(x, labels, strength)

    def fill(self, noise: Tensor, images: Tensor, hole: Tensor, labels: Tensor | None) -> Solution:
        """Images whose pixels outside of the hole are known.

        These stay on the path from their noise to what they are, and the others follow the velocity
        beside them (replacement: Song et al., 2021, arXiv:2011.13456, appendix I.2).
        """

        def around(velocity: Velocity) -> Velocity:
            def kept(x: Tensor, t: Tensor) -> Tensor:
                x = torch.where(hole, x, self.process.mix(images, noise, t))
                return torch.where(hole, velocity(x, t), self.process.drift(images, noise))

            return kept

        start = self.process.times(1)[:1].to(noise).expand(len(noise))
        known = self.process.mix(images, noise, start)
        x = torch.where(hole, noise * self.process.prior_std, known)
        return self._follow(x, labels, around=around)

    def _follow(
        self,
        x: Tensor,
        labels: Tensor | None,
        strength: float = 1.0,
        around: Callable[[Velocity], Velocity] = lambda velocity: velocity,
    ) -> Solution:
        """States followed to images; evaluations of the network by item."""
        velocity = around(lambda x, t: self.velocity(x, t, labels))
        times = self.process.times(self.solver.steps, strength).to(x)
        x, evaluations = self.solver(velocity, x, times)
        x = self.arrive(x, times[-1], velocity)
        return Solution(x, (evaluations + 1) * (2 if self.guides(labels) else 1))

    def arrive(self, x: Tensor, t: Tensor, velocity: Velocity) -> Tensor:
        """States at the last time of a grid brought to images by one straight step."""
        return x + (self.process.beyond - t) * velocity(x, t.expand(len(x)))
