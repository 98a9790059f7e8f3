"""Survey of a set by the headers of all its files, before any image is decoded."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from novum.core.errors import InputError
from novum.datamodules.sources.decode import Header, Page, read_header, unreadable
from novum.datamodules.sources.image_sources import ImageSource, LazyImages
from novum.datamodules.sources.raw_images import SHOWN, ArrayRows, FrameRows, Omission, RawSet, Rows
from novum.datamodules.sources.threads import CHUNK, in_threads

COMMON = 0.1  # least share of a size that stands for all
UNKNOWN = Page("", 0, 0)  # of a file that cannot be read


@dataclass(frozen=True)
class Pages:
    """Mode and size of each image as it is stored.

    Args:
        kinds: The different ones.
        kind: (n,) Which of them an image is of.
        frame: (n,) Number of an image in its file; -1 if the file holds no other.
    """

    kinds: list[Page]
    kind: NDArray
    frame: NDArray

    def __len__(self) -> int:
        return len(self.kind)

    def select(self, index: NDArray) -> "Pages":
        return Pages(self.kinds, self.kind[index], self.frame[index])

    def where(self, wanted: Callable[[Page], bool]) -> NDArray:
        """Mask of the images whose kind is wanted; unreadable files are not."""
        return np.array([page != UNKNOWN and wanted(page) for page in self.kinds])[self.kind]

    def counts(self) -> dict[Page, int]:
        """Number of images of each kind, commonest first; unreadable files apart."""
        counts = np.bincount(self.kind, minlength=len(self.kinds)).tolist()
        found = Counter({page: n for page, n in zip(self.kinds, counts, strict=True) if n})
        found.pop(UNKNOWN, None)
        return dict(found.most_common())

    @property
    def channels(self) -> int:
        """3 if any image is in colour, else 1."""
        return max(page.channels for page in self.counts())

    @property
    def size(self) -> tuple[int, int]:
        """The commonest (width, height), of two the larger; if nearly all differ, the median."""
        sizes: Counter[tuple[int, int]] = Counter()
        for page, count in self.counts().items():
            sizes[page.width, page.height] += count
        found = max(sizes, key=lambda size: (sizes[size], size[0] * size[1]))
        if sizes[found] < COMMON * sizes.total():
            every = sorted(sizes.elements(), key=lambda size: (size[0] * size[1], size))
            return every[len(every) // 2]
        return found

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) that stands for all."""
        width, height = self.size
        return self.channels, height, width


class Survey(NamedTuple):
    """Contents of the files of a set, as far as their images were read.

    Args:
        pages: Of each image.
        left_out: What was not read, by reason.
        deep: Undecoded images of 16 bits, whose stored values may be asked for; None: there are
            none.
    """

    pages: Pages
    left_out: tuple[Omission, ...] = ()
    deep: Rows | None = None


class Surveyed(NamedTuple):
    """A set of which each row is one image, and what is known of these before decoding."""

    raw: RawSet
    pages: Pages

    def of(self, wanted: LazyImages, read: ImageSource) -> Survey:
        """The part of it that was `wanted`, and `read` but for what cannot be decoded."""
        index, left_out = wanted.index, self.raw.left_out
        if len(read) < len(wanted):
            there = set(read.ids)
            bad = [str(name) for name in wanted.ids if name not in there]
            left_out = (*left_out, Omission.of("cannot be read", bad))
            index = index[torch.tensor([name in there for name in wanted.ids])]
        pages = self.pages.select(index.numpy())
        deep = index.numpy()[pages.where(lambda page: page.mode.startswith("I"))]
        picks = np.stack([deep, np.full_like(deep, -1)], axis=1)
        return Survey(pages, left_out, FrameRows(self.raw.rows, picks) if len(deep) else None)


def survey(raw: RawSet, skip_bad: bool) -> Surveyed:
    """Read all headers; frames of GIFs and pages of TIFFs become rows of their own.

    Raises:
        InputError: If there is no image that can be read, or one that cannot while bad ones are
            not skipped.
    """
    if isinstance(raw.rows, ArrayRows) and len(raw.rows):
        page = read_header(raw.rows.array[0]).pages[0]
        return Surveyed(raw, Pages([page], *np.array([[0], [-1]]).repeat(len(raw.rows), 1)))
    headers = _headers(raw.rows, skip_bad)
    picks: list[tuple[int, int]] = []
    kind: list[int] = []
    kinds: dict[Page, int] = {}
    left_out: dict[str, Omission] = {}
    for row, header in enumerate(headers):
        several = len(header.pages) > 1
        for number, page in header.pages.items():
            picks.append((row, number if several else -1))
            kind.append(kinds.setdefault(page, len(kinds)))
        for reason, count in header.left_out.items():
            known = left_out.get(reason, Omission(reason, 0))
            examples = (*known.examples, str(raw.rows.ids[row]))[:SHOWN]
            left_out[reason] = Omission(reason, known.number + count, examples)
    if not set(kinds) - {UNKNOWN}:
        raise InputError("none of the images can be read" if headers else "there are no images")
    index = np.array(picks, np.int64)
    pages = Pages(list(kinds), np.array(kind, np.int32), index[:, 1])
    rows, labels = raw.rows, raw.labels
    if len(index) != len(rows):
        rows = FrameRows(rows, index)
        labels = None if labels is None else labels[torch.from_numpy(index[:, 0])]
    return Surveyed(
        RawSet(rows, labels, raw.class_names, (*raw.left_out, *left_out.values())), pages
    )


def _headers(rows: Rows, skip_bad: bool) -> list[Header]:
    """Headers of all files, in order; UNKNOWN for those that cannot be read."""
    every = range(len(rows))
    chunks = [every[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
    read = partial(_read_chunk, rows, skip_bad)
    return [header for part in in_threads(read, chunks, "reading headers") for header in part]


def _read_chunk(rows: Rows, skip_bad: bool, chunk: range) -> list[Header]:
    headers = []
    for row, data in zip(chunk, rows.read(list(chunk)), strict=True):
        try:
            headers.append(read_header(data))
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
            if not skip_bad:
                raise unreadable(rows.name(row), error) from error
            headers.append(Header({0: UNKNOWN}, {}))
    return headers
