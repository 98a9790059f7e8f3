"""Images of tar archives on this machine, as webdataset and img2dataset pack them."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from novum.datamodules.sources.decode import Encoded
from novum.datamodules.sources.raw_images import JoinedRows, Omission, RawSet, Rows
from novum.datamodules.sources.threads import in_threads
from novum.datamodules.streaming.shard_index import cached, is_picture, stamp, tar_samples
from novum.datamodules.streaming.shards import TarShard

Find = Callable[[dict[str, Any]], str | None]


class ArchiveRows:
    """Images of one archive, by their order in it."""

    def __init__(self, shard: TarShard) -> None:
        self.shard, self.ids = shard, range(len(shard.rows))

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, rows: list[int]) -> list[Encoded]:
        return [cell.data for cell in self.shard.cells(self.shard.rows[rows])]

    def name(self, row: int) -> str:
        return self.shard.name(row)


def archive_features(files: list[str]) -> dict[str, Any]:
    """Kinds of files that the samples of archives consist of, as columns.

    Where samples hold one image each, of several formats, `image` stands for whichever it is.
    """
    from datasets import Image, Value

    samples = [kinds for file in files for kinds in _samples(file)]
    kinds = dict.fromkeys(kind for sample in samples for kind in sample)
    features = {k: Value("int64" if k == "cls" else "string") for k in kinds}
    pictures: dict[str, Any] = {k: Image() for k in kinds if is_picture(k)}
    if len(pictures) > 1 and all(sum(map(is_picture, sample)) <= 1 for sample in samples):
        features = {"image": Image(), **features}
    return features | pictures


def _samples(file: str) -> Counter[tuple[str, ...]]:
    lines = cached(stamp(file), "tar samples", partial(tar_samples, file), None).tolist()
    parts = (line.split() for line in lines if line)
    return Counter({tuple(kinds): int(count) for count, *kinds in parts})


def load_archives(files: list[str], image: str | None, label: str | None) -> RawSet:
    """The images of archives, one after another.

    Args:
        files: Paths.
        image: The kind of image (`seg.png`) where samples hold several; None for any.
        label: The kind of the members that hold a class; None for no labels.
    """
    open_one = partial(TarShard, extension=image, label=label)
    shards = list(in_threads(open_one, files, "opening archives", unit_scale=False))
    parts: list[Rows] = [ArchiveRows(shard) for shard in shards]
    rows = parts[0] if len(parts) == 1 else JoinedRows(parts)
    return RawSet(rows, _labels(shards), left_out=_left_out(files, image))


def _labels(shards: list[TarShard]) -> Tensor | None:
    labels = torch.cat([torch.from_numpy(shard.rows[:, 2].copy()) for shard in shards])
    return None if not len(labels) or labels.min() < 0 else labels


def _left_out(files: list[str], image: str | None) -> tuple[Omission, ...]:
    """Samples without an image that is read."""
    count, examples = 0, []
    for file in files:
        samples = _samples(file)
        without = {kinds: n for kinds, n in samples.items() if not _has_image(kinds, image)}
        count += sum(without.values())
        examples += [f"{Path(file).name} ({', '.join(kinds)})" for kinds in without]
    reason = f"samples without a .{image}" if image else "samples without an image that is read"
    return (Omission(reason, count, tuple(examples[:3])),) if count else ()


def _has_image(kinds: tuple[str, ...], image: str | None) -> bool:
    return image in kinds if image else any(map(is_picture, kinds))
