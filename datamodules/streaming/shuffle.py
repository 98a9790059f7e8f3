"""The order of data in shards: an endless shuffle that any position can be entered at."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LANES = 64  # places of an epoch that are read side by side


class Window(NamedTuple):
    """A run of one lane's rows, which are shuffled among each other."""

    epoch: int
    lane: int
    first: int  # row of the lane
    last: int


class Shuffle:
    """Passes over blocks of rows, a function of the seed and the blocks alone.

    Each epoch puts the blocks in a new order and cuts the rows of that order into lanes of equal
    length (to one row). Position q of an epoch is row q // S of lane q % S, so that a reader that
    takes every V-th position meets 1 / gcd(V, S) of the lanes: ranks and workers read data of
    their own, and together the order of one reader. The rows of a lane are shuffled in windows.

    Args:
        counts: Rows in each block.
        lanes: At most this many lanes (a power of two, S).
        buffer: Rows in all lanes' windows together.
        seed: Decides the order.
    """

    def __init__(self, counts: NDArray, lanes: int, buffer: int, seed: int) -> None:
        self.counts, self.seed, self.size = counts, seed % 2**64, int(counts.sum())
        self.lanes = 1 << (max(1, min(lanes, len(counts), buffer)).bit_length() - 1)
        self.width = max(1, buffer // self.lanes)
        self._epoch, self._order, self._ends = -1, counts[:0], counts[:0]

    def place(self, position: int) -> tuple[int, int, int]:
        """Epoch, lane and row of the lane."""
        epoch, within = divmod(position, self.size)
        return epoch, within % self.lanes, within // self.lanes

    def window(self, epoch: int, lane: int, row: int) -> Window:
        """The window of a row; the lanes' first ones differ in width, so as not to end together."""
        first = -(-self.width * (lane + 1) // self.lanes)
        begin = first + (row - first) // self.width * self.width
        last = min(begin + self.width, self.rows(lane))
        return Window(epoch, lane, max(0, begin), last)

    def rows(self, lane: int) -> int:
        return -((lane - self.size) // self.lanes)

    def start(self, lane: int) -> int:
        """The row of the epoch that a lane begins at."""
        return lane * (self.size // self.lanes) + min(lane, self.size % self.lanes)

    def mixed(self, window: Window) -> list[int]:
        """The order of a window's rows, which are counted from 0 here."""
        epoch, lane, first, last = window
        return _permutation(last - first, self.seed, 1, epoch, lane, first).tolist()

    def enter(self, epoch: int, row: int) -> tuple[NDArray, int]:
        """The blocks from a row of the epoch on (those before come last), and the row's place in
        the first of them."""
        if epoch != self._epoch:
            self._order = _permutation(len(self.counts), self.seed, 0, epoch)
            self._ends = self.counts[self._order].cumsum()
            self._epoch = epoch
        block = int(np.searchsorted(self._ends, row, side="right"))
        before = int(self._ends[block - 1]) if block else 0
        return np.roll(self._order, -block), row - before


def _permutation(size: int, *seeds: int) -> NDArray:
    """By sorting the bits of PCG64, which no release of NumPy may change."""
    bits: Sequence[int] | NDArray = np.random.PCG64(seeds).random_raw(size)
    return np.argsort(bits, kind="stable")
