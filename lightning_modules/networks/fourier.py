"""An image held as Fourier coefficients of decorrelated colours (Olah et al., 2017)."""

import torch
from torch import Tensor, nn

# Square root of the covariance of ImageNet's colours, as published with Lucid; the columns are
# the image's brightness and its two colour axes.
COLOUR_SQRT = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


class FourierImage(nn.Module):
    """n images (n, 3, h, w) in [0, 1] whose pixels are functions of their spectra.

    Gradient steps on coefficients divided by frequency^decay spend themselves evenly on all scales,
    where steps on pixels go into the finest one.

    Args:
        n: Images.
        height: Pixels.
        width: Pixels.
        decay: Power of the frequency; 1 is a natural image's, more is smoother.
        std: Of the coefficients at the start.
        generator: Of the start.
    """

    frequency_scale: Tensor  # (h, w // 2 + 1)
    colours: Tensor  # (3, 3)

    def __init__(
        self,
        n: int,
        height: int,
        width: int,
        decay: float = 1.0,
        std: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.size = height, width
        vertical, horizontal = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
        frequency = (vertical.square() + horizontal.square()).sqrt()
        scale = frequency.clamp_min(1 / max(height, width)).pow(-decay)
        # at any decay the start has the contrast that it has at decay 1
        scale *= frequency.clamp_min(1 / max(height, width)).pow(-1).norm() / scale.norm()
        self.register_buffer("frequency_scale", scale * (height * width) ** 0.5 / 4, False)
        colours = torch.tensor(COLOUR_SQRT)
        self.register_buffer("colours", colours / colours.norm(dim=0).max(), False)
        start = torch.randn(n, 3, *frequency.shape, 2, generator=generator)
        self.spectrum = nn.Parameter(std * start)

    def forward(self) -> Tensor:
        coefficients = torch.view_as_complex(self.spectrum) * self.frequency_scale
        channels = torch.fft.irfft2(coefficients, s=self.size)
        return torch.einsum("rc,nchw->nrhw", self.colours, channels).sigmoid()
