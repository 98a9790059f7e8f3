"""Detector of copies that are a part of a sample, or of which a part is left: in a frame, in a
collage, under text or stickers, cropped, stretched, recoloured or inverted.

An image is evidence for as many local features as agree with one affine map onto the sample, and
for the correlation of the two under that map. As for altered copies, training and held-out images
are one shuffled pool, nothing knows labels, and the margin is the evidence for the nearest image
less that for the sixth.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from novum.core import distributed
from novum.core.bars import Progress
from novum.core.bars import progress as show_progress
from novum.core.cache import cache_folder
from novum.core.errors import InputError
from novum.metrics.features.extraction import Images, as_uint8
from novum.metrics.novelty import overlap
from novum.metrics.novelty.alignment import Placed
from novum.metrics.novelty.altered_copies import RIVAL, best_item
from novum.metrics.novelty.descriptor_index import Near, merge, nearest
from novum.metrics.novelty.local_cache import as_arrays, stored_features
from novum.metrics.novelty.local_features import (
    VARIANTS,
    LocalFeatures,
    extract_local_features,
    starts_of,
)
from novum.metrics.novelty.local_matching import (
    CANDIDATES,
    Pairs,
    Voters,
    candidates,
    match,
    queries_of,
    voters,
)
from novum.metrics.novelty.local_reference import LocalReference, SharedIndex
from novum.metrics.novelty.nearest_matches import Matches, matches_of
from novum.metrics.novelty.negative_control import PoolMatches, nearest_others
from novum.metrics.novelty.pool import Pool
from novum.metrics.novelty.reference_blocks import (
    ReferenceBlocks,
    first_image,
    positions_of,
    require_index_room,
)

USUAL_INLIERS = 4.0  # features that agree by chance
CORRELATION = 1 / 3  # weight of the correlation's evidence beside that of the features
CHANCE = 0.5  # evidence that the sixth image usually has
UNIT = 2 / 3  # so that about one image in a hundred reaches log 2 by chance, as in other spaces
SAMPLES_AT_ONCE = 32  # looked at closer
QUERIES_AT_ONCE = 2**19  # features that the index is asked for, at 256 bytes each
PER_FEATURE = 184  # bytes on the disk, 40 of them in the index
TRIED = 64  # images that tell how many features there are


class LocalCopies(NamedTuple):
    """Items that each sample shares a scene with, best first: rows of training, then held-out."""

    matches: Matches  # the nearest item, for the tests of copying
    items: Tensor  # (m, k) int64, -1 for none
    evidence: Tensor  # (m, k) float32
    variants: Tensor  # (m, k) int64: 1 if the sample is mirrored, and 2 if it is a negative
    affine: Tensor  # (m, k, 2, 3): from places in the sample, mirrored back, to the item's
    num_train: int
    size: tuple[int, int, int]  # channels, height and width of the images

    def best(self, trained: bool) -> tuple[Tensor, Tensor]:
        """Rank (m,) of each sample's best training (or held-out) item, -1 for none; its row."""
        return best_item(self.items, self.num_train, trained)

    def transform(self, sample: int, rank: int = 0) -> str:
        """Describe what was done to the item of that rank."""
        return in_words(int(self.variants[sample, rank]), self.affine[sample, rank])

    def placed(self, samples: Tensor, ranks: Tensor) -> Placed:
        """Geometry of the items of these ranks on the samples."""
        mirrored = self.variants[samples, ranks] % 2 == 1
        affine = _stretched(self.affine[samples, ranks], self.size)
        return Placed(mirrored, affine, torch.zeros_like(mirrored, dtype=torch.int64))


