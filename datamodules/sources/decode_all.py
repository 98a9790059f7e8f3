"""A lazy source decoded once: into memory, or only to find what cannot be read."""

from functools import partial

import torch
from torch import Tensor

from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError, printable
from novum.core.memory import available_bytes
from novum.datamodules.sources.image_sources import ImageArray, LazyImages
from novum.datamodules.sources.raw_images import ArrayRows
from novum.datamodules.sources.threads import CHUNK, in_threads

SHARE = 0.8  # of the memory that is free, at most, for images that are kept


def fits(size: int, budget: float) -> bool:
    """Return True if images of `size` bytes may be kept in memory."""
    if size > budget:
        return False
    free = available_bytes()
    if size > SHARE * free:
        rank_zero_warn(
            f"{size / 1e9:.1f} GB of images do not fit into the {free / 1e9:.1f} GB of memory that"
            " are free: each is decoded whenever it is read"
        )
        return False
    return True


def decode_all(source: LazyImages, skip_bad: bool) -> ImageArray:
    """The whole source in memory, less the images that cannot be read if `skip_bad`."""
    images = torch.empty((len(source), *source.shape), dtype=torch.uint8)
    good = _visit(source, skip_bad, images)
    array = ImageArray(images, source.labels, source.class_names, source.ids)
    return array if len(good) == len(array) else array.select(good)


def drop_bad(source: LazyImages) -> LazyImages:
    """The source without the images that cannot be read: each is decoded once to know."""
    return source.select(_visit(source, skip_bad=True))


def _visit(source: LazyImages, skip_bad: bool, out: Tensor | None = None) -> Tensor:
    """Decode every image (into `out`); the positions of those that could be."""
    chunks = torch.arange(len(source)).split(CHUNK)
    visit = partial(_visit_chunk, source, skip_bad, out)
    # Small arrays are all Python overhead, where a second thread only waits for the first.
    threads = 1 if isinstance(source.rows, ArrayRows) else None
    bad = [i for found in in_threads(visit, chunks, "decoding", threads) for i in found]
    if bad:
        _report_skipped(source, bad)
    good = torch.ones(len(source), dtype=torch.bool)
    good[bad] = False
    return good.nonzero().flatten()


def _visit_chunk(
    source: LazyImages, skip_bad: bool, out: Tensor | None, positions: Tensor
) -> list[int]:
    """The positions in this chunk that cannot be decoded."""
    bad = []
    rows = source.index[positions].tolist()
    for i, row, data in zip(positions.tolist(), rows, source.rows.read(rows), strict=True):
        try:
            image = source.decode(row, data)
        except ValueError:
            if not skip_bad:
                raise
            bad.append(i)
        else:
            if out is not None:
                out[i] = image
    return bad


def _report_skipped(source: LazyImages, bad: list[int]) -> None:
    names = [source.rows.name(row) for row in source.index[bad[:3]].tolist()]
    names += ["..."] * (len(bad) > 3)
    what = f"{len(bad)} of {len(source)} images that cannot be read: {', '.join(names)}"
    if len(bad) == len(source):
        raise InputError(f"nothing is left without the {what}")
    rank_zero_warn(printable(f"skipped {what}"))
