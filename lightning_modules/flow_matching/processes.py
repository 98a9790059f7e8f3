"""Paths from noise to images, and how a network is asked for the velocity along them.

Each says what the network sees and what it is to answer; the answer's mean squared error is the
loss, and the answer gives the velocity dx/dt of the ordinary differential equation.
"""

import torch
from torch import Tensor

from novum.core.errors import InputError
from novum.core.precision import fine_dtype

TAIL = 1e-5  # shares of the times at either end that are never drawn
SHARPEST = 0.002  # noise left of images whose likelihood is asked for
RHO = 7.0  # the higher, the more steps at low noise (Karras et al., 2022, eq. 5)


def noise_levels(high: float, low: float, steps: int, rho: float = RHO) -> Tensor:
    """Levels (steps + 1,) from high to low, evenly spaced in their rho-th roots."""
    share = torch.linspace(0, 1, steps + 1, dtype=fine_dtype(torch.get_default_dtype()))
    return (high ** (1 / rho) + share * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def along(t: Tensor, x: Tensor) -> Tensor:
    """Times (b,) in the shape that multiplies x (b, ...)."""
    return t.view(-1, *(1,) * (x.ndim - 1))


class RectifiedFlow:
    """Straight lines: x = (1 - t) noise + t image, t from 0 to 1; the network is the velocity.

    The conditional path of optimal transport with sigma_min = 0 (Lipman et al., 2023,
    arXiv:2210.02747, eq. 20 to 23), or rectified flow (Liu et al., 2023, arXiv:2209.03003).
    """

    prior_std = 1.0  # of x where a path begins
    end = 0.95  # of steps: nearer to images, noise is too small for a network to say what it is
    beyond = 1.0  # where one last straight step leads from there

    def draw_times(self, uniform: Tensor) -> Tensor:
        """Times (b,) to train at, of numbers in [0, 1)."""
        return uniform

    def mix(self, images: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Points of the paths at times (b,)."""
        return noise + along(t, images) * (images - noise)

    def drift(self, images: Tensor, noise: Tensor) -> Tensor:
        """Velocity along one path, at any time."""
        return images - noise

    def inputs(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The image and the time that the network is given."""
        return x, t

    def target(self, images: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The answer that it is to give."""
        return images - noise

    def velocity(self, answer: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """dx/dt by its answer."""
        return answer

    def times(self, steps: int, strength: float = 1.0) -> Tensor:
        """Times (steps + 1,) of samples, from noise, or so much of the way to it."""
        dtype = fine_dtype(torch.get_default_dtype())
        return torch.linspace(1 - strength, 1, steps + 1, dtype=dtype) * self.end

    def times_of_density(self, steps: int) -> Tensor:
        """Times (steps + 1,) from images all but free of noise to noise."""
        return 1 - noise_levels(1.0, SHARPEST, steps).flip(0)


class EDM:
    """Images under noise of deviation sigma: x = image + sigma noise, and sigma is the time.

    Preconditioning, the noise levels trained at and those of the steps are those of Karras et al.
    (2022), arXiv:2206.00364, table 1: what the network answers is the image, scaled and shifted so
    that inputs and answers have variance 1 at every level.

    Args:
        sigma_data: Standard deviation of the pixels in [-1, 1].
        sigma_min: Lowest noise of a step; from it one last step leads to the image.
        sigma_max: Highest.
        rho: The higher, the more steps at low noise.
        log_mean: Mean of the logarithm of the noise that is trained at.
        log_std: Its standard deviation.
    """

    beyond = 0.0  # where one last straight step leads

    def __init__(
        self,
        sigma_data: float = 0.5,
        sigma_min: float = SHARPEST,
        sigma_max: float = 80.0,
        rho: float = RHO,
        log_mean: float = -1.2,
        log_std: float = 1.2,
    ) -> None:
        if not 0 < sigma_min < sigma_max:
            raise InputError(
                f"sigma_min is {sigma_min} and sigma_max {sigma_max}: give 0 < sigma_min <"
                " sigma_max"
            )
        for name, value in {"sigma_data": sigma_data, "rho": rho, "log_std": log_std}.items():
            if not value > 0:
                raise InputError(f"{name} is {value}: it must be above 0")
        self.sigma_data, self.sigma_min, self.sigma_max = sigma_data, sigma_min, sigma_max
        self.rho, self.log_mean, self.log_std = rho, log_mean, log_std
        self.prior_std = sigma_max

    def draw_times(self, uniform: Tensor) -> Tensor:
        normal = torch.special.ndtri(uniform.clamp(TAIL, 1 - TAIL))
        return torch.exp(self.log_mean + self.log_std * normal)

    def mix(self, images: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return images + along(t, images) * noise

    def drift(self, images: Tensor, noise: Tensor) -> Tensor:
        return noise

    def scales(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c_skip, c_out and c_in in the shape that multiplies x."""
        sigma = along(t, x)
        total = sigma.square() + self.sigma_data**2
        return self.sigma_data**2 / total, sigma * self.sigma_data * total.rsqrt(), total.rsqrt()

    def inputs(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.scales(x, t)[2] * x, t.log() / 4

    def target(self, images: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        skip, out, _ = self.scales(images, t)
        return (images - skip * self.mix(images, noise, t)) / out

    def denoised(self, answer: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """D(x; sigma), the mean of the images that x may come from."""
        skip, out, _ = self.scales(x, t)
        return skip * x + out * answer

    def velocity(self, answer: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return (x - self.denoised(answer, x, t)) / along(t, x)

    def times(self, steps: int, strength: float = 1.0) -> Tensor:
        """Noise levels (steps + 1,) from the highest, or some of the way to it, to the lowest."""
        low, high = (s ** (1 / self.rho) for s in (self.sigma_min, self.sigma_max))
        start = (low + strength * (high - low)) ** self.rho
        return noise_levels(start, self.sigma_min, steps, self.rho)

    def times_of_density(self, steps: int) -> Tensor:
        return self.times(steps).flip(0)
