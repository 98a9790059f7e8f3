"""Training and held-out images in blocks, each held by one rank and kept on disk.

What a detector reads of a block of rows is a few arrays, in the cache under the fingerprint of the
images; the last MAPPED bytes of those used stay mapped, so that a process holds no more. Blocks are
dealt out to the ranks. Samples go to all of them, and what is found in a block comes back.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.core import distributed
from novum.core.cache import entry, load_array, store
from novum.core.errors import InputError
from novum.core.memory import require_room
from novum.datamodules.sources.reference_bundle import BundledImages
from novum.metrics.features.extraction import Images, fingerprint
from novum.metrics.novelty.pool import Pool

UNIT = 512  # rows: blocks begin at multiples of it in their set
MOST_BLOCKS = 128  # of a reference, until a block has LARGEST rows
LARGEST = 2**16
MAPPED = 2**30  # bytes of arrays that stay mapped: to open a file takes longer than to read a row

Arrays = dict[str, Tensor]
_mapped: OrderedDict[Path, Mapping[str, Tensor]] = OrderedDict()  # the last one used is the last


class Block(NamedTuple):
    source: int  # the set: 0 is training
    start: int  # of its rows in the set
    stop: int
    first: int  # its first row in training followed by held-out images

    def __len__(self) -> int:
        return self.stop - self.start


def block_rows(total: int) -> int:
    """Rows of a block of a reference of so many."""
    units = -(-total // (UNIT * MOST_BLOCKS))
    return min(max(units, 1) * UNIT, LARGEST)


class ReferenceBlocks:
    """Rows of training images, then of held-out ones, in blocks that are dealt out over ranks.

    Args:
        together: All ranks make it at once, and each holds a part of the blocks.
        rows: Of a block, a multiple of UNIT; by default as `block_rows` says.
    """

    def __init__(
        self, train: Images, heldout: Images | None, together: bool, rows: int | None = None
    ) -> None:
        self.sources = [x for x in (train, heldout) if x is not None]
        self.total, self.together = sum(map(len, self.sources)), together
        rows = rows or block_rows(self.total)
        self.every: list[Block] = []
        for number, source in enumerate(self.sources):
            before = 0 if number == 0 else len(train)
            for start in range(0, len(source), rows):
                stop = min(start + rows, len(source))
                self.every.append(Block(number, start, stop, before + start))
        count = len(self.every)
        dealt = distributed.shards(count) if together else [slice(0, count)]
        self.own = self.every[distributed.shard(count) if together else slice(0, count)]
        self._starts = torch.tensor([block.first for block in self.every])
        holders = [rank for rank, part in enumerate(dealt) for _ in range(part.start, part.stop)]
        self._holders, self._ranks = torch.tensor(holders), len(dealt)

    def ask(self, wanted: Tensor, answer: Callable[[Tensor], Tensor], where: str) -> Tensor:
        """Answers (k, ...) of the ranks that hold rows, on the CPU.

        Args:
            wanted: Rows (k,), or (k, 2) with something in them that a holder knows.
            answer: Takes such of rows that this rank holds; none it answers with none.
        """
        if self._ranks == 1:
            return answer(wanted)
        holder = self._holders[self._number(wanted)]
        order = holder.argsort(stable=True)
        parts = wanted[order].split(holder.bincount(minlength=self._ranks).tolist())
        asked = distributed.exchange(parts, where)
        brought = torch.cat(distributed.exchange([answer(part) for part in asked], where))
        return torch.empty_like(brought).index_copy_(0, order, brought)

    def gather(
        self, wanted: Tensor, load: Callable[[Block, Tensor], Tensor], like: Tensor
    ) -> Tensor:
        """Rows that this rank holds, or something in them, read block by block.

        Args:
            load: Takes a block and such of its rows, counted from its first.
            like: (0, ...) of the shape and type of what is read.
        """
        taken = like.new_empty(len(wanted), *like.shape[1:])
        number, order = self._number(wanted).sort(stable=True)
        blocks, counts = number.unique_consecutive(return_counts=True)
        for block, mine in zip(blocks.tolist(), order.split(counts.tolist()), strict=True):
            within = wanted[mine]
            (within if within.ndim == 1 else within[:, 0]).sub_(self.every[block].first)
            taken[mine] = load(self.every[block], within)
        return taken

    def _number(self, wanted: Tensor) -> Tensor:
        rows = wanted if wanted.ndim == 1 else wanted[:, 0].contiguous()
        return torch.bucketize(rows, self._starts, right=True) - 1

    def held(
        self,
        detector: str,
        settings: object,
        block: Block,
        fits: Callable[[Arrays], bool] = lambda _: True,
    ) -> "HeldArrays | None":
        """A block's arrays of a reference bundle; None if its set is none or lacks them.

        Raises:
            InputError: If they were computed with other settings, or do not fit.
        """
        source = self.sources[block.source]
        if not isinstance(source, BundledImages):
            return None
        arrays = source.block(detector, settings, slice(block.start, block.stop))
        if arrays is None:
            return None
        with suppress(KeyError):
            if fits(arrays):
                return HeldArrays(arrays)
        raise InputError(
            f"{source.bundle.where} is damaged: what it holds for '{detector}' is not of its"
            " images; make it again by --save-reference"
        )

    def images(self, block: Block) -> Images:
        """uint8 images of a block."""
        return _Rows(self.sources[block.source], block)

    def entry(self, key: Sequence[object], block: Block) -> Path:
        """Path of a block's arrays in the cache, without their names."""
        source = self.sources[block.source]
        return entry([*key, fingerprint(source), len(source), block.start, block.stop])


