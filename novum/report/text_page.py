"""The page of a report of texts: verdict first, then every copy beside its source."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from novum.datamodules.text import TextSource
from novum.report.document import (
    clean,
    definitions,
    described,
    document,
    legend,
    number,
    section,
    spent,
    table,
)
from novum.report.evaluation import Report
from novum.report.figures import line_chart
from novum.report.html import banner, metric_table, record_table
from novum.report.text import kind

MOST_BESIDE = 12  # copies shown beside their source
MOST_LISTED = 30
CONTEXT = 60  # characters shown around a copy
PASSAGE = 600  # characters of a long copy that are shown
MOST_TEXT = 20_000  # characters of the samples
SIDES = {"samples": "samples", "train": "training text", "heldout": "held-out text"}
KINDS = ("verbatim", "near", "common")
KIND_NAMES = (
    "verbatim in the training text",
    "but for case and white space",
    "in held-out text too",
)


def text_page(report: Report, texts: Sequence[str], train: TextSource) -> str:
    """The whole page."""
    whole = _Whole(texts, train)
    copies = report["copies"]
    parts = [
        _heading(report),
        banner(report),
        _figures(report),
        _beside(copies, whole),
        _ngrams(report),
        _samples(copies, whole),
        _tables(copies),
        _quality(report),
        _notes(report),
        _settings(report),
    ]
    return document(f"Novum report: {report['samples']['path']}", "".join(parts))


class _Whole:
    """Samples joined, and the training text, by the offsets of `copies`."""

    def __init__(self, texts: Sequence[str], train: TextSource) -> None:
        self.vocabulary, self.train = train.vocabulary, train
        encoded = [self.vocabulary.encode(text) for text in texts]
        self.tokens = np.concatenate(encoded)
        self.stops = np.cumsum([len(tokens) for tokens in encoded])
        self.originals = None if self.vocabulary.is_bytes else "".join(texts)

    def sample(self, start: int, stop: int) -> str:
        """As the samples have it, characters that training text has not among them."""
        if self.originals is not None:
            return self.originals[start:stop]
        return self.vocabulary.decode(self.tokens[start:stop])

    def around(self, start: int, stop: int) -> tuple[int, int]:
        """Some context, inside the same text."""
        text = int(np.searchsorted(self.stops, start, "right"))
        first = int(self.stops[text - 1]) if text else 0
        return max(first, start - CONTEXT), min(int(self.stops[text]), stop + CONTEXT)


def _heading(report: Report) -> str:
    known = ", ".join(
        f"{report[side]['n']:,} characters of {words}"
        for side, words in SIDES.items()
        if report.get(side)
    )
    seen = report["samples"].get("tokens_seen")
    known += f", generator after {seen:,} characters" if seen else ""
    return (
        f"<header><h1>{clean(report['samples']['path'])}</h1>"
        f'<p class="soft">Is this text new? {clean(known)}</p></header>'
    )


def _figures(report: Report) -> str:
    lead = (
        "What the samples have in common with the training text, word for word and with case and"
        " white space aside. Held-out text, which nobody has copied, is the measure of chance."
    )
    return section("Novelty", lead, metric_table(report, "novelty"))


def _beside(copies: Sequence[Mapping[str, Any]], whole: _Whole) -> str:
    if not copies:
        return section("Copies", "", "<p>No passage of 50 characters was copied.</p>")
    lead = (
        "The surest and longest, at the left in the sample, at the right in its source. q: if all"
        " with a q up to some value are called copies, about that share is called so in error."
    )
    shown = "".join(_pair(copy, whole) for copy in copies[:MOST_BESIDE])
    return section("Copies beside their sources", lead, _key(), shown)


def _key() -> str:
    return legend(KIND_NAMES, (f"copied {name}" for name in KINDS))


def _pair(copy: Mapping[str, Any], whole: _Whole) -> str:
    start, stop = copy["sample"], copy["sample"] + copy["length"]
    place, place_stop = copy["train"], copy["train"] + copy["train_length"]
    first, last = whole.around(start, stop)
    known = whole.train
    sides = (
        (whole.sample(first, start), whole.sample(start, stop), whole.sample(stop, last)),
        (
            known.text(max(0, place - CONTEXT), place),
            known.text(place, place_stop),
            known.text(place_stop, min(len(known), place_stop + CONTEXT)),
        ),
    )
    own, source = (_marked(before, copied, after, kind(copy)) for before, copied, after in sides)
    q = "" if copy["q"] is None else f", q {number(copy['q'])}"
    caption = f"{copy['length']:,} characters{q}"
    return (
        f'<div class="pair"><figure><figcaption><b>Sample {copy["text"]}</b>, offset'
        f" {copy['text_offset']:,}: {clean(caption)}</figcaption>{own}</figure>"
        f"<figure><figcaption><b>{clean(copy['file'])}</b>, offset {copy['file_offset']:,}"
        f"</figcaption>{source}</figure></div>"
    )


def _marked(before: str, copied: str, after: str, name: str) -> str:
    if len(copied) > PASSAGE:
        left_out = f" … {len(copied) - PASSAGE:,} more characters … "
        copied = copied[: PASSAGE // 2] + left_out + copied[-PASSAGE // 2 :]
    mark = f'<mark class="copied {name}">{clean(copied)}</mark>'
    return f"<pre>{clean(before)}{mark}{clean(after)}</pre>"


def _ngrams(report: Report) -> str:
    curves = report["novel_ngrams"]
    names = {"samples": "samples", "heldout": "held-out text"}
    points = {
        words: np.array(
            [[n, y] for n, y in enumerate(curves[name], 1) if y is not None], float
        ).reshape(-1, 2)
        for name, words in names.items()
        if name in curves
    }
    chart = line_chart(points, "n", "new n-grams", share=True, dots=False)
    lead = (
        "Share of the n-grams (n characters in a row) that the training text has not. A curve well"
        " below that of held-out text means passages lifted from training."
    )
    return section("New n-grams", lead, legend(points), f"<figure>{chart}</figure>")


def _samples(copies: Sequence[Mapping[str, Any]], whole: _Whole) -> str:
    """The first samples with all their copies coloured."""
    end = min(MOST_TEXT, len(whole.tokens))
    kinds = np.zeros(end, np.int64)
    for copy in sorted(copies, key=lambda c: KINDS.index(kind(c)), reverse=True):
        kinds[copy["sample"] : copy["sample"] + copy["length"]] = 1 + KINDS.index(kind(copy))
    breaks = np.flatnonzero(np.diff(kinds)) + 1
    edges = sorted({0, end, *breaks.tolist(), *(int(s) for s in whole.stops if s < end)})
    parts = []
    stops = {int(s) for s in whole.stops}
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        text = clean(whole.sample(first, last))
        name = kinds[first]
        parts.append(f'<mark class="copied {KINDS[name - 1]}">{text}</mark>' if name else text)
        parts.append('<span class="rule"></span>' if last in stops and last < end else "")
    more = len(whole.tokens) - end
    rest = f'<p class="soft">{more:,} more characters are not shown.</p>' if more else ""
    lead = "As they were written, copies coloured; a line parts one sample from the next."
    return section("Samples", lead, _key(), f'<pre class="tall">{"".join(parts)}</pre>', rest)


def _tables(copies: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for title, name in (("Longest copies", "verbatim"), ("Near-copies", "folded")):
        found = sorted(
            (c for c in copies if c["features"] == name), key=lambda c: c["length"], reverse=True
        )
        if not found:
            continue
        rows = [
            [
                clean(c["file"]),
                number(c["length"]),
                str(c["sample"]),
                str(c["train"]),
                str(c["file_offset"]),
                number(c["q"]),
                "yes" if c["in_heldout"] else "no",
            ]
            for c in found[:MOST_LISTED]
        ]
        headings = [
            "Source", "Characters", "Sample offset", "Training offset", "Offset in file", "q",
            "In held-out text too",
        ]  # fmt: skip
        more = len(found) - len(rows)
        rest = f'<p class="soft">{more:,} more are in report.json.</p>' if more else ""
        parts += [f"<h3>{title}</h3>{table(headings, rows, 6, 'wide fit')}{rest}"]
    lead = "Offsets count characters from 0. Near-copies are the same but for case and white space."
    return section("All copies", lead, *parts) if parts else ""


def _quality(report: Report) -> str:
    figures = metric_table(report, "quality")
    lead = (
        "How much the samples repeat themselves, and held-out text of as many words. Passages of"
        " 100 words, at most 200 of them."
    )
    return section("Variety", lead, figures) if figures else ""


def _notes(report: Report) -> str:
    notes = "".join(f"<li>{clean(note)}</li>" for note in report.get("notes") or ())
    return section("Notes", "", f"<ul>{notes}</ul>") if notes else ""


def _settings(report: Report) -> str:
    sides = [
        {"set": words, **described(report[side])}
        for side, words in SIDES.items()
        if report.get(side)
    ]
    lead = "What was compared: equal fingerprints are equal texts, to the last character."
    cost = f"<h3>Cost</h3>{definitions(spent(report['cost']))}" if report.get("cost") else ""
    return section("Settings and cost", lead, record_table(sides), cost)
