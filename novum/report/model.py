"""A report as data: the dataclasses behind report.json, its page, its table and its events."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = 2
GROUPS = ("quality", "novelty")


class Finding(StrEnum):
    """Conclusion of a verdict about copying."""

    COPYING = "copying"
    LEANING = "leaning"  # samples favour training data, but none can be named as a copy
    NONE_FOUND = "none_found"
    CANNOT_JUDGE = "cannot_judge"  # the sets do not allow a judgement
    TOO_LITTLE_EVIDENCE = "too_little_evidence"  # copies of a hundredth would not have been seen


class Quality(StrEnum):
    """Quality of the samples, each figure held against its floor."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    UNKNOWN = "unknown"


class Tone(StrEnum):
    """Colour and icon of a verdict's banner."""

    CLEAR = "clear"
    COPYING = "copying"
    DOUBTFUL = "doubtful"
    UNJUDGED = "unjudged"


@dataclass(frozen=True)
class Verdict:
    """Conclusion of a report; words, colour, icon, exit code and report.json derive from it.

    Args:
        finding: About copying.
        headline: The finding in a few words.
        details: Sentences that say what it rests on; the first one continues the headline.
        caveats: Sentences about held-out data that the finding depends on.
        doubtful: True if a caveat is grave enough to doubt the finding.
        next: What to do about it, in one sentence.
        quality_finding: About how good the samples are.
        quality: Sentence about how good the samples are; empty if unknown.
        remarks: Further sentences, such as how training went.
        spaces: Feature spaces, or readings of text, in which copying was found.
    """

    finding: Finding
    headline: str
    details: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    doubtful: bool = False
    quality: str = ""
    remarks: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ()
    next: str = ""
    quality_finding: Quality = Quality.UNKNOWN

    @property
    def copying(self) -> bool:
        return self.finding is Finding.COPYING

    @property
    def tone(self) -> Tone:
        if self.copying:
            return Tone.COPYING
        weak = self.finding in (Finding.LEANING, Finding.TOO_LITTLE_EVIDENCE)
        if self.doubtful or weak or self.quality_finding is Quality.POOR:
            return Tone.DOUBTFUL
        return Tone.UNJUDGED if self.finding is Finding.CANNOT_JUDGE else Tone.CLEAR

    @property
    def quality_tone(self) -> Tone:
        """A generator that copies comes near to its training images: that is no good news."""
        if self.quality_finding is Quality.GOOD:
            return Tone.DOUBTFUL if self.copying else Tone.CLEAR
        tones = {Quality.FAIR: Tone.DOUBTFUL, Quality.POOR: Tone.COPYING}
        return tones.get(self.quality_finding, Tone.UNJUDGED)

    @property
    def quality_headline(self) -> str:
        if self.quality_finding is Quality.UNKNOWN:
            return "Quality is not rated"
        if self.quality_finding is Quality.GOOD and self.copying:
            return "Quality is good, as that of copies is"
        return f"Quality is {self.quality_finding}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """Sentences that follow the headline."""
        said = (*self.details, self.next, *self.caveats, self.quality, *self.remarks)
        return tuple(sentence for sentence in said if sentence)

    @property
    def text(self) -> str:
        """The verdict as one paragraph."""
        mark = ": " if self.details else ". "
        return f"{self.headline}{mark}{' '.join(self.sentences)}".strip()


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its 95% interval; None where unknown."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass
class Space:
    """Figures of one feature space, or of one reading of text."""

    quality: dict[str, Estimate] = field(default_factory=dict)
    novelty: dict[str, Estimate] = field(default_factory=dict)
    extractor: str | None = None  # name, weights and resizer
    floor: dict[str, Estimate] = field(default_factory=dict)  # quality of held-out images

    def group(self, name: str) -> dict[str, Estimate]:
        return self.quality if name == "quality" else self.novelty


@dataclass
class SetSummary:
    """One of the sets compared: samples, training data or held-out data."""

    path: str | None = None
    n: int | None = None  # images or characters
    shape: list[int] | None = None  # (c, h, w)
    texts: int | None = None
    fingerprint: str | None = None
    images_seen: int | None = None  # by the generator
    tokens_seen: int | None = None
    global_step: int | None = None
    seed: int | None = None
    searched: int | None = None  # held-out images looked at for near-duplicates
    near_duplicates: int | None = None
    exchangeability_distance: float | None = None
    exchangeability_usual_distance: float | None = None
    exchangeability_p: float | None = None

    @property
    def seen(self) -> int | None:
        """Images or characters that the generator was trained on."""
        return self.images_seen or self.tokens_seen


@dataclass(frozen=True)
class SetAudit:
    """Images or documents of a set that were read and those that were not, before any figure.

    Args:
        read: Images, or documents of text.
        files: Files or rows that they are from; None: a generator drew them.
        frames: Images that are one of several in their file (GIF, TIFF).
        left_out: Number of files, rows or frames that were not read, by reason.
        modes: Number of images of each mode of PIL (L, RGB, P, I;16), as stored.
        sizes: Number of images of each size, `width x height` as stored, commonest first.
        resized: Images of another than the commonest size.
        gray_in_colour: Gray images among such in colour.
        lowest: Of all values as judged, 0 to 255.
        highest: Likewise.
        stored_highest: Of 16-bit images, where that is so low that they are nearly black.
        duplicates: Images that equal an earlier one of the set, as judged; documents, but for line
            ends and outer white space.
        characters: Of text.
        examples: Up to three names for each reason, and of images `resized` and `gray_in_colour`.
    """

    read: int
    files: int | None = None
    frames: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    resized: int = 0
    gray_in_colour: int = 0
    lowest: int | None = None
    highest: int | None = None
    stored_highest: int | None = None
    duplicates: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)
    characters: int | None = None


@dataclass(frozen=True)
class Overlap:
    """Images of the set named second that equal some image of the first, pixel by pixel as judged;
    documents likewise; None where nothing is held out."""

    train_heldout: int | None = None
    train_samples: int | None = None
    heldout_samples: int | None = None


@dataclass(frozen=True)
class Copy:
    """A sample named as a copy of a training image, each by its name or row number."""

    sample: str | int
    train: str | int
    q: float | None = None
    distance: float | None = None
    transform: str | None = None  # how the image was altered
    features: str | None = None  # the space that is surest of it


@dataclass(frozen=True)
class Fact:
    """A sample so like a training image that it needs no test to be listed."""

    kind: str  # identical or near_identical; of text passage
    sample: str | int  # of text: offset in all samples joined
    train: str | int  # of text: offset in all training text
    # -log10 of the share of fresh images as near; None if identical. Of a passage: bits
    measure: float | None = None
    length: int | None = None  # of a passage, characters
    train_length: int | None = None
    file: str | None = None  # of training text
    file_offset: int | None = None


@dataclass(frozen=True)
class Reviewed:
    """A person's word on a pair that was named; no figure changes by it."""

    sample: str | int
    train: str | int
    decision: str  # confirmed or rejected


