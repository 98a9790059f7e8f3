"""Fixed random choices of rows, so that figures of equal sizes can be compared."""

import torch
from torch import Tensor


def equal_sizes(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Choose as many real as generated rows, at random but fixed: these metrics vary with size."""
    size = min(len(real), len(fake))
    return choose_rows(real, size), choose_rows(fake, size)


def choose_rows(rows: Tensor, size: int) -> Tensor:
    """A fixed random choice of at most `size` rows."""
    if len(rows) <= size:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:size]]
