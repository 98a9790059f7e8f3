"""Local features of the reference, where they lie, and the index of all of them."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novum.core import distributed
from novum.core.memory import require_memory
from novum.metrics.novelty.descriptor_index import (
    AT_ONCE,
    DescriptorIndex,
    Near,
    Quantiser,
    exact_distances,
    merge,
    train_quantiser,
    training_rows,
)
from novum.metrics.novelty.local_cache import features_in, stored_index, stored_quantiser
from novum.metrics.novelty.local_features import MOST_POINTS, WIDTH, LocalFeatures, starts_of
from novum.metrics.novelty.pool import Pool
from novum.metrics.novelty.reference_blocks import (
    Block,
    HeldArrays,
    ReferenceBlocks,
    StoredArrays,
)

SEGMENT = 2**23  # descriptors of an index: 336 MB
PER_DESCRIPTOR = 40  # bytes of it
WORKING = 2**28  # bytes that a search takes beside it
POINT = 16  # bytes of a keypoint, before the WIDTH of its descriptor


class LocalReference:
    """Features and thumbnails of training and held-out images, of which each rank holds some.

    Args:
        stored: Those of this rank's blocks.
        positions: Of each row in the pool, -1 for rows that stand for none of its items.
    """

    def __init__(
        self,
        blocks: ReferenceBlocks,
        stored: dict[Block, StoredArrays | HeldArrays],
        positions: Tensor,
        sides: list[int],
    ) -> None:
        self.blocks, self.stored, self.positions, self.sides = blocks, stored, positions, sides

    def features(self, rows: Tensor) -> LocalFeatures:
        """Those of images (k,); all ranks ask at once."""
        counts = self.blocks.ask(rows, self._counts, "counts of local features")
        starts = starts_of(counts)
        within = torch.arange(int(starts[-1])) - starts[:-1].repeat_interleave(counts)
        wanted = torch.stack([rows.repeat_interleave(counts), within], 1)
        found = self.blocks.ask(wanted, self._features, "local features")
        points = found[:, :POINT].contiguous().view(torch.float32)
        return LocalFeatures(points, found[:, POINT:].contiguous(), starts)

    def pictures(self, rows: Tensor) -> list[Tensor]:
        """Thumbnails of images (k,), in each size; all ranks ask at once."""
        found = self.blocks.ask(rows, self._pictures, "thumbnails")
        parts = found.split([side**2 for side in self.sides], 1)
        return [x.unflatten(1, (side, side)) for x, side in zip(parts, self.sides, strict=True)]

    def descriptors(self, wanted: Tensor) -> Tensor:
        """Descriptors of (row, number) pairs (k, 2) that this rank holds."""
        like = torch.empty(0, WIDTH, dtype=torch.uint8)
        return self.blocks.gather(
            wanted,
            lambda block, mine: (arrays := self.stored[block].known())["descriptors"][
                _places(arrays["counts"], mine)
            ],
            like,
        )

    def of(self, block: Block) -> LocalFeatures:
        """Features of a block's images, mapped."""
        return features_in(self.stored[block].known())

    def _counts(self, rows: Tensor) -> Tensor:
        like = torch.empty(0, dtype=torch.int64)
        return self.blocks.gather(rows, lambda b, at: self.stored[b].known()["counts"][at], like)

    def _features(self, wanted: Tensor) -> Tensor:
        def load(block: Block, mine: Tensor) -> Tensor:
            arrays = self.stored[block].known()
            places = _places(arrays["counts"], mine)
            points = arrays["points"][places].view(torch.uint8)
            return torch.cat([points, arrays["descriptors"][places]], 1)

        like = torch.empty(0, POINT + WIDTH, dtype=torch.uint8)
        return self.blocks.gather(wanted, load, like)

    def _pictures(self, rows: Tensor) -> Tensor:
        def load(block: Block, mine: Tensor) -> Tensor:
            arrays = self.stored[block].known()
            return torch.cat(
                [arrays[f"gray{i}"][mine].flatten(1) for i in range(len(self.sides))], 1
            )

        like = torch.empty(0, sum(side**2 for side in self.sides), dtype=torch.uint8)
        return self.blocks.gather(rows, load, like)


