"""Generators whose samples that copy training data are drawn again.

A guard knows copies by the detectors of the evaluation, at a threshold that few fresh items pass.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from novum.core.devices import default_device, place
from novum.core.errors import InputError, NotComputable
from novum.core.protocols import ImageGenerator, TextGenerator
from novum.core.seeds import derived_seed, random_generator
from novum.datamodules.sources.corpus import TextSource
from novum.datamodules.sources.image_sources import ImageArray, ImageSource
from novum.evaluation.audit import row_digests
from novum.metrics.features import extract_features, load_extractor, reference_features
from novum.metrics.functional.intervals import Interval, clopper_pearson_interval
from novum.metrics.novelty.altered_copies import AlteredCopyDetector
from novum.metrics.novelty.copying import copy_rate
from novum.metrics.novelty.text import TextReferences, judge_text
from novum.metrics.novelty.text.chance import are_facts
from novum.metrics.novelty.text.near_copies import search
from novum.metrics.novelty.text.readings import read_samples

ERROR = 0.01  # chance that a fresh image like the held-out ones is refused
TRIES = 20  # draws of a sample, at most
ROUND = 16  # images are drawn again in multiples: torch.randn then gives the same first ones
SECOND_LOOK = "efficientnet_lite0"  # the space in which images that passed are looked at again

S = TypeVar("S")
T = TypeVar("T", contravariant=True)


class Guard(Protocol[T]):
    """Rule that says which samples copy."""

    def sources(self, samples: Sequence[T]) -> list[str | None]:
        """Name what each sample is a copy of; None for one that is none."""
        ...

    def residual(self, samples: Sequence[T]) -> Interval:
        """Share of samples that copy, by a look that the guard does not take."""
        ...


class ImageGuard:
    """Refuses images that equal a training image, or are an altered copy of one.

    Altered copies are known by how much better the nearest training image explains an image than
    the sixth does, beyond what 1 in 100 held-out images shows. That bounds by `ERROR` the chance
    that a fresh image is refused, whatever the data (split conformal prediction, Vovk et al.,
    2005), if it is like the held-out ones.

    Args:
        train: uint8 images, at least 8 px wide.
        heldout: Images like them, never trained on; at least 99.
        device: For the search; null for a GPU if there is one.
    """

    def __init__(
        self, train: ImageSource, heldout: ImageSource, device: torch.device | None = None
    ) -> None:
        allowed = math.floor(ERROR * (len(heldout) + 1))
        if not allowed:
            raise InputError(
                f"{len(heldout)} held-out images are too few to know a copy by: a guard needs"
                f" {math.ceil(1 / ERROR) - 1} or more"
            )
        self.train, self.heldout = train, heldout
        self.device = device or default_device()
        self._rows: dict[int, int] = {
            digest: row for row, digest in enumerate(row_digests(train)[0].tolist())
        }
        self.detector = AlteredCopyDetector(train, device=self.device, progress=False)
        margins = self.detector.match(heldout).margin
        self.threshold = float(margins.sort(descending=True).values[allowed - 1])

    def sources(self, samples: Sequence[Tensor]) -> list[str | None]:
        images = torch.stack([x.cpu() for x in samples])
        same = row_digests(ImageArray(images))[0].tolist()
        found = self.detector.match(images)
        near = torch.where(found.margin > self.threshold, found.item, -1).tolist()
        rows = [self._rows.get(int(x), int(row)) for x, row in zip(same, near, strict=True)]
        return [None if row < 0 else f"training image {self.train.ids[row]}" for row in rows]

    def residual(self, samples: Sequence[Tensor]) -> Interval:
        """The copy rate in a feature space, with what chance gives taken off."""
        extractor = place(load_extractor(SECOND_LOOK), self.device)
        own = extract_features(extractor, torch.stack([x.cpu() for x in samples])).cpu()
        train, heldout = (reference_features(x, extractor) for x in (self.train, self.heldout))
        return copy_rate(train, heldout, own)


class TextGuard:
    """Refuses texts with a passage that has more bits in common with training text than chance.

    Passages are found word for word and altered. The threshold is that of a fact in the report: of
    200 innocent texts about one has such a passage, by what held-out text shares with training text
    and parts of training text share with each other.

    Args:
        train: Text that the generator was trained on.
        heldout: Text like it, never trained on; without it quotations that everybody knows may be
            refused.
    """

    def __init__(self, train: TextSource, heldout: TextSource | None = None) -> None:
        self.references = TextReferences(train, heldout)
        self.references.prepare()

    def sources(self, samples: Sequence[str]) -> list[str | None]:
        return [self._source(text) for text in samples]

    def _source(self, text: str) -> str | None:
        references = self.references
        read = read_samples([text], references.alphabets)
        tokens = read.readings["folded"].tokens
        if not len(tokens):
            return None
        found = search(references.pool, tokens, read.ends["folded"], read.inner_stops).passages
        heldout = references.usual_heldout
        null = references.usual_training.null
        facts = np.flatnonzero(are_facts(found, null, heldout and heldout.null, len(tokens)))
        if not len(facts):
            return None
        best = facts[np.argmax(found.score[facts])]
        folded = references.read_train.readings["folded"]
        offset = int(folded.place(found.place[best : best + 1])[0])
        file, inside = references.train.place(offset)
        return f"a passage of {file} at character {inside:,}"

    def residual(self, samples: Sequence[str]) -> Interval:
        """The report's copy rate: at fewer bits than a refusal takes, chance taken off."""
        rate = judge_text(self.references, samples).novelty["folded"].get("copy_rate")
        if rate is None:
            raise NotComputable("a residual rate needs held-out text: hold some out")
        return Interval(**rate)


