"""Shuffled, decoded images by their position in the order, and what stands in for damaged ones."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from torch import Tensor

from novum.core.errors import InputError
from novum.datamodules.sources.decode import ImageTransform, unreadable
from novum.datamodules.streaming.shard_sets import BadShard, Record, ShardSet
from novum.datamodules.streaming.shuffle import Shuffle, Window


class Reader:
    """The images at rising positions; undecoded ones are held a window of each lane at a time.

    What cannot be read stops with its name, or others stand in for it, chosen by place and not by
    what was read before: for a part of a shard the parts that come next in the epoch's order, for
    an image the next of its window.
    """

    def __init__(
        self, images: ShardSet, shuffle: Shuffle, transform: ImageTransform, skip_bad: bool
    ) -> None:
        self.images, self.shuffle = images, shuffle
        self.transform, self.skip_bad = transform, skip_bad
        self.skipped: list[str] = []  # unreadable files, until they are reported
        self._epoch = -1
        self._held: dict[int, tuple[Window, list[Record]]] = {}  # by lane
        self._running: dict[int, tuple[int, Iterator[Record]]] = {}  # from which row of the lane on

    def read(self, position: int) -> tuple[Tensor, int | None]:
        """Image and label."""
        epoch, lane, row = self.shuffle.place(position)
        if epoch != self._epoch:  # with another share of the lanes, perhaps
            self._epoch = epoch
            self._held.clear()
            self._running.clear()
        for tries, record in enumerate(
            self._candidates(self.shuffle.window(epoch, lane, row), row)
        ):
            try:
                return self.transform(record.data), record.label
            except Exception as error:
                if not self.skip_bad:
                    raise unreadable(record.name, error) from error
                if tries == 0:
                    self.skipped.append(record.name)
        raise InputError(f"{self.images.shards[0].file}: no image can be read, nor any after it")

    def _candidates(self, window: Window, row: int) -> Iterator[Record]:
        """The record of a row, the others of its window, and then the others of its lane."""
        epoch, lane, first, last = window
        if lane not in self._held or self._held[lane][0] != window:
            self._held.pop(lane, None)  # frees it before the next one is read
            self._held[lane] = window, self._load(window)
        records = self._held[lane][1]
        yield from records[row - first :] + records[: row - first]
        start = self.shuffle.start(lane)
        yield from islice(self._rows(epoch, start + last), self.shuffle.rows(lane) - last)
        yield from islice(self._rows(epoch, start), first)

    def _load(self, window: Window) -> list[Record]:
        epoch, lane, first, last = window
        at, records = self._running.pop(lane, (-1, iter(())))
        if at != first:
            records = self._rows(epoch, self.shuffle.start(lane) + first)
        found = list(islice(records, last - first))
        self._running[lane] = last, records
        return [found[i] for i in self.shuffle.mixed(window)]

    def _rows(self, epoch: int, row: int) -> Iterator[Record]:
        """The records of an epoch's blocks from a row on, not shuffled."""
        blocks, first = self.shuffle.enter(epoch, row)
        for place, block in enumerate(blocks):
            blocks_from = chain(blocks[place:], blocks[:place])
            yield from self._block(blocks_from, first, int(self.images.counts[block]))
            first = 0

    def _block(self, blocks: Iterable[int], done: int, count: int) -> Iterator[Record]:
        """Rows of the first block; from where it breaks, rows of the next that is whole there."""
        for block in blocks:
            size = int(self.images.counts[block])
            try:
                while size and done < count:
                    at = done % size
                    for record in self.images.read(block, at, min(size, at + count - done)):
                        yield record
                        done += 1
            except BadShard as error:
                if not self.skip_bad:
                    raise
                self.skipped.append(error.what)
            if done == count:
                return
        raise InputError(f"{self.images.shards[0].file}: no shard can be read, nor any after it")
