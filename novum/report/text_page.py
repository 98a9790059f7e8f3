"""report.html of text: verdict first, then every copy beside its source."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text.differences import Piece, differences
from novum.report.exhibits import NOBODY, Reviews
from novum.report.figures import line_chart
from novum.report.formatting import number
from novum.report.history import histories, history_view
from novum.report.image_page import (
    audit_rows,
    boden,
    decisions,
    inside,
    metric_table,
    power_groups,
    review_note,
    settings,
)
from novum.report.known_items import Known
from novum.report.model import Passage, Report
from novum.report.rendering import render

MOST_BESIDE = 20  # copies shown beside their source
MOST_SHARED = 5  # set phrases, and what held-out text has too
MOST_LISTED = 30
CONTEXT = 60  # characters shown around a copy
PASSAGE = 600  # characters of a long copy that are shown
MOST_TEXT = 20_000  # characters of the samples
SIDES = {"samples": "samples", "train": "training text", "heldout": "held-out text"}
KINDS = {
    "verbatim": "verbatim in the training text",
    "folded": "but for case, spaces and punctuation",
    "near": "altered",
    "common": "in held-out text too",
    "boilerplate": "shared by ten documents or more",
}


class Marked(NamedTuple):
    """A copy with the text around it."""

    before: str
    copied: list[Piece]
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


def text_page(
    report: Report, texts: Sequence[str], train: TextSource, known: Known | None = None
) -> str:
    """Render the whole page."""
    joined = Joined(texts, train)
    copies = report.passages
    shown = min(MOST_TEXT, len(joined.text))
    curve_names, curves = _ngrams(report)
    reviewed = decisions(report)
    return render(
        "text.html",
        title=f"Novum report: {report.samples.path or 'Training run'}",
        report=report,
        history=[history_view(tag, {"": at}, True) for tag, at in histories(report)],
        known=_known(report),
        novelty=metric_table(report, "novelty"),
        quality=metric_table(report, "quality"),
        boden=boden(report),
        kinds=KINDS,
        kind_classes=[f"copied {kind}" for kind in KINDS],
        pairs=[passage_pair(copy, joined, reviewed) for copy in copies if copy.is_copy][
            :MOST_BESIDE
        ],
        shared=[passage_pair(copy, joined, reviewed) for copy in copies if not copy.is_copy][
            :MOST_SHARED
        ],
        power=power_groups(report.power),
        curve_names=curve_names,
        curves=curves,
        runs=_runs(copies, joined, shown),
        not_shown=len(joined.text) - shown,
        tables=_tables(copies),
        inside=inside(report, known),
        audit=audit_rows(report),
        reviews=review_note(report),
        **settings(report),
    )


class Joined:
    """Samples joined, and the training text, by the offsets of `copies`."""

    def __init__(self, texts: Sequence[str], train: TextSource) -> None:
        self.text, self.train = "".join(texts), train
        self.stops = np.cumsum([len(text) for text in texts])

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


def passage_pair(copy: Passage, joined: Joined, reviewed: Reviews = NOBODY) -> Pair:
    """Return a copy beside its source, long ones shortened; the caption has a person's word."""
    start, stop = copy.sample, copy.sample + copy.length
    place, place_stop = copy.train, copy.train + copy.train_length
    first, last = joined.around(start, stop)
    train = joined.train
    end = min(len(train), place_stop + CONTEXT)
    found = differences(joined.text[start:stop], train.text(place, place_stop))
    own = joined.text[first:start], found.own, joined.text[stop:last]
    source = train.text(max(0, place - CONTEXT), place), found.source, train.text(place_stop, end)
    word = reviewed.get((copy.sample, copy.train))
    return Pair(
        copy.text,
        f"{copy.text_offset:,}",
        ", ".join([_caption(copy), *([f"{word} by a person"] if word else [])]),
        Marked(own[0], _shortened(own[1]), own[2], copy.kind),
        copy.file,
        f"{copy.file_offset:,}",
        Marked(source[0], _shortened(source[1]), source[2], copy.kind),
    )


def _caption(copy: Passage) -> str:
    sure = "a fact" if copy.fact else f"q {number(copy.q)}"
    words = [f"{copy.length:,} characters", f"{copy.bits or 0:,.0f} bits", sure]
    if copy.features != "verbatim" and copy.identity is not None:
        words.append(f"{copy.identity:.0%} the same")
    if copy.documents:
        words[2] = f"in {copy.documents:,} documents or more"
    elif copy.in_heldout:
        words[2] = "in held-out text too"
    elif copy.sources > 1:
        words.append(f"the source is one of {copy.sources} documents that have it")
    return ", ".join(words)


def _shortened(pieces: list[Piece]) -> list[Piece]:
    """The beginning of a long copy and its end."""
    total = sum(len(p.text) for p in pieces)
    if total <= PASSAGE:
        return pieces
    left_out = f" … {total - PASSAGE:,} more characters … "
    return [
        *_first(pieces, PASSAGE // 2),
        Piece(left_out, True),
        *[Piece(p.text[::-1], p.same) for p in _first(_reversed(pieces), PASSAGE // 2)][::-1],
    ]


def _reversed(pieces: list[Piece]) -> list[Piece]:
    return [Piece(p.text[::-1], p.same) for p in reversed(pieces)]


def _first(pieces: list[Piece], count: int) -> list[Piece]:
    kept = []
    for piece in pieces:
        if count <= 0:
            break
        kept.append(Piece(piece.text[:count], piece.same))
        count -= len(piece.text)
    return kept


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


def _runs(copies: Sequence[Passage], joined: Joined, shown: int) -> list[Run]:
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
            joined.text[first:last],
            names[kinds[first] - 1] if kinds[first] else "",
            last in stops and last < shown,
        )
        for first, last in zip(edges[:-1], edges[1:], strict=True)
    ]


def _tables(copies: Sequence[Passage]) -> list[CopyTable]:
    """Passages with most bits, copies and others."""
    tables = []
    for title, is_copy in (
        ("Of training text", True),
        ("Set phrases, and what held-out text has", False),
    ):
        found = [c for c in copies if c.is_copy == is_copy]
        if found:
            rows = [_row(copy) for copy in found[:MOST_LISTED]]
            tables.append(CopyTable(title, rows, len(found) - len(rows)))
    return tables


def _row(copy: Passage) -> list[str]:
    return [
        copy.file,
        "a fact" if copy.fact else KINDS[copy.kind],
        number(copy.bits or 0),
        number(copy.length),
        str(copy.sample),
        str(copy.train),
        str(copy.file_offset),
        "" if copy.identity is None else f"{copy.identity:.0%}",
        number(copy.q),
    ]