class _Rows:
    """The rows of a block, as a set of its own."""

    def __init__(self, source: Images, block: Block) -> None:
        self.source, self.block = source, block

    def __len__(self) -> int:
        return len(self.block)

    def __getitem__(self, rows: slice) -> Tensor:
        first, stop, _ = rows.indices(len(self))
        return self.source[self.block.start + first : self.block.start + stop]


class HeldArrays:
    """Arrays of a block that a reference bundle holds, as `StoredArrays` gives them."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays

    def load(self) -> Mapping[str, Tensor]:
        return self._arrays

    known = load

    def keep(self, arrays: Arrays) -> None:
        raise AssertionError("the arrays of a bundle are read, never written")


class StoredArrays:
    """Arrays of a block: on disk, or in memory where the disk does not take them.

    Args:
        path: Of the entry in the cache.
        fits: Whether arrays have the shapes and types of the names.
    """

    def __init__(
        self, path: Path, names: Sequence[str], fits: Callable[[Arrays], bool] = lambda _: True
    ) -> None:
        self.path, self.names, self._fits = path, names, fits
        self._kept: Mapping[str, Tensor] | None = None

    def load(self) -> Mapping[str, Tensor] | None:
        """The arrays, mapped as long as they are used; None if they are not all there."""
        if self._kept is not None:
            return self._kept
        found: Arrays = {}
        for name in self.names:
            array = load_array(self._file(name), None)
            if array is None:
                return None
            found[name] = torch.from_numpy(array)
        return found if self._fits(found) else None

    def known(self) -> Mapping[str, Tensor]:
        """The arrays, which were there before."""
        if self.path in _mapped:
            _mapped.move_to_end(self.path)
            return _mapped[self.path]
        found = self.load()
        if found is None:
            raise OSError(f"{self.path} went from the cache while it was used")
        if found is not self._kept:
            _mapped[self.path] = found
            while len(_mapped) > 1 and sum(map(_bytes, _mapped.values())) > MAPPED:
                _mapped.popitem(last=False)
        return found

    def keep(self, arrays: Arrays) -> None:
        """Write them, the last of the names last: without it the rest is not read."""
        _mapped.pop(self.path, None)
        for name in self.names:
            array = arrays[name].cpu().numpy()
            store(self._file(name), lambda file, array=array: np.save(file, array))
        if self.load() is None:
            self._kept = arrays

    def _file(self, name: str) -> Path:
        return self.path.with_suffix(f".{name}.npy")


def _bytes(arrays: Mapping[str, Tensor]) -> int:
    return sum(array.nbytes for array in arrays.values())


def positions_of(pool: Pool, total: int) -> Tensor:
    """Position in the pool (n,) of each row that stands for an item; -1 of the others."""
    positions = torch.full((total,), -1)
    positions[pool.rows] = torch.arange(len(pool.rows))
    return positions


def require_index_room(needed: float, folder: Path, images: int) -> None:
    """Refuse an index of images that does not fit on the disk, before it is made."""
    require_room(needed, folder, f"the index of {images:,} images, searched for copies,")


def first_image(images: Images) -> Tensor:
    """The first image (1, c, h, w), or a black one of a bundle, which may hold none."""
    if isinstance(images, BundledImages):
        return torch.zeros(1, *images.shape, dtype=torch.uint8)
    return images[:1]
