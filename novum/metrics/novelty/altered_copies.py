"""Detector of altered copies: images mirrored, moved, cropped, turned or degraded, or a
half of it pasted into another?

Training and held-out images are one shuffled pool until the end. Candidates, alignment and margin
know no labels, so samples that owe nothing to training meet training items at their share of the
pool. The margin is the evidence for the nearest item less that for the sixth: smooth images agree
with anything, and this cancels it. On CIFAR-10 it detects copies no worse than the evidence for the
best training item less that for the best held-out one, even where the sets are of one size, and
far better where few images are held out.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from novum.core import distributed
from novum.core.bars import Progress
from novum.core.bars import progress as show_progress
from novum.core.cache import cache_folder
from novum.core.errors import InputError, NotComputable
from novum.core.memory import free_bytes, require_memory
from novum.core.resampling import parts_to_resize
from novum.metrics.features.extraction import Images, as_uint8, check_images, resize
from novum.metrics.novelty.alignment import (
    Placed,
    agreement,
    align,
    in_words,
    low_pass,
    region_masks,
)
from novum.metrics.novelty.nearest_matches import Matches, matches_of
from novum.metrics.novelty.negative_control import PoolMatches, nearest_others
from novum.metrics.novelty.pool import Pool, pool_of_items
from novum.metrics.novelty.reference_blocks import (
    Arrays,
    Block,
    HeldArrays,
    ReferenceBlocks,
    StoredArrays,
    first_image,
    positions_of,
    require_index_room,
)
from novum.metrics.novelty.retrieval import (
    BYTES_A_SAMPLE,
    GRID,
    PER_FAMILY,
    STARTS,
    Best,
    Descriptions,
    Search,
    Tile,
    covariance,
    merge,
    tiles,
)

SIDE = 32  # of the images that are compared: others are resized
LEAST_SIDE = 8
BLOCK_BYTES = 2**27  # taken by a tile and a batch
SHORTLIST = 80  # items that are aligned with a sample
FINALISTS = 16  # items that are laid over a sample at full size
RIVAL = 5  # the sixth: up to four near-duplicates in the pool don't hide a copy
COARSE_STEPS, FINE_STEPS = 3, 4
BATCH = 8  # samples aligned at a time, at most
PIXELS_AT_ONCE = 2**17  # of all their candidates: what these need stays in the CPU's cache
AT_ONCE = 64  # whose candidates are asked for at a time
READ_AT_ONCE, READ_BYTES = 1024, 2**27  # images that are read at a time, and bytes of them
SCHEMA = 2  # raise it whenever the same key would mean other numbers
SETTINGS = [SCHEMA, SIDE]  # that what a bundle holds depends on
NEAR_DUPLICATE = 1.0  # margin: what the nearest leaves unexplained is 1/e of what the sixth does


class AlteredCopies(NamedTuple):
    """Items that each sample is most like, best first: rows of training, then held-out."""

    matches: Matches  # the nearest item, for the tests of copying
    items: Tensor  # (m, k) int64
    evidence: Tensor  # (m, k) float32, see alignment.agreement
    placings: Tensor  # (m, k, 8): mirrored, region, and the rows of an affine map
    num_train: int
    width: int  # of the training images, px

    def transform(self, sample: int, rank: int = 0) -> str:
        """Describe what was done to the item of that rank."""
        placing = self.placings[sample, rank]
        return in_words(bool(placing[0]), int(placing[1]), placing[2:].view(2, 3), self.width)

    def best(self, trained: bool) -> tuple[Tensor, Tensor]:
        """Rank (m,) of each sample's best training (or held-out) item, -1 for none; its row."""
        return best_item(self.items, self.num_train, trained)

    def placed(self, samples: Tensor, ranks: Tensor) -> Placed:
        """Geometry of the items of these ranks on the samples."""
        placings = self.placings[samples, ranks]
        mirrored, region = placings[:, 0].bool(), placings[:, 1].long()
        return Placed(mirrored, placings[:, 2:].view(-1, 2, 3), region)


def best_item(items: Tensor, num_train: int, trained: bool) -> tuple[Tensor, Tensor]:
    """Rank (m,) of the first training (or held-out) item of each row, -1 for none; its row."""
    found = ((items < num_train) == trained) & (items >= 0)
    rank = torch.where(found.any(1), found.byte().argmax(1), -1)
    row = items.gather(1, rank.clamp(min=0)[:, None])[:, 0]
    return rank, torch.where(rank < 0, -1, row if trained else row - num_train)