class LocalCopyDetector:
    """Training and held-out images, ready to be searched for what samples show parts of.

    Args:
        train: uint8 images of 1 or 3 channels, of any size, all of one.
        pool: Their items.
        together: All ranks call at once; each holds, extracts and searches a part.
        block_rows: Images that are read from the disk at a time, as in `ReferenceBlocks`.
    """

    def __init__(
        self,
        train: Images,
        heldout: Images | None,
        *,
        pool: Pool,
        progress: bool = True,
        together: bool = False,
        block_rows: int | None = None,
    ) -> None:
        self.together, self.progress = together, progress
        self.num_train, self.drawn = len(train), pool
        self.size = _size(train)
        self.blocks = ReferenceBlocks(train, heldout, together, block_rows)
        sides = overlap.sides_of(*self.size[1:])
        self.stored = {b: stored_features(self.blocks, b, sides) for b in self.blocks.own}
        self.reference = LocalReference(
            self.blocks, self.stored, positions_of(pool, self.blocks.total), sides
        )
        self._read_blocks()
        self.index = SharedIndex(self.reference, pool)

    def search(self, samples: Images, exclude: Tensor | None = None) -> LocalCopies:
        """Items that the samples show; `exclude` (m,) is an item not to find, or -1."""
        if _size(samples) != self.size:
            raise InputError(
                f"samples are {_named(_size(samples))} and training images {_named(self.size)}:"
                " give both at one size"
            )
        if exclude is not None:
            exclude = torch.where(exclude < 0, -1, self.drawn.of_row[exclude])
        rows, evidence, variants, affine = self._find(*self._read(samples), exclude)
        nearest, margin = self._nearest(rows), _margin(evidence)
        items = torch.where(rows < 0, -1, self.drawn.rows[rows.clamp(min=0)])
        found = matches_of(self.drawn, nearest, margin)
        return LocalCopies(found, items, evidence, variants, affine, self.num_train, self.size)

    def match(self, samples: Images, exclude: Tensor | None = None) -> Matches:
        return self.search(samples, exclude).matches

    def match_within(self, rows: int) -> PoolMatches:
        """Match the first items of the pool, which is in random order, with other units'."""
        own = torch.arange(min(rows, len(self.drawn.rows)))
        there = self.drawn.rows[own]
        near, evidence, *_ = self._find(
            self.reference.features(there), self.reference.pictures(there), own
        )
        near = torch.where(near < 0, self._nearest(near)[:, None], near)
        kept, nearest, evidence = nearest_others(self.drawn, own, near, evidence, RIVAL + 1)
        return PoolMatches(own[kept], nearest, _margin(evidence), self.drawn)

    def _nearest(self, rows: Tensor) -> Tensor:
        """The best item of each sample, and for those that show none any one at random."""
        generator = torch.Generator().manual_seed(0)
        anyone = torch.randint(len(self.drawn.rows), (len(rows),), generator=generator)
        return torch.where(rows[:, 0] < 0, anyone, rows[:, 0])

    def _read_blocks(self) -> None:
        """Read the images of blocks that the cache lacks."""
        lacking = [block for block, stored in self.stored.items() if stored.load() is None]
        if not lacking:
            return
        some, shown = self._extract(_first(self.blocks.images(lacking[0])))
        each = 56 + PER_FEATURE * len(some.points) + sum(x[0].numel() for x in shown) * TRIED
        count = sum(map(len, lacking))
        require_index_room(each / TRIED * count, cache_folder(), count)
        with self._bar(count, "local features") as bar:
            for block in lacking:
                read = self._extract(self.blocks.images(block))
                self.stored[block].keep(as_arrays(*read))
                bar.update(len(block))

    def _extract(
        self, source: Images, part: slice | None = None
    ) -> tuple[LocalFeatures, list[Tensor]]:
        """Local features and thumbnails."""
        blocks = [overlap.thumbnails(torch.zeros(0, *self.size, dtype=torch.uint8))]
        features = extract_local_features(
            source, part, progress=False, see=lambda block: blocks.append(overlap.thumbnails(block))
        )
        return features, [torch.cat(x) for x in zip(*blocks, strict=True)]

    def _read(self, source: Images) -> tuple[LocalFeatures, list[Tensor]]:
        """Those of samples, each rank's part extracted by itself."""
        if not self.together:
            return self._extract(source)
        features, pictures = self._extract(source, distributed.shard(len(source)))
        counts = features.starts.diff()
        points, descriptors, counts = (
            distributed.all_gather_rows(x, "local features")
            for x in (features.points, features.descriptors, counts)
        )
        features = LocalFeatures(points, descriptors, starts_of(counts))
        return features, [distributed.all_gather_rows(x, "thumbnails") for x in pictures]

    def _find(
        self, features: LocalFeatures, pictures: list[Tensor], exclude: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pool rows (m, k), evidence, variants and maps of the items found, best first."""
        found = [_ranked(0, Pairs.none(), torch.zeros(0), torch.zeros(0, 2, 3))]
        with self._bar(len(features.starts) - 1, "local copies") as bar:
            for first, last in passes(features):
                out = None if exclude is None else exclude[first:last]
                shown = [picture[first:last] for picture in pictures]
                found.append(self._find_some(features.of(first, last), shown, out))
                bar.update(last - first)
        rows, evidence, variants, affine = (torch.cat(x) for x in zip(*found, strict=True))
        return rows, evidence, variants, affine

    def _find_some(
        self, features: LocalFeatures, pictures: list[Tensor], exclude: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All ranks search for these samples; each then looks closer at a part of them."""
        count = len(features.starts) - 1
        asked = [voters(features, number) for number in range(VARIANTS)]
        parts = distributed.shards(count, SAMPLES_AT_ONCE) if self.together else [slice(0, count)]
        near = [
            self._dealt(x, y, parts) for x, y in zip(asked, self.index.search(asked), strict=True)
        ]
        part = parts[distributed.rank() if self.together else 0]
        found = [_ranked(0, Pairs.none(), torch.zeros(0), torch.zeros(0, 2, 3))]
        longest = max(part.stop - part.start for part in parts)
        for first in range(part.start, part.start + longest, SAMPLES_AT_ONCE):
            first = min(first, part.stop)  # ranks that are done still answer the others
            last = min(first + SAMPLES_AT_ONCE, part.stop)
            out = None if exclude is None else exclude[first:last]
            own = [
                Voters(x.of(first, last), y.rows(_span(x, first, last, part.start)))
                for x, y in zip(asked, near, strict=True)
            ]
            shown = [picture[first:last] for picture in pictures]
            found.append(self._look_closer(features.of(first, last), own, shown, out))
        rows, evidence, variants, affine = (torch.cat(x) for x in zip(*found, strict=True))
        if self.together:
            rows, evidence, variants, affine = (
                distributed.all_gather_rows(x, "local copies")
                for x in (rows, evidence, variants, affine)
            )
        return rows, evidence, variants, affine

    def _dealt(self, asked: LocalFeatures, near: Near, parts: list[slice]) -> Near:
        """Features near those of this rank's samples, out of those that all ranks have found."""
        if not self.together:
            return nearest(near)
        cut = [_span(asked, part.start, part.stop) for part in parts]
        brought = [distributed.exchange([x[p] for p in cut], "local features") for x in near]
        merged = [Near(*each) for each in zip(*brought, strict=True)]
        return nearest(merge(merged, len(merged[0].key)))

    def _look_closer(
        self,
        features: LocalFeatures,
        own: list[Voters],
        pictures: list[Tensor],
        exclude: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pairs = candidates(own, len(self.drawn.rows), exclude)
        images, place = pairs.image.unique(return_inverse=True)
        there = self.drawn.rows[images]
        pool = self.reference.features(there)
        others = [picture[place] for picture in self.reference.pictures(there)]
        placed = match(features, pool, pairs._replace(image=place))
        shown = [_as_seen(picture[pairs.sample], pairs.variant) for picture in pictures]
        alike, affine = overlap.agreement(shown, others, _stretched(placed.affine, self.size))
        affine = _stretched(affine, self.size, back=True)
        evidence = torch.log1p(placed.score / USUAL_INLIERS) + CORRELATION * alike
        return _ranked(len(features.starts) - 1, pairs, evidence, affine)

    def _bar(self, total: int, doing: str) -> Progress:
        return show_progress(
            total=total, doing=doing, unit="img", delay=5, disable=not self.progress
        )


def passes(features: LocalFeatures) -> Iterator[tuple[int, int]]:
    """Samples from first to last that are searched for at a time."""
    queries = starts_of(queries_of(features.starts.diff()))
    first, count = 0, len(features.starts) - 1
    while first < count:
        last = int(torch.searchsorted(queries, queries[first] + QUERIES_AT_ONCE, right=True)) - 1
        last = min(max(first + SAMPLES_AT_ONCE, last), count)
        yield first, last
        first = last


def _span(features: LocalFeatures, first: int, last: int, start: int = 0) -> slice:
    """Places of the features of images `first` to `last`, counted from those of image `start`."""
    return slice(*(int(features.starts[i] - features.starts[start]) for i in (first, last)))


def _first(images: Images) -> Tensor:
    return as_uint8(images[:TRIED]).cpu()


def in_words(variant: int, affine: Tensor) -> str:
    """Describe what was done to an image, such as "mirrored, rotated 12°, at 48% of its size"."""
    words = ["mirrored"] if variant % 2 else []
    words += ["inverted"] if variant >= 2 else []
    linear = torch.linalg.pinv(affine[:, :2].double())  # from the image to the sample
    wide, high = (float(v) for v in torch.linalg.svdvals(linear))
    turn = math.degrees(math.atan2(float(linear[1, 0]), float(linear[0, 0])))
    if float(torch.linalg.det(linear)) > 0 and abs(turn) >= 2:
        words.append(f"rotated {turn:.0f}°")
    size = math.sqrt(wide * high)
    if not 0.97 <= size <= 1.03:
        words.append(f"at {size:.0%} of its size")
    if wide > 1.1 * high:
        words.append(f"stretched {wide / high:.1f} times")
    right, down = (float(v) for v in -linear @ affine[:, 2].double())
    if 0.97 <= size <= 1.03 and max(abs(right), abs(down)) > 0.03:
        words.append(f"shifted by {right / 2:.0%} and {down / 2:.0%}")
    return ", ".join(words) or "unmoved"


def _ranked(
    count: int, pairs: Pairs, evidence: Tensor, affine: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Candidates of `count` samples as rows, each image once, best first; -1 where none is left."""
    rows = torch.full((count, CANDIDATES), -1)
    values, variants = torch.zeros(count, CANDIDATES), torch.zeros(count, CANDIDATES).long()
    maps = torch.eye(2, 3).repeat(count, CANDIDATES, 1, 1)
    order = evidence.argsort(descending=True, stable=True)
    order = order[pairs.image[order].argsort(stable=True)]
    order = order[pairs.sample[order].argsort(stable=True)]  # an image's best variant first
    sample, image = pairs.sample[order], pairs.image[order]
    again = (sample.diff() == 0) & (image.diff() == 0)
    order = order[~torch.cat([torch.zeros(min(len(order), 1), dtype=torch.bool), again])]
    order = order[evidence[order].argsort(descending=True, stable=True)]
    order = order[pairs.sample[order].argsort(stable=True)]
    sample = pairs.sample[order]
    place = torch.arange(len(order)) - torch.searchsorted(sample, sample)
    rows[sample, place], values[sample, place] = pairs.image[order], evidence[order]
    variants[sample, place], maps[sample, place] = pairs.variant[order], affine[order]
    return rows, values, variants, maps


def _margin(evidence: Tensor) -> Tensor:
    rival = evidence[:, RIVAL].clamp(min=CHANCE)  # some share features with fewer images
    return UNIT * (evidence[:, 0] - rival).clamp(min=0).double()


def _as_seen(pictures: Tensor, variant: Tensor) -> Tensor:
    """uint8 gray (b, s, s) mirrored back and made positive."""
    pictures = torch.where((variant % 2 == 1)[:, None, None], pictures.flip(-1), pictures)
    return torch.where((variant >= 2)[:, None, None], 255 - pictures, pictures)


def _stretched(affine: Tensor, size: tuple[int, int, int], back: bool = False) -> Tensor:
    """Maps (..., 2, 3) in half longer sides as maps in half sides of each direction, or back."""
    _, height, width = size
    half = torch.tensor([width, height]) / max(height, width)
    half = 1 / half if back else half
    scaled = affine / half[:, None]
    return torch.cat([scaled[..., :2] * half, scaled[..., 2:]], -1)


def _size(images: Images) -> tuple[int, int, int]:
    channels, height, width = first_image(images).shape[1:]
    return channels, height, width


def _named(size: tuple[int, int, int]) -> str:
    channels, height, width = size
    return f"{width}x{height} px of {channels} channels"
