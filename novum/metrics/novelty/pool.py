"""Training and held-out rows as one shuffled pool of distinct items.

If a generator did not copy, which rows were trained on is mere chance to it. So whatever is chosen
from the pool without looking at labels meets training items at their share of the pool, however
truncated or underfit the generator is and however the two sets differ in size. All tests of copying
rest on this.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from novum.core.memory import free_bytes, require_memory
from novum.metrics.candidate_filter import Rows
from novum.metrics.checks import check_features, check_same_width
from novum.metrics.neighbours import distinct_rows


class Pool(NamedTuple):
    """Distinct items in random order, each on the side of one of its rows, drawn at random.

    So an item that occurs in both sets is on the side of training as often as its rows are;
    dropping it, or counting it for training, would bias what is left.
    """

    rows: Tensor  # (g,) int64, the item's first row on its side, in training then held-out data
    trained: Tensor  # (g,) bool: on the side of training
    of_row: Tensor  # (t + h,) int64: the item of each row
    num_train: int  # rows of training
    unit: Tensor  # (g,) int64, numbers of what was held out whole: the item itself, or its group

    @property
    def unit_trained(self) -> Tensor:
        """Mask of the units that are of training."""
        trained = torch.zeros(int(self.unit.max()) + 1, dtype=torch.bool)
        trained[self.unit] = self.trained
        return trained

    @property
    def train_items(self) -> int:
        """Units on the side of training."""
        return int(self.unit_trained.sum())

    @property
    def heldout_items(self) -> int:
        trained = self.unit_trained
        return len(trained) - int(trained.sum())

    def table(self, train: Tensor, heldout: Tensor | None) -> "PoolTable":
        """The rows (g, ...) of two sets that stand for the items, copied only as they are read."""
        return PoolTable(self, train, heldout)


class PoolTable(Rows):
    """Rows of two sets, such as mapped files, in the order of a pool's items."""

    def __init__(self, pool: Pool, train: Tensor, heldout: Tensor | None) -> None:
        super().__init__(train, pool.rows.to(train.device))
        self.train, self.heldout = train, heldout

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        rows = self.kept[index]
        taken = self.train.new_empty(*rows.shape, *self.train.shape[1:])
        own = rows < len(self.train)
        taken[own] = self.train[rows[own]]
        if self.heldout is not None:
            taken[~own] = self.heldout[rows[~own] - len(self.train)]
        return taken


def draw_pool(
    train: Tensor, heldout: Tensor | None, seed: int = 0, group: Tensor | None = None
) -> Pool:
    """The pool of two sets (t, d) and (h, d); equal rows, across sets too, are one item.

    `group` is that of `pool_of_items`.
    """
    sets = {"train": train} if heldout is None else {"train": train, "heldout": heldout}
    for name, x in sets.items():
        check_features(x, name, at_least=1)
    check_same_width(**sets)
    if heldout is not None:
        _require_memory(len(train) + len(heldout), train)
    _, item = distinct_rows(torch.cat(list(sets.values())))
    return pool_of_items(item.cpu(), len(train), seed, group)


def _require_memory(n: int, like: Tensor) -> None:
    """Fail early if n rows of a set do not fit beside it."""
    width = like[0].numel()
    require_memory(
        n * width * like.element_size(),
        f"a pool of {n:,} rows of {width:,} features",
        "judge against fewer images, or by a space with fewer features",
        partial(free_bytes, like.device),
    )


def pool_of_items(item: Tensor, num_train: int, seed: int = 0, group: Tensor | None = None) -> Pool:
    """The pool of rows (t + h,), each with the number of its item; h may be 0.

    `group` (t + h,) numbers what was held out whole, such as the images of a patient: then which
    groups are of training is the chance that tests rest on.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(item), generator=generator)
    count = int(item.max()) + 1
    every = torch.arange(len(item))

    def first(items: Tensor, places: Tensor) -> Tensor:
        """The smallest place of each item."""
        none = torch.full((count,), len(item))
        return none.scatter_reduce_(0, items, places, "amin")

    # the row of an item that comes first in a random order, and the items in that of these rows
    place = first(item[shuffled], every)
    order = place.argsort()
    trained = shuffled[place[order]] < num_train
    of_train, of_heldout = (
        first(item[p], every[p]) for p in (every < num_train, every >= num_train)
    )
    rows = torch.where(trained, of_train[order], of_heldout[order])
    of_row = torch.empty_like(order).scatter_(0, order, torch.arange(count))[item]
    unit = torch.arange(count) if group is None else group[rows].unique(return_inverse=True)[1]
    return Pool(rows, trained, of_row, num_train, unit)