@dataclass(frozen=True)
class Identical:
    """Numbers of distinct samples and of fresh images that equal a training image."""

    samples: int
    of_samples: int  # distinct samples
    heldout: int | None
    of_heldout: int | None
    repeated: int  # distinct training images, of as many rows, that occur more than once
    of_train: int
    heldout_rows: int  # all held-out images that equal a training image
    pool_pairs: int  # training and held-out images that equal an earlier one
    p: float
    leak_p: float


@dataclass(frozen=True)
class NearIdentical:
    """Numbers of samples and of fresh images that are nearly identical to another image.

    Args:
        samples: Nearly identical to a training image.
        heldout: Samples as near to a held-out image, which cannot be copies.
        pool: Training and held-out images that are as near to another one.
        p: Of "fresh images are so near as often as these samples".
    """

    samples: int
    heldout: int
    pool: int
    p: float


@dataclass(frozen=True)
class Control:
    """Training images judged as samples are: their own excess of matches with training."""

    rows: int
    p: float
    excess: list[Estimate]  # at each ratio of distances
    ratios: list[float]


@dataclass(frozen=True)
class Gate:
    """The one test of copying over all spaces, and what it could have found."""

    p: float  # of "which images were trained on makes no difference to the samples"
    excess_low: float  # lower limit of the samples' excess over that of training images
    copy_rate: Estimate
    samples_named: int
    items_named: int
    needed: int  # copied items without which nothing could have been found
    spaces: list[str]


