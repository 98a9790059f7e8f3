"""Halves of training data, for twins: two models of which each holds out what the other learns.

What hangs together is dealt together: images of a group, equal images, documents, equal documents.
Which half a unit goes to is chance, and the same chance can be drawn again: tests rest on that.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from novum.core.errors import InputError
from novum.datamodules.groups import ANY, find_groups
from novum.datamodules.sources.corpus import Corpus, Span
from novum.datamodules.sources.image_sources import LazyImages

Half = Literal["a", "b"]
HALVES: tuple[Half, Half] = ("a", "b")
FEWEST_DOCUMENTS = 20  # of a text, below which its documents are cut into blocks
SMALLEST_BLOCK, LARGEST_BLOCK, BLOCKS = 256, 4096, 200  # tokens of a block, and blocks aimed at

Units = NDArray[np.int64]


class Deal(NamedTuple):
    """Units of training data and the half that each is in.

    Args:
        unit: (n,) Unit of each item: of those of half a in their order, then of half b.
        sizes: (u,) Items of each unit, or tokens.
        in_a: (u,) bool.
        kind: Plural noun for the units.
        together: Items that are equal to an earlier one, and so in the same half.
    """

    unit: Units
    sizes: Units
    in_a: NDArray[np.bool_]
    kind: str
    together: int = 0

    @property
    def item_in_a(self) -> NDArray[np.bool_]:
        """Mask (n,) of the items of half a."""
        return self.in_a[self.unit]


def check_half(half: str | None) -> None:
    """Raise InputError for anything but a, b and None."""
    if half not in (*HALVES, None):
        raise InputError(f"half is {half}: choose from a, b, or null for all training data")


def deal_units(sizes: ArrayLike, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Mask (u,) of the units that are dealt to half a.

    Of each two units of about one size, by a coin, one goes to either half; of an odd number the
    smallest goes by itself.
    """
    sizes = np.asarray(sizes)
    order = np.lexsort((generator.random(len(sizes)), -sizes))
    coins = generator.random((len(sizes) + 1) // 2) < 0.5
    in_a = np.empty(len(sizes), np.bool_)
    in_a[order] = np.stack([coins, ~coins], 1).ravel()[: len(sizes)]
    return in_a


def deal(unit: Units, sizes: Units, seed: int, kind: str, together: int) -> Deal:
    """Deal units by a seed; items stay in their order.

    Raises:
        InputError: If there is one unit alone.
    """
    if len(sizes) < 2:
        raise InputError(f"half: the training data is one of {kind}: to deal halves takes two")
    return Deal(unit, sizes, deal_units(sizes, np.random.default_rng(seed)), kind, together)


def image_units(images: LazyImages, groups: str | None) -> tuple[Units, str, int]:
    """Unit (n,) of each image, what units are called, and the images equal to an earlier one."""
    _, equal = np.unique(images.digests(), return_inverse=True)
    together = len(equal) - int(equal.max(initial=-1)) - 1
    if groups is None:
        return equal.astype(np.int64), "images", together
    names = list(find_groups(groups, [(ANY, name) for name in images.ids]))
    return _joined(equal, np.unique(names, return_inverse=True)[1]), "groups", together


def _joined(*numbers: NDArray) -> Units:
    """Number (n,) of the component of each item, if items of one number in any list are one."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    size = len(numbers[0])
    ends, offset = [], size
    for own in numbers:
        ends.append(offset + own)
        offset += int(own.max()) + 1
    rows, columns = np.tile(np.arange(size), len(numbers)), np.concatenate(ends)
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(offset, offset))
    found = connected_components(graph, directed=False)[1][:size]
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


class TextDeal(NamedTuple):
    """Spans of a corpus, each a document or a part of one, and how they were dealt."""

    deal: Deal  # its items are spans: of half a, then of half b
    spans: dict[Half, list[Span]]

    def units(self, half: Half) -> Units:
        """Unit of each span of a half."""
        own = len(self.spans["a"])
        return self.deal.unit[:own] if half == "a" else self.deal.unit[own:]


def deal_text(corpus: Corpus, spans: Sequence[Span], seed: int) -> TextDeal:
    """Deal the documents of these spans of a corpus; blocks where there are few documents."""
    parts = [part for start, stop in spans for part in corpus.documents(start, stop)]
    kind = "documents"
    if len(parts) < FEWEST_DOCUMENTS:
        total = sum(stop - start for start, stop in parts)
        size = int(np.clip(total // BLOCKS, SMALLEST_BLOCK, LARGEST_BLOCK))
        parts = [block for part in parts for block in _blocks(*part, size)]
        kind = f"blocks of {size:,} tokens"
    digests = [hashlib.sha256(corpus.tokens[slice(*x)].tobytes()).hexdigest() for x in parts]
    _, unit = np.unique(digests, return_inverse=True)
    lengths = np.array([stop - start for start, stop in parts])
    sizes = np.bincount(unit, weights=lengths).astype(np.int64)
    dealt = deal(unit.astype(np.int64), sizes, seed, kind, len(unit) - len(sizes))
    order = np.argsort(~dealt.item_in_a, kind="stable")
    mine = int(dealt.item_in_a.sum())
    sorted_spans = [parts[i] for i in order]
    sides: dict[Half, list[Span]] = {"a": sorted_spans[:mine], "b": sorted_spans[mine:]}
    return TextDeal(dealt._replace(unit=dealt.unit[order]), sides)


def _blocks(start: int, stop: int, size: int) -> list[Span]:
    """Parts of about `size` tokens of a document."""
    edges = np.linspace(start, stop, max(1, round((stop - start) / size)) + 1).astype(int).tolist()
    return list(zip(edges, edges[1:], strict=False))
