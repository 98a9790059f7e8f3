"""Detector of altered copies: images mirrored, moved, cropped, turned or degraded, or a
half of it pasted into another?

Training and held-out images are one shuffled pool until the end. Candidates, alignment and margin
know no labels, so samples that owe nothing to training meet training items at their share of the
pool. The margin is the evidence for the nearest item less that for the sixth: smooth images agree
with anything, and this cancels it. On CIFAR-10 it detects copies no worse than the evidence for the
best training item less that for the best held-out one, even where the sets are of one size, and
far better where few images are held out.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from novum.core import distributed
from novum.core.bars import progress as show_progress
from novum.core.errors import InputError, NotComputable
from novum.core.memory import free_bytes, require_memory
from novum.metrics.features.extraction import Images, as_uint8, check_images, resize
from novum.metrics.neighbours import distinct_rows
from novum.metrics.novelty.alignment import (
    Alignment,
    Placed,
    align,
    correlate,
    evidence,
    in_words,
    low_pass,
    region_masks,
)
from novum.metrics.novelty.nearest_matches import Matches, matches_of
from novum.metrics.novelty.negative_control import PoolMatches, nearest_others
from novum.metrics.novelty.pool import Pool, pool_of_items
from novum.metrics.novelty.retrieval import (
    PER_FAMILY,
    SAMPLE_BLOCK,
    STARTS,
    Candidates,
    Descriptions,
    retrieve,
)

SIDE = 32  # of the images that are compared: others are resized
LEAST_SIDE = 8
PER_CHANNEL, PER_IMAGE = 3_300, 1_000  # bytes: 10.3 kB were taken for an image in colour, 4.3 gray
FINALISTS = 10  # items that are laid over a sample at full size
RIVAL = 5  # the sixth: up to four near-duplicates in the pool don't hide a copy
COARSE_STEPS, FINE_STEPS = 3, 4
BATCH = 8  # samples aligned at a time: what they need stays in the CPU's cache
NEAR_DUPLICATE = 1.0  # margin: what the nearest leaves unexplained is 1/e of what the sixth does


class AlteredCopies(NamedTuple):
    """Items that each sample is most like, best first: rows of training, then held-out."""

    matches: Matches  # the nearest item, for the tests of copying
    items: Tensor  # (m, k) int64
    evidence: Tensor  # (m, k) float32, see alignment.evidence
    placings: Tensor  # (m, k, 6): mirrored, region, and the similarity's a, b, tx, ty
    num_train: int
    width: int  # of the training images, px

    def transform(self, sample: int, rank: int = 0) -> str:
        """Describe what was done to the item of that rank."""
        mirrored, region, *similarity = self.placings[sample, rank].tolist()
        return in_words(bool(mirrored), int(region), similarity, self.width)

    def best(self, trained: bool) -> tuple[Tensor, Tensor]:
        """Rank (m,) of each sample's best training (or held-out) item, -1 for none; its row."""
        return best_item(self.items, self.num_train, trained)

    def placed(self, samples: Tensor, ranks: Tensor) -> Placed:
        """Geometry of the items of these ranks on the samples."""
        mirrored, region, a, b, across, down = self.placings[samples, ranks].T
        affine = torch.stack([a, -b, across, b, a, down], 1).view(-1, 2, 3)
        return Placed(mirrored.bool(), affine, region.long())


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
        together: All ranks search for the same samples at once, each for a part of them.
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
    ) -> None:
        self.together = together
        self.num_train, self.width = len(train), train[:1].shape[-1]
        self.device, self.progress = torch.device(device), progress
        sets = [x for x in (train, heldout) if x is not None and len(x)]
        self._require_memory(sum(map(len, sets)), train[:1].shape[1])
        images = torch.cat([self._read(x) for x in sets])
        if pool is None:
            item = distinct_rows(images.flatten(1))[1].cpu()
            pool = pool_of_items(item, self.num_train)
        if len(pool.rows) <= PER_FAMILY:
            raise NotComputable(
                f"{len(pool.rows)} distinct images are too few to tell copies by: give at least"
                f" {PER_FAMILY + 1}"
            )
        self.drawn = pool
        self.pool = images[pool.rows.to(self.device)]
        self.coarse = torch.cat([_coarse(block).half() for block in self.pool.split(4096)])
        self.descriptions = Descriptions(self.pool)
        starts = [(s.mirrored, s.region, *s.similarity) for s in STARTS]
        self.starts = torch.tensor(starts, device=self.device)

    def search(self, samples: Images, exclude: Tensor | None = None) -> AlteredCopies:
        """Items that the samples are most like; `exclude` (m,) is an item not to find, or -1."""
        images = self._read(samples)
        if images.shape[1] != self.pool.shape[1]:
            raise InputError(
                f"samples have {images.shape[1]} channels and training images"
                f" {self.pool.shape[1]}: give both the same"
            )
        if exclude is not None:
            exclude = torch.where(exclude < 0, -1, self.drawn.of_row[exclude]).to(self.device)
        rows, likeness, placings = (x.cpu() for x in self._find(images, exclude))
        return AlteredCopies(
            matches_of(self.drawn, rows[:, 0], _margin(likeness)),
            self.drawn.rows[rows],
            likeness,
            placings,
            self.num_train,
            self.width,
        )

    def _find(self, images: Tensor, exclude: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Pool rows, evidence and placings of each sample's finalists, best first."""
        part = distributed.shard(len(images), SAMPLE_BLOCK) if self.together else slice(None)
        own = images[part]
        found = torch.empty(0), torch.empty(0), torch.empty(0)
        if len(own):
            exclude = None if exclude is None else exclude[part]
            candidates = retrieve(
                own, self.pool, self.descriptions, exclude=exclude, progress=self.progress
            )
            found = self._verify(own, candidates)
        if not self.together:
            return found
        rows, likeness, placings = (
            distributed.all_gather_rows(x, "altered copies").to(self.device) for x in found
        )
        return rows, likeness, placings

    def match(self, samples: Images, exclude: Tensor | None = None) -> Matches:
        return self.search(samples, exclude).matches

    def match_within(self, rows: int) -> PoolMatches:
        """Match the first items of the pool, which is in random order, with those of other units.

        An item whose finalists are of its own group is left out.
        """
        own = torch.arange(min(rows, len(self.pool)))
        found = self._find(self.pool[: len(own)], own.to(self.device))
        near, likeness, _ = (x.cpu() for x in found)
        kept, nearest, likeness = nearest_others(self.drawn, own, near, likeness, RIVAL + 1)
        return PoolMatches(own[kept], nearest, _margin(likeness), self.drawn)

    def _require_memory(self, n: int, channels: int) -> None:
        require_memory(
            n * (PER_CHANNEL * channels + PER_IMAGE),
            f"the search for altered copies among {n:,} images",
            "judge against fewer",
            partial(free_bytes, self.device),
        )

    def _read(self, source: Images) -> Tensor:
        """uint8 (n, c, 32, 32) on the device."""
        blocks = (source[i : min(i + 1024, len(source))] for i in range(0, len(source), 1024))
        return torch.cat([_comparable(as_uint8(block).to(self.device)) for block in blocks])

    def _verify(self, images: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor, Tensor]:
        parts = []
        with show_progress(
            total=len(images), doing="alignment", unit="img", delay=5, disable=not self.progress
        ) as bar:
            for batch in zip(*(x.split(BATCH) for x in (images, *candidates)), strict=True):
                parts.append(self._verify_batch(*batch))
                bar.update(len(batch[0]))
        rows, likeness, placings = (torch.cat(part) for part in zip(*parts, strict=True))
        return rows, likeness, placings

    def _verify_batch(
        self, images: Tensor, rows: Tensor, starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        placings = self.starts[starts]
        others = self.coarse[rows.flatten()].float()
        found, _ = self._lay_over(_coarse(images), others, placings, COARSE_STEPS)
        likeness = _once_each(rows, evidence(found).view(rows.shape))
        order = likeness.argsort(1, descending=True)[:, :FINALISTS]
        placings = _placed(placings, found)
        rows, placings = rows.gather(1, order), _take(placings, order)
        others = low_pass(self.pool[rows.flatten()].float())
        found, own = self._lay_over(low_pass(images.float()), others, placings, FINE_STEPS)
        regions = self._regions(placings, SIDE)
        found = correlate(own, others, found.similarity, regions)
        likeness, order = evidence(found).view(rows.shape).sort(1, descending=True)
        return rows.gather(1, order), likeness, _take(_placed(placings, found), order)

    def _lay_over(
        self, images: Tensor, others: Tensor, placings: Tensor, steps: int
    ) -> tuple[Alignment, Tensor]:
        """Aligns n images, mirrored where placings (n, k, 6) say so, with k others each."""
        both = torch.stack([images, images.flip(-1)], 1)
        own = torch.arange(len(images), device=self.device)[:, None]
        own = both[own, placings[..., 0].long()].flatten(0, 1)
        gray, other_gray = (x.mean(1, keepdim=True) for x in (own, others))
        regions = self._regions(placings, images.shape[-1])
        return align(gray, other_gray, placings[..., 2:].flatten(0, 1), regions, steps), own

    def _regions(self, placings: Tensor, side: int) -> Tensor:
        return region_masks(side, side, self.device)[placings[..., 1].long().flatten()]


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
    return resize(images.float(), SIDE).round().to(torch.uint8)


def _margin(likeness: Tensor) -> Tensor:
    return (likeness[:, 0] - likeness[:, RIVAL]).double()


def _coarse(images: Tensor) -> Tensor:
    """Smooth gray (n, 1, 16, 16)."""
    return low_pass(F.avg_pool2d(images.float().mean(1, keepdim=True), 2))


def _placed(placings: Tensor, found: Alignment) -> Tensor:
    similarity = found.similarity.view(*placings.shape[:2], 4)
    return torch.cat([placings[..., :2], similarity], 2)


def _once_each(rows: Tensor, likeness: Tensor) -> Tensor:
    """Likeness (n, k) with -1 for all but a row's best candidate."""
    likeness, order = likeness.sort(1, descending=True)
    sorted_rows = rows.gather(1, order)
    again = (sorted_rows[:, :, None] == sorted_rows[:, None, :]).tril(-1).any(2)
    return torch.empty_like(likeness).scatter_(1, order, likeness.masked_fill(again, -1))


def _take(placings: Tensor, order: Tensor) -> Tensor:
    return placings.gather(1, order[..., None].expand(-1, -1, placings.shape[2]))