@dataclass(frozen=True)
class Passage:
    """A passage of a sample that the training text has too, altered or not.

    Offsets count characters from 0, of the files as they are.
    """

    sample: int  # offset in all samples joined
    train: int  # offset in all training text
    length: int
    train_length: int
    q: float
    in_heldout: bool  # held-out text has it too
    text: int  # number of the sample
    text_offset: int
    file: str  # of the training text
    file_offset: int
    # verbatim; folded: but for case, spaces and punctuation; or near: altered otherwise
    features: str
    bits: float | None = None  # information that it has in common with its source
    fact: bool = False  # more of it than chance gives
    documents: int = 0  # that share it, if it is boilerplate
    identity: float | None = None  # share that is the same
    edits: int | None = None  # stretches that differ
    sources: int = 0  # documents that have it, if they were counted: the place is in one of them

    @property
    def kind(self) -> str:
        """verbatim, folded or near; common, which held-out text has too; or boilerplate."""
        if self.in_heldout:
            return "common"
        return "boilerplate" if self.documents else self.features

    @property
    def is_copy(self) -> bool:
        return self.kind not in ("common", "boilerplate")


@dataclass(frozen=True)
class TextEvidence:
    """Evidence that the verdict on a text rests on."""

    fact_bits: float  # of a passage that is a fact
    named_bits: float  # below which none is named
    excess_p: float | None = None  # of "innocent text shares as many passages with training text"
    heldout_shared: float = 0.0  # share of held-out text that stands in training text
    train_repeated: float = 0.0  # share of training text that stands elsewhere in it


@dataclass(frozen=True)
class KnownItem:
    """A training item whose loss is lower than chance gives."""

    item: str | int  # a name or row number; of text: offset in all training text
    loss: float | None = None
    q: float | None = None
    reference_loss: float | None = None  # by the checkpoint that losses are held against
    length: int | None = None  # of a passage, characters
    file: str | None = None  # of training text
    file_offset: int | None = None


@dataclass(frozen=True)
class Membership:
    """Losses of training items beside those of held-out ones, from inside the model.

    Args:
        loss: Its name.
        train_items: Training items that were measured.
        heldout_items: Held-out items likewise.
        train_loss: Mean.
        heldout_loss: Mean.
        auc: How often a training item's loss is below a held-out one's.
        p: Of "which items were trained on makes no difference to the losses".
        control_auc: As `auc`, of the bytes that the items take when compressed.
        control_p: Of "the items of both sides compress alike".
        shift_p: Of "held-out text is of the same kind".
        calibrated_by: The checkpoint whose losses are taken off.
        calibrated_auc: As `auc`, after that.
        known: Training items that stand out, the surest first.
    """

    loss: str
    train_items: int
    heldout_items: int
    train_loss: float
    heldout_loss: float
    auc: Estimate
    p: float
    control_auc: Estimate
    control_p: float
    shift_p: float | None = None
    calibrated_by: str | None = None
    calibrated_auc: Estimate | None = None
    known: list[KnownItem] = field(default_factory=list)


@dataclass(frozen=True)
class Contaminated:
    """A held-out document that stands in training text."""

    document: str
    how: str  # exactly, nearly (altered), or partly
    share: float  # of its characters
    exact_share: float  # word for word
    train: int  # offset of the first passage in all training text


@dataclass(frozen=True)
class Recall:
    """Share of copies, altered by one edit, that the detector would have found."""

    edit: str
    recall: float | None
    low: float | None = None
    high: float | None = None
    library: str = ""  # whose edit it is, if not ours
    tuned: bool = True  # the detector was made with such alterations in view

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.recall, self.low, self.high)


@dataclass(frozen=True)
class Cost:
    """Time and memory of an evaluation, without imports."""

    seconds: float | None = None
    peak_rss_bytes: float | None = None
    images_per_second: float | None = None
    characters_per_second: float | None = None


@dataclass(frozen=True)
class Provenance:
    """Origin of a report, by which `--verify` recognises its inputs.

    Args:
        version: Of Novum.
        code: Digest of Novum's own source.
        packages: Versions of the packages that figures depend on.
        settings: All that was asked for, places among them; None where a program held the data.
        redacted: True if names of images and texts were replaced by hashes.
    """

    version: str
    code: str
    packages: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str | bool | int | list[str] | None] = field(default_factory=dict)
    redacted: bool = False


