"""The order of training data."""

from collections.abc import Iterator

import torch
from torch import Tensor

from novum.core.errors import InputError


class InfiniteSampler:
    """Endless index batches: one permutation of the data after another, entered at any batch.

    Global batch b is positions [b B W, (b + 1) B W) of that order and rank r takes every W-th of
    them from r, so the order depends on the global batch only, not on how many ranks share it.

    Args:
        size: Number of items in the data set.
        batch_size: Items in one rank's batch (B).
        seed: Epoch e is shuffled by seed + e.
        rank: This process (r).
        world_size: Number of processes (W).
        start_batch: The first batch to yield.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start_batch: int = 0,
    ) -> None:
        if size < 1 or batch_size < 1:
            raise InputError(
                f"size ({size}) and batch_size ({batch_size}) must be positive: no data to sample"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size, self.start_batch = rank, world_size, start_batch

    def __iter__(self) -> Iterator[Tensor]:
        step = self.batch_size * self.world_size
        epoch, offset = divmod(self.start_batch * step, self.size)
        ahead = self.permutation(epoch)[offset:]
        while True:
            while len(ahead) < step:
                epoch += 1
                ahead = torch.cat([ahead, self.permutation(epoch)])
            yield ahead[self.rank : step : self.world_size]
            ahead = ahead[step:]

    def permutation(self, epoch: int) -> Tensor:
        return torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed + epoch))
