"""report.html of text: verdict first, then every copy beside its source."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from novum.datamodules.sources.corpus import TextSource
from novum.report.figures import line_chart
from novum.report.formatting import number
from novum.report.image_page import metric_table, settings
from novum.report.model import Passage, Report
from novum.report.rendering import render

MOST_BESIDE = 12  # copies shown beside their source
MOST_LISTED = 30
CONTEXT = 60  # characters shown around a copy
PASSAGE = 600  # characters of a long copy that are shown
MOST_TEXT = 20_000  # characters of the samples
SIDES = {"samples": "samples", "train": "training text", "heldout": "held-out text"}
KINDS = {
    "verbatim": "verbatim in the training text",
    "near": "but for case and white space",
    "common": "in held-out text too",
}


class Marked(NamedTuple):
    """A copy with the text around it."""

    before: str
    copied: str
    after: str
    kind: str


class Pair(NamedTuple):
    """A copy beside its source."""

    text: int
    text_offset: str
    caption: str
    own: Marked
    file: str
    file_offset: str
    source: Marked


class Run(NamedTuple):
    """A stretch of the samples, copied or not."""

    text: str
    kind: str  # empty if it is not copied
    ends: bool  # a sample


class CopyTable(NamedTuple):
    title: str
    rows: list[list[str]]
    more: int  # that are not listed


def text_page(report: Report, texts: Sequence[str], train: TextSource) -> str:
    """Render the whole page."""
    joined = _Joined(texts, train)
    copies = report.passages
    shown = min(MOST_TEXT, len(joined.tokens))
    curve_names, curves = _ngrams(report)
    return render(
        "text.html",
        title=f"Novum report: {report.samples.path}",
        report=report,
        known=_known(report),
        novelty=metric_table(report, "novelty"),
        quality=metric_table(report, "quality"),
        kinds=KINDS,
        kind_classes=[f"copied {kind}" for kind in KINDS],
        pairs=[_pair(copy, joined) for copy in copies[:MOST_BESIDE]],
        curve_names=curve_names,
        curves=curves,
        runs=_runs(copies, joined, shown),
        not_shown=len(joined.tokens) - shown,
        tables=_tables(copies),
        **settings(report),
    )


class _Joined:
    """Samples joined, and the training text, by the offsets of `copies`."""

    def __init__(self, texts: Sequence[str], train: TextSource) -> None:
        self.vocabulary, self.train = train.vocabulary, train
        encoded = [self.vocabulary.encode(text) for text in texts]
        self.tokens = np.concatenate(encoded)
        self.stops = np.cumsum([len(tokens) for tokens in encoded])
        self.originals = None if self.vocabulary.is_bytes else "".join(texts)

    def sample(self, start: int, stop: int) -> str:
        """Text of the samples as written, with characters that the training text lacks."""
        if self.originals is not None:
            return self.originals[start:stop]
        return self.vocabulary.decode(self.tokens[start:stop])

    def around(self, start: int, stop: int) -> tuple[int, int]:
        """Some context, inside the same text."""
        text = int(np.searchsorted(self.stops, start, "right"))
        first = int(self.stops[text - 1]) if text else 0
        return max(first, start - CONTEXT), min(int(self.stops[text]), stop + CONTEXT)


def _known(report: Report) -> list[str]:
    """Sizes of the sets and how far the generator was trained."""
    sides = report.sides().items()
    known = [f"{side.n or 0:,} characters of {SIDES[name]}" for name, side in sides]
    seen = report.samples.tokens_seen
    return known + ([f"generator after {seen:,} characters"] if seen else [])


def _pair(copy: Passage, joined: _Joined) -> Pair:
    start, stop = copy.sample, copy.sample + copy.length
    place, place_stop = copy.train, copy.train + copy.train_length
    first, last = joined.around(start, stop)
    train = joined.train
    own = joined.sample(first, start), joined.sample(start, stop), joined.sample(stop, last)
    source = (
        train.text(max(0, place - CONTEXT), place),
        train.text(place, place_stop),
        train.text(place_stop, min(len(train), place_stop + CONTEXT)),
    )
    return Pair(
        copy.text,
        f"{copy.text_offset:,}",
        f"{copy.length:,} characters, q {number(copy.q)}",
        _marked(*own, copy.kind),
        copy.file,
        f"{copy.file_offset:,}",
        _marked(*source, copy.kind),
    )


def _marked(before: str, copied: str, after: str, kind: str) -> Marked:
    """Shorten a long copy in the middle."""
    if len(copied) > PASSAGE:
        left_out = f" … {len(copied) - PASSAGE:,} more characters … "
        copied = copied[: PASSAGE // 2] + left_out + copied[-PASSAGE // 2 :]
    return Marked(before, copied, after, kind)


def _ngrams(report: Report) -> tuple[list[str], Markup]:
    """Names of the curves of new n-grams, and their chart."""
    names = {"samples": "samples", "heldout": "held-out text"}
    points = {
        name: np.array(
            [[n, y] for n, y in enumerate(report.novel_ngrams[key], 1) if y is not None], float
        ).reshape(-1, 2)
        for key, name in names.items()
        if key in report.novel_ngrams
    }
    return list(points), line_chart(points, "n", "new n-grams", share=True, dots=False)


def _runs(copies: Sequence[Passage], joined: _Joined, shown: int) -> list[Run]:
    """Split the first characters of the samples where a copy or a sample begins or ends."""
    names = list(KINDS)
    kinds = np.zeros(shown, np.int64)
    for copy in sorted(copies, key=lambda c: names.index(c.kind), reverse=True):
        kinds[copy.sample : copy.sample + copy.length] = 1 + names.index(copy.kind)
    breaks = np.flatnonzero(np.diff(kinds)) + 1
    stops = {int(stop) for stop in joined.stops}
    edges = sorted({0, shown, *breaks.tolist(), *(stop for stop in stops if stop < shown)})
    return [
        Run(
            joined.sample(first, last),
            names[kinds[first] - 1] if kinds[first] else "",
            last in stops and last < shown,
        )
        for first, last in zip(edges[:-1], edges[1:], strict=True)
    ]


def _tables(copies: Sequence[Passage]) -> list[CopyTable]:
    """Longest copies of each reading."""
    tables = []
    for title, reading in (("Longest copies", "verbatim"), ("Near-copies", "folded")):
        found = sorted(
            (c for c in copies if c.features == reading), key=lambda c: c.length, reverse=True
        )
        if found:
            rows = [_row(copy) for copy in found[:MOST_LISTED]]
            tables.append(CopyTable(title, rows, len(found) - len(rows)))
    return tables


def _row(copy: Passage) -> list[str]:
    return [
        copy.file,
        number(copy.length),
        str(copy.sample),
        str(copy.train),
        str(copy.file_offset),
        number(copy.q),
        "yes" if copy.in_heldout else "no",
    ]
