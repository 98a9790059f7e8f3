"""Small worlds with a known truth: a mixture of Gaussians, and generators that copy a share."""

import torch
from torch import Tensor

SPREADS = {"fresh": 1.0, "truncated": 0.4, "underfit": 1.6}  # of the modes, over the data's own


class World:
    def __init__(self, seed: int, d: int = 16, modes: int = 10) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.modes = self._normal(modes, d)

    def draw(self, n: int, spread: float = 1.0) -> Tensor:
        mode = torch.randint(len(self.modes), (n,), generator=self.generator)
        return self.modes[mode] + 0.7 * spread * self._normal(n, self.modes.shape[1])

    def split(self, n_train: int, n_heldout: int) -> tuple[Tensor, Tensor]:
        return self.draw(n_train), self.draw(n_heldout)

    def generate(
        self, n: int, kind: str, train: Tensor, copies: int = 0, noise: float = 0.0
    ) -> Tensor:
        """n samples; the first `copies` are training rows drawn at random, with noise added."""
        rows = torch.randint(len(train), (copies,), generator=self.generator)
        copied = train[rows] + noise * self._normal(copies, train.shape[1])
        return torch.cat([copied, self.draw(n - copies, SPREADS[kind])])

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)