class AlteredCopyDetector:
    """Training and held-out images, ready to be searched for what samples are copies of.

    Args:
        train: uint8 images of 1 or 3 channels, at least 8 px wide; they are compared at 32 x 32.
        pool: Their items; images equal at 32 x 32 are one if not given.
        together: All ranks make it and search for the same samples at once, each holds a part of
            the images.
        block_rows: Images that are read from the disk at a time, as in `ReferenceBlocks`.
    """

    def __init__(
        self,
        train: Images,
        heldout: Images | None = None,
        *,
        pool: Pool | None = None,
        device: torch.device | str = "cpu",
        progress: bool = True,
        together: bool = False,
        block_rows: int | None = None,
    ) -> None:
        self.together = together
        self.num_train, self.width = len(train), first_image(train).shape[-1]
        self.device, self.progress = torch.device(device), progress
        self.channels = _comparable(as_uint8(first_image(train))).shape[1]
        self.blocks = ReferenceBlocks(train, heldout, together, block_rows)
        self.stored = {block: self._stored(block) for block in self.blocks.own}
        self._read_blocks()
        self.drawn = pool_of_items(self._equal(), self.num_train) if pool is None else pool
        if len(self.drawn.rows) <= PER_FAMILY:
            raise NotComputable(
                f"{len(self.drawn.rows)} distinct images are too few to tell copies by: give at"
                f" least {PER_FAMILY + 1}"
            )
        self.positions = positions_of(self.drawn, self.blocks.total)
        self.descriptions = Descriptions(self._covariance())
        starts = [(s.mirrored, s.region, *s.affine) for s in STARTS]
        self.starts = torch.tensor(starts, device=self.device)

    def search(self, samples: Images, exclude: Tensor | None = None) -> AlteredCopies:
        """Items that the samples are most like; `exclude` (m,) is an item not to find, or -1."""
        images = self._read(samples)
        if images.shape[1] != self.channels:
            raise InputError(
                f"samples have {images.shape[1]} channels and training images"
                f" {self.channels}: give both the same"
            )
        if exclude is not None:
            exclude = torch.where(exclude < 0, -1, self.drawn.of_row[exclude])
        rows, likeness, placings = self._find(images, exclude)
        return AlteredCopies(
            matches_of(self.drawn, rows[:, 0], _margin(likeness)),
            self.drawn.rows[rows],
            likeness,
            placings,
            self.num_train,
            self.width,
        )

    def match(self, samples: Images, exclude: Tensor | None = None) -> Matches:
        return self.search(samples, exclude).matches

    def match_within(self, rows: int) -> PoolMatches:
        """Match the first items of the pool, which is in random order, with those of other units.

        An item whose finalists are of its own group is left out.
        """
        own = torch.arange(min(rows, len(self.drawn.rows)))
        near, likeness, _ = self._find(self._ask(own, "images"), own)
        kept, nearest, likeness = nearest_others(self.drawn, own, near, likeness, RIVAL + 1)
        return PoolMatches(own[kept], nearest, _margin(likeness), self.drawn)

    def _find(self, images: Tensor, exclude: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Items, evidence and placings of each sample's finalists, best first, on the CPU."""
        self._require_memory(len(images))
        search = Search(
            images, self.descriptions, None if exclude is None else exclude.to(self.device)
        )
        for tile in self._tiles("candidates"):
            search.add(tile)
        parts = self._dealt(len(images))
        candidates = self._gathered(search.best, parts)
        part = parts[distributed.rank() if self.together else 0]
        found = self._verify(images[part], candidates, parts)
        if not self.together:
            return found
        rows, likeness, placings = (distributed.all_gather_rows(x, "altered copies") for x in found)
        return rows, likeness, placings

    def _dealt(self, count: int) -> list[slice]:
        """Samples that each rank lays over their candidates."""
        return distributed.shards(count, BATCH) if self.together else [slice(0, count)]

    def _gathered(self, best: list[Best], parts: list[slice]) -> Best:
        """Candidates of this rank's samples, out of those that all ranks have found."""
        merged = []
        for family in best:
            brought = [
                distributed.exchange([x[part] for part in parts], "candidates")
                if self.together
                else [x]
                for x in family
            ]  # scores, positions and starts, of each rank
            merged.append(merge([Best(*each) for each in zip(*brought, strict=True)]))
        return Best(*(torch.cat(each, 1).to(self.device) for each in zip(*merged, strict=True)))

    def _stored(self, block: Block) -> StoredArrays | HeldArrays:
        """Place of a block's images at 32 px, and of these at half the size."""
        shape = len(block), self.channels, SIDE, SIDE
        half = *shape[:2], SIDE // 2, SIDE // 2

        def fits(arrays: Arrays) -> bool:
            images, coarse = arrays["images"], arrays["coarse"]
            ours = images.dtype, coarse.dtype, images.shape, coarse.shape
            return ours == (torch.uint8, torch.uint8, shape, half)

        held = self.blocks.held("alignment", SETTINGS, block, fits)
        if held is not None:
            return held
        path = self.blocks.entry(["altered", SCHEMA, SIDE, self.device.type], block)
        return StoredArrays(path, ["coarse", "images"], fits)

    def _read_blocks(self) -> None:
        """Resize the images of blocks that the cache lacks."""
        lacking = [block for block, stored in self.stored.items() if stored.load() is None]
        count = sum(map(len, lacking))
        require_index_room(bytes_kept(self.channels) * count, cache_folder(), count)
        with self._bar(count, "images at 32 px") as bar:
            for block in lacking:
                images = self._read(self.blocks.images(block)).cpu()
                self.stored[block].keep({"images": images, "coarse": _coarse(images)})
                bar.update(len(block))

    def _tiles(self, doing: str) -> Iterator[Tile]:
        """The images that this rank holds, on the device."""
        with self._bar(sum(map(len, self.blocks.own)), doing) as bar:
            for block in self.blocks.own:
                images = self.stored[block].known()["images"]
                positions = self.positions[block.first : block.first + len(block)]
                for tile in tiles(images, positions):
                    yield Tile(*(x.to(self.device) for x in tile))
                bar.update(len(block))

    def _covariance(self) -> Tensor:
        """`covariance` of the whole pool."""
        width = self.channels * GRID**2
        summed = torch.zeros(width, width, dtype=torch.int64, device=self.device)
        for tile in self._tiles("covariance"):
            summed += covariance(tile.images)
        if self.together:
            whole = summed.cpu()
            distributed.all_reduce(whole.numpy(), "covariance of views")
            summed = whole.to(self.device)
        return summed

    def _equal(self) -> Tensor:
        """Number (n,) of each image, the same for those of equal pixels at 32 px."""
        blocks = [self.stored[block].known()["images"] for block in self.blocks.own]
        digests = [hashlib.blake2b(x.numpy().tobytes(), digest_size=16).digest()
                   for images in blocks for x in images]  # fmt: skip
        own = torch.from_numpy(np.frombuffer(b"".join(digests), np.uint8).copy()).view(-1, 16)
        every = distributed.all_gather_rows(own, "digests of images") if self.together else own
        return torch.from_numpy(np.unique(every.numpy(), axis=0, return_inverse=True)[1].ravel())

    def _ask(self, items: Tensor, name: str) -> Tensor:
        """Images of items of the pool, or their coarse versions, from the ranks that hold them."""
        side = SIDE if name == "images" else SIDE // 2

        def answer(rows: Tensor) -> Tensor:
            like = torch.empty(0, self.channels, side, side, dtype=torch.uint8)
            return self.blocks.gather(
                rows, lambda block, mine: self.stored[block].known()[name][mine], like
            )

        rows = self.drawn.rows[items.cpu()]
        return self.blocks.ask(rows, answer, f"{name} of candidates").to(self.device)

    def _require_memory(self, samples: int) -> None:
        need = samples * (BYTES_A_SAMPLE + self.channels * SIDE**2) + BLOCK_BYTES
        require_memory(
            need,
            f"the search of {samples:,} samples for altered copies",
            "judge fewer at a time",
            partial(free_bytes, self.device),
        )

    def _read(self, source: Images) -> Tensor:
        """uint8 (n, c, 32, 32) on the device."""
        step = max(1, min(READ_AT_ONCE, READ_BYTES // max(1, source[:1].numel())))
        blocks = (source[i : min(i + step, len(source))] for i in range(0, len(source), step))
        return torch.cat([_comparable(as_uint8(block).to(self.device)) for block in blocks])

    def _bar(self, total: int, doing: str) -> Progress:
        return show_progress(
            total=total, doing=doing, unit="img", delay=5, disable=not self.progress
        )

    def _verify(
        self, images: Tensor, candidates: Best, parts: list[slice]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Finalists of this rank's samples; all ranks ask one another in as many rounds."""
        longest = max(part.stop - part.start for part in parts)
        found = []
        with self._bar(len(images), "alignment") as bar:
            for start in range(0, longest, AT_ONCE):
                part = slice(start, start + AT_ONCE)
                found.append(self._verify_some(images[part], *(x[part] for x in candidates[1:])))
                bar.update(len(found[-1][0]))
        rows, likeness, placings = (torch.cat(part).cpu() for part in zip(*found, strict=True))
        return rows, likeness, placings

    def _verify_some(
        self, images: Tensor, items: Tensor, starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """In three rounds, for fewer and fewer: as retrieved, aligned at 16 px, and at 32."""
        placed = self._placed(images, items, self.starts[starts], "coarse", 0)
        rows, likeness, placings = (x[:, :SHORTLIST] for x in placed)
        placed = self._placed(images, rows, placings, "coarse", COARSE_STEPS, likeness)
        rows, _, placings = (x[:, :FINALISTS] for x in placed)
        return self._placed(images, rows, placings, "images", FINE_STEPS)

    def _placed(
        self,
        images: Tensor,
        rows: Tensor,
        placings: Tensor,
        name: str,
        steps: int,
        before: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Items (m, k) in the order of the evidence for them, this, and where they were placed.

        Args:
            placings: (m, k, 8) where to start from.
            name: The versions that are compared, see `_ask`.
            before: Evidence (m, k) for items as they are placed, where it is known.
        """
        known, place = rows.unique(return_inverse=True)
        others = self._ask(known, name)
        own = images if name == "images" else _coarse(images)
        step = _batch(rows.shape[1], own.shape[-1])
        found: list[tuple[Tensor, Tensor]] = []
        for part in (slice(i, i + step) for i in range(0, len(own), step)):
            known_before = None if before is None else before[part]
            found.append(
                self._lay_over(own[part], others[place[part]], placings[part], steps, known_before)
            )
        likeness = torch.cat([placings.new_empty(0, rows.shape[1]), *(x for x, _ in found)])
        placings = torch.cat([placings[:0], *(x for _, x in found)])
        likeness, order = _once_each(rows, likeness).sort(1, descending=True)
        return rows.gather(1, order), likeness, _take(placings, order)

    def _lay_over(
        self,
        images: Tensor,
        others: Tensor,
        placings: Tensor,
        steps: int,
        before: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Evidence (n, k), and placings, of k others each for n images: as given, or aligned."""
        both = low_pass(torch.cat([images, images.flip(-1)]).float()).unflatten(0, (2, -1))
        which = torch.arange(len(images), device=self.device)[:, None]
        own = both[placings[..., 0].long(), which].flatten(0, 1)
        others = low_pass(others.flatten(0, 1).float())
        regions = self._regions(placings, images.shape[-1])
        start = placings[..., 2:].reshape(-1, 2, 3)
        if before is None:
            before = agreement(own, others, start, regions).view(placings.shape[:2])
        if not steps:
            return before, placings
        gray, other_gray = (x.mean(1, keepdim=True) for x in (own, others))
        end = align(gray, other_gray, start, regions, steps)
        after = agreement(own, others, end, regions).view(placings.shape[:2])
        affine = torch.where(
            (after > before)[..., None], end.view(*before.shape, 6), placings[..., 2:]
        )
        return torch.maximum(before, after), torch.cat([placings[..., :2], affine], 2)

    def _regions(self, placings: Tensor, side: int) -> Tensor:
        return region_masks(side, side, self.device)[placings[..., 1].long().flatten()]


def bytes_kept(channels: int) -> int:
    """Bytes of an image of a reference, at 32 and at 16 px."""
    return channels * (SIDE**2 + (SIDE // 2) ** 2)


def near_duplicates(
    train: Images,
    heldout: Images,
    margin: float = NEAR_DUPLICATE,
    *,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Tensor:
    """Pairs (k, 2) of a held-out row and the training row that it is an altered copy of.

    Take such rows out of the held-out set: what copies the one copies the other.
    """
    found = AlteredCopyDetector(train, device=device, progress=progress).match(heldout)
    rows = (found.margin >= margin).nonzero()[:, 0]
    return torch.stack([rows, found.item[rows]], 1)


def _comparable(images: Tensor) -> Tensor:
    check_images(images)
    height, width = images.shape[-2:]
    if min(height, width) < LEAST_SIDE:
        raise NotComputable(
            f"images of {width}x{height} px are too small: altered copies can be distinguished from"
            f" {LEAST_SIDE}x{LEAST_SIDE} px up"
        )
    if (height, width) == (SIDE, SIDE):
        return images
    parts = [resize(part.float(), SIDE).round().to(torch.uint8) for part in parts_to_resize(images)]
    return torch.cat(parts)


def _margin(likeness: Tensor) -> Tensor:
    return (likeness[:, 0] - likeness[:, RIVAL]).double()


def _batch(candidates: int, side: int) -> int:
    """Samples laid over so many candidates at a time: a power of two, so that all divide BATCH."""
    most = max(1, min(BATCH, PIXELS_AT_ONCE // (candidates * side**2)))
    return 1 << most.bit_length() - 1


def _coarse(images: Tensor) -> Tensor:
    """uint8 (n, c, 16, 16)."""
    return F.avg_pool2d(images.float(), 2).round().to(torch.uint8)


def _once_each(rows: Tensor, likeness: Tensor) -> Tensor:
    """Likeness (n, k) with -1 for all but a row's best candidate."""
    likeness, order = likeness.sort(1, descending=True)
    sorted_rows = rows.gather(1, order)
    again = (sorted_rows[:, :, None] == sorted_rows[:, None, :]).tril(-1).any(2)
    return torch.empty_like(likeness).scatter_(1, order, likeness.masked_fill(again, -1))


def _take(placings: Tensor, order: Tensor) -> Tensor:
    return placings.gather(1, order[..., None].expand(-1, -1, placings.shape[2]))