@dataclass(repr=False)
class Report:
    """Result of an evaluation. `verdict` is formed last, when the rest is known.

    In a notebook a report shows its page.
    """

    samples: SetSummary = field(default_factory=SetSummary)
    train: SetSummary = field(default_factory=SetSummary)
    heldout: SetSummary | None = None
    features: dict[str, Space] = field(default_factory=dict)
    kind: str = "image"  # or text
    verdict: Verdict = Verdict(Finding.CANNOT_JUDGE, "Copying was not judged")
    audit: dict[str, SetAudit] = field(default_factory=dict)  # of each set, by its name
    overlap: Overlap | None = None
    copies: list[Copy] | None = None  # of images; None: not searched for
    passages: list[Passage] = field(default_factory=list)  # of text
    text_evidence: TextEvidence | None = None
    contamination: list[Contaminated] = field(default_factory=list)
    power: list[Recall] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    reviewed: list[Reviewed] = field(default_factory=list)
    identical: Identical | None = None
    near_identical: NearIdentical | None = None
    gate: Gate | None = None
    negative_controls: dict[str, Control] = field(default_factory=dict)  # of each space
    membership: Membership | None = None  # of a model whose losses are known
    notes: list[str] = field(default_factory=list)
    quick: bool = False  # in one feature space, and altered copies were not looked for
    novel_ngrams: dict[str, list[float | None]] = field(default_factory=dict)
    history: list[dict[str, float | None]] = field(default_factory=list)  # tag -> value
    settings: dict[str, str] = field(default_factory=dict)  # of a training run's model
    cost: Cost | None = None
    made_by: Provenance | None = None
    page: str = field(default="", compare=False)  # report.html; not in report.json

    def __repr__(self) -> str:
        """One line; a report of many copies would fill a terminal."""
        facts = "1 fact" if len(self.facts) == 1 else f"{len(self.facts)} facts"
        return f"<Report on {self.samples.path or self.kind}: {self.verdict.headline}; {facts}>"

    @property
    def finding(self) -> Finding:
        """The conclusion about copying."""
        return self.verdict.finding

    @property
    def quality(self) -> dict[str, dict[str, Estimate]]:
        """Figures of quality: `report.quality["pixels"]["precision"].value`."""
        return {name: space.quality for name, space in self.features.items() if space.quality}

    @property
    def novelty(self) -> dict[str, dict[str, Estimate]]:
        """Figures of novelty, likewise."""
        return {name: space.novelty for name, space in self.features.items() if space.novelty}

    def to_json(self) -> str:
        """Contents of report.json."""
        from novum.report.schema import to_json

        return to_json(self)

    def show(self) -> None:
        """Show the page in a notebook; elsewhere print the answer in short."""
        from novum.report.display import show

        show(self)

    def _repr_html_(self) -> str | None:
        """The page in a frame of its own, as notebooks ask for it."""
        from novum.report.display import frame

        return frame(self.page) if self.page else None

    def assert_no_copying(self) -> None:
        """Raise AssertionError, with the verdict, if copying was found, or could not be judged.

        Without held-out data facts alone decide.
        """
        unjudged = self.finding is Finding.CANNOT_JUDGE and self.heldout is not None
        if self.verdict.copying or unjudged:
            raise AssertionError(self.verdict.text)

    @property
    def of_text(self) -> bool:
        return self.kind == "text"

    def sides(self) -> dict[str, SetSummary]:
        """The sets that exist, by name."""
        every = {"samples": self.samples, "train": self.train, "heldout": self.heldout}
        return {name: side for name, side in every.items() if side is not None}

    def estimates(self) -> Iterator[tuple[str, str, str, Estimate]]:
        """Yield (space, group, metric, estimate) of everything measured."""
        for name, space in self.features.items():
            for group in GROUPS:
                for metric, estimate in space.group(group).items():
                    yield name, group, metric, estimate


def as_estimates(figures: dict[str, Any]) -> dict[str, Estimate]:
    """Numbers, and mappings of value, low and high, as estimates."""
    return {
        name: Estimate(**figure) if isinstance(figure, dict) else Estimate(figure)
        for name, figure in figures.items()
    }