class SharedIndex:
    """Index of the descriptors of a pool's items: one quantiser, and segments on each rank.

    A rank that holds one segment keeps it in memory; others are read from the cache in turn.
    """

    def __init__(self, reference: LocalReference, pool: Pool) -> None:
        self.reference, self.rows = reference, pool.rows
        self.together = reference.blocks.together
        items = hashlib.sha256(pool.rows.numpy().tobytes()).hexdigest()
        counts = self._counts()
        self.count = int(counts.sum())
        mine = [int(counts[b.first : b.first + len(b)].sum()) for b in reference.blocks.own]
        require_memory(
            PER_DESCRIPTOR * min(sum(mine), SEGMENT) + WORKING,
            f"the index of {self.count:,} local features of {len(pool.rows):,} images",
            "judge against fewer",
        )
        self.quantiser = self._quantiser(counts, items) if self.count else None
        self.segments = list(_segments(reference.blocks.own, mine))
        self._known = f"{items}{self.quantiser.digest}" if self.quantiser else ""
        self._resident = self._load(self.segments[0]) if len(self.segments) == 1 else None

    def search(self, asked: list[LocalFeatures]) -> list[Near]:
        """This rank's descriptors nearest to those asked for, with exact distances."""
        found = [Near.none(len(x.points)) for x in asked]
        voting = [number for number, x in enumerate(asked) if len(x.points)]
        if self.quantiser is None:
            return found
        lists = {number: self._assigned(asked[number].descriptors) for number in voting}
        for segment in self.segments:
            index = self._resident or self._load(segment)
            for number in voting:
                parts = _parts(asked[number].descriptors, *lists[number])
                near = [index.search(*part) for part in parts]
                near = Near(*(torch.cat(x) for x in zip(*near, strict=True)))
                found[number] = merge([found[number], near], len(near.key))
        for number in voting:
            distance = torch.cat(list(self._exact(found[number], asked[number].descriptors)))
            found[number] = found[number]._replace(distance=distance)
        return found

    def _assigned(self, descriptors: Tensor) -> tuple[NDArray, NDArray]:
        assert self.quantiser is not None
        parts = [self.quantiser.assign(part) for part in descriptors.split(AT_ONCE)]
        distances, lists = (np.concatenate(x) for x in zip(*parts, strict=True))
        return distances, lists

    def _exact(self, near: Near, descriptors: Tensor) -> Iterator[Tensor]:
        def known(keys: Tensor) -> Tensor:
            rows = self.rows[keys // MOST_POINTS]
            return self.reference.descriptors(torch.stack([rows, keys % MOST_POINTS], 1))

        return exact_distances(near, descriptors, known)

    def _counts(self) -> Tensor:
        """Features (n,) of each row that stands for an item; 0 of others."""
        own = [self.reference.stored[b].known()["counts"] for b in self.reference.blocks.own]
        counts = torch.cat([torch.zeros(0, dtype=torch.int64), *own])
        if self.together:
            counts = distributed.all_gather_rows(counts, "counts of local features")
        return counts.masked_fill(self.reference.positions < 0, 0)

    def _quantiser(self, counts: Tensor, items: str) -> Quantiser:
        """The first rank's, from the cache or trained."""
        first = not self.together or distributed.is_rank_zero()
        blocks = self.reference.blocks
        stored = stored_quantiser(blocks, items)
        known = stored.load() if first else None
        made = None if known is None else [known[name].numpy().copy() for name in stored.names]
        if self._of_first(made) is None:
            chosen, ends = training_rows(self.count), counts.cumsum(0)
            rows = torch.searchsorted(ends, chosen, right=True)
            wanted = torch.stack([rows, chosen - (ends - counts)[rows]], 1)
            some = blocks.ask(wanted, self.reference.descriptors, "descriptors")
            if first:
                made = list(train_quantiser(some, self.count))
                arrays = zip(stored.names, map(torch.from_numpy, made), strict=True)
                stored.keep(dict(arrays))
        return Quantiser(*self._of_first(made))

    def _of_first(self, made: Any) -> Any:
        return distributed.all_gather_objects(made, "the quantiser")[0] if self.together else made

    def _load(self, segment: list[Block]) -> DescriptorIndex:
        """Index of the descriptors of some blocks, from the cache or made."""
        assert self.quantiser is not None
        stored = stored_index(self.reference.blocks, segment, self._known)
        known = stored.load()
        if known is not None:
            return DescriptorIndex.restored(known["index"].numpy())
        index = DescriptorIndex(self.quantiser)
        for block in segment:
            features = self.reference.of(block)
            position = self.reference.positions[block.first + features.owners]
            within = torch.arange(len(position)) - features.starts[features.owners]
            there = position >= 0
            keys = position * MOST_POINTS + within
            index.add(features.descriptors[there], keys[there])
        stored.keep({"index": torch.from_numpy(index.saved())})
        return index


def _places(counts: Tensor, wanted: Tensor) -> Tensor:
    return starts_of(counts)[wanted[:, 0]] + wanted[:, 1]


def _segments(blocks: list[Block], counts: list[int]) -> Iterator[list[Block]]:
    """Runs of blocks of about SEGMENT descriptors."""
    run: list[Block] = []
    held = 0
    for block, count in zip(blocks, counts, strict=True):
        if run and held + count > SEGMENT:
            yield run
            run, held = [], 0
        run, held = [*run, block], held + count
    if run and held:
        yield run


def _parts(
    descriptors: Tensor, distances: NDArray, lists: NDArray
) -> Iterator[tuple[Tensor, NDArray, NDArray]]:
    for first in range(0, len(descriptors), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        yield descriptors[part], distances[part], lists[part]