class Guarded(Generic[S]):
    """A generator and its guard, with the number of samples drawn and refused so far.

    Args:
        guard: Says which samples copy.
        tries: Draws of a sample at most; 1: the first copy is an error.
    """

    def __init__(self, guard: Guard[S], tries: int = TRIES) -> None:
        if tries < 1:
            raise InputError(f"tries is {tries}: a sample is drawn at least once")
        self.guard, self.tries = guard, tries
        self.drawn = self.refused = 0

    @property
    def refusal_rate(self) -> Interval:
        """Share of the samples drawn that were refused, with its exact 95% interval."""
        if not self.drawn:
            raise NotComputable("nothing was drawn yet: draw samples first")
        return clopper_pearson_interval(self.refused, self.drawn)

    def residual_rate(self, samples: Sequence[S]) -> Interval:
        """Share of samples that passed and copy nevertheless, by another look."""
        return self.guard.residual(samples)

    def _passed(
        self, n: int, seed: int | None, draw: Callable[[Sequence[int], int], Sequence[S]]
    ) -> list[S]:
        """n samples that the guard lets pass. `draw` gives those of some places, at a seed.

        What stands at a place depends on the seed alone, as far as the generator's samples do.
        """
        first = random_generator(None).initial_seed() % 2**31 if seed is None else seed
        samples, left = list(draw(range(n), first)), list(range(n))
        sources: list[str | None] = []
        for attempt in range(1, self.tries + 1):
            found = self.guard.sources([samples[i] for i in left]) if left else []
            self.drawn += len(left)
            left = [i for i, source in zip(left, found, strict=True) if source is not None]
            self.refused += len(left)
            if not left:
                return samples
            sources = [source for source in found if source is not None]
            if attempt < self.tries:
                again = draw(left, derived_seed(first, attempt))
                for i, sample in zip(left, again, strict=True):
                    samples[i] = sample
        raise InputError(
            f"sample {left[0]} is a copy in each of {self.tries} tries, the last of {sources[0]}:"
            " the generator copies too much to be guarded; train it on more data, or for less long"
        )


class GuardedImages(Guarded[Tensor]):
    """A generator of images none of which its guard takes for a copy."""

    def __init__(self, generator: ImageGenerator, guard: Guard[Tensor], tries: int = TRIES) -> None:
        super().__init__(guard, tries)
        self.generator = generator

    @property
    def images_seen(self) -> int:
        return int(getattr(self.generator, "images_seen", 0))

    def sample(self, n: int, *, seed: int | None = None, labels: Tensor | None = None) -> Tensor:
        """n uint8 images (n, c, h, w), the same for the same seed.

        Raises:
            InputError: If one is a copy in each try.
        """
        classes = getattr(self.generator, "num_classes", 0)
        if labels is None and classes:
            labels = torch.arange(n) % classes

        def draw(places: Sequence[int], of: int) -> Sequence[Tensor]:
            rows = torch.tensor(places)
            if of != seed:
                rows = rows[torch.arange(-(-len(rows) // ROUND) * ROUND).clamp(max=len(rows) - 1)]
            own = None if labels is None else labels[rows.to(labels.device)]
            return list(self.generator.sample(len(rows), seed=of, labels=own)[: len(places)])

        return torch.stack(self._passed(n, seed, draw))


class GuardedTexts(Guarded[str]):
    """A generator of texts none of which its guard takes for a copy; a prime is not looked at."""

    def __init__(self, generator: TextGenerator, guard: Guard[str], tries: int = TRIES) -> None:
        super().__init__(guard, tries)
        self.generator = generator

    @property
    def tokens_seen(self) -> int:
        return self.generator.tokens_seen

    def sample_text(
        self,
        n: int,
        length: int,
        *,
        temperature: float = 1.0,
        prime: str = "",
        seed: int | None = None,
        **how: Any,
    ) -> list[str]:
        """n texts that go on after `prime`, the same for the same seed; `how` as the generator's.

        Raises:
            InputError: If one is a copy in each try.
        """
        if temperature == 0 or how.get("beam") is not None:
            setting = "temperature 0" if temperature == 0 else "a beam search"
            raise InputError(
                f"{setting} gives the same text again: a guard draws copies again, so draw texts at"
                " a temperature"
            )

        def draw(places: Sequence[int], of: int) -> Sequence[str]:
            drawn = {"temperature": temperature, "prime": prime, "seed": of, **how}
            return self.generator.sample_text(len(places), length, **drawn)

        return self._passed(n, seed, draw)


def refusals(drawn: int, refused: int) -> str:
    """The rate of refusals in words."""
    if not refused:
        return f"Guard: none of {drawn:,} samples was refused as a copy"
    rate = clopper_pearson_interval(refused, drawn)
    return (
        f"Guard: {refused:,} of {drawn:,} samples drawn were refused as copies and drawn again"
        f" ({rate.value:.1%}, 95% interval {rate.low:.1%} to {rate.high:.1%})"
    )
