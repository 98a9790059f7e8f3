"""Detection power: the share of planted copies that a detector finds.

Copies of this very training set are planted, altered rung by rung, and the detector must name the
source at a threshold that one held-out image in a hundred exceeds.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from novum.metrics.features.extraction import Images, as_uint8, extract_features
from novum.metrics.functional.intervals import Interval, clopper_pearson_interval
from novum.metrics.neighbours import knn
from novum.metrics.novelty.alterations import LADDER, alter
from novum.metrics.novelty.altered_copies import AlteredCopyDetector
from novum.metrics.novelty.nearest_matches import HELDOUT, NEAREST, TRAIN, Matches, margins

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

# (samples, an item that is not to be found for each of them) -> what they match
Matcher = Callable[[Tensor, Tensor], Matches]
PLANTED_BYTES = 2**26  # of copies that are altered and searched for at a time


class PowerCard(NamedTuple):
    recall: dict[str, Interval]  # per attack: found with the right source; 95% Clopper-Pearson
    threshold: float  # of the margin
    false_alarms: Interval | None  # share of held-out images above it, if they set it


def power(
    train: Images,
    heldout: Images,
    match: Matcher | None = None,
    *,
    attacks: Iterable[str] = tuple(LADDER),
    copies: int = 60,
    fresh: int = 1000,
    false_alarms: float = 0.01,
    threshold: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> PowerCard:
    """Recall of planted copies per attack.

    `match` is a detector's; that of altered copies if not given.

    Args:
        attacks: Rungs of LADDER or `library_edits`.
        copies: Planted copies per attack.
        fresh: Held-out images, each without itself, of which a share of `false_alarms` exceeds the
            threshold.
        threshold: The margin from which copies count, if it is known.
    """
    attacks = list(attacks)
    if match is None:
        match = AlteredCopyDetector(train, heldout, progress=progress).match
    generator = torch.Generator().manual_seed(seed)
    sources = torch.randperm(len(train), generator=generator)[:copies]
    others = torch.randint(len(heldout), (len(sources),), generator=generator)
    alone = torch.randperm(len(heldout), generator=generator)
    alone = alone[: fresh if threshold is None else 0]
    originals, backgrounds = pick(train, sources), pick(heldout, others)
    plain, items = [torch.zeros(0, dtype=torch.float64)], [sources[:0]]  # one for each copy
    for planted in _planted(originals, attacks, backgrounds, seed):
        not_to_find = others.repeat(len(planted) // len(others)) + len(train)
        matches = match(planted, not_to_find)
        plain.append(matches.margin)
        items.append(matches.item)
    fresh_margins = torch.zeros(0, dtype=torch.float64)
    if threshold is None:
        fresh_margins = match(pick(heldout, alone), alone + len(train)).margin
        fresh_margins = fresh_margins.sort(descending=True).values
        threshold = float(fresh_margins[int(false_alarms * len(alone))])
    found = torch.cat(plain) > threshold
    right = _named(torch.cat(items), sources.repeat(len(attacks)), train)
    hits = (found & right).view(len(attacks), -1).sum(1).tolist()
    return PowerCard(
        {a: clopper_pearson_interval(k, len(sources)) for a, k in zip(attacks, hits, strict=True)},
        threshold,
        clopper_pearson_interval(int((fresh_margins > threshold).sum()), len(alone))
        if len(alone)
        else None,
    )


def _planted(
    originals: Tensor, attacks: list[str], backgrounds: Tensor, seed: int
) -> Iterator[Tensor]:
    """Originals altered by each attack, as many attacks at a time as fit into `PLANTED_BYTES`."""
    at_once = max(1, PLANTED_BYTES // originals.numel())
    for first in range(0, len(attacks), at_once):
        some = list(enumerate(attacks))[first : first + at_once]
        yield torch.cat([alter(originals, a, seed + i, backgrounds) for i, a in some])


def feature_matcher(
    extractor: "FeatureExtractorBase",
    train: Images,
    heldout: Images,
    *,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Matcher:
    """The plain nearest neighbour of an extractor's features, to compare with.

    Its margin is log(distance of the fifth / of the nearest), as in `find_matches`.
    """

    def features(images: Images) -> Tensor:
        return extract_features(extractor, images, device=device, progress=progress)

    pool = torch.cat([features(x) for x in (train, heldout)])

    def match(samples: Tensor, exclude: Tensor) -> Matches:
        found = knn(features(samples), pool, NEAREST + 1)
        last = (found.indices == exclude[:, None]).byte().sort(dim=1, stable=True).indices
        item = found.indices.gather(1, last)[:, 0]
        margin = margins(found.distances.gather(1, last)[:, :NEAREST])
        side = torch.where(item < len(train), TRAIN, HELDOUT).to(torch.int8)
        return Matches(item, side, margin, len(train), len(heldout))

    return match


def pick(source: Images, rows: Tensor) -> Tensor:
    """uint8 images of the rows."""
    return torch.cat([as_uint8(source[row : row + 1]).cpu() for row in rows.tolist()])


def _named(items: Tensor, sources: Tensor, train: Images) -> Tensor:
    """Mask of items that are the source, or a training image equal to it."""
    right = items == sources
    for i in ((items < len(train)) & ~right).nonzero()[:, 0].tolist():
        right[i] = bool((pick(train, items[i : i + 1]) == pick(train, sources[i : i + 1])).all())
    return right
