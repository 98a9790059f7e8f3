"""A report as the comment on a pull request, in Markdown."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from novum.metrics.registry import describe
from novum.report.criteria import Check
from novum.report.formatting import UNKNOWN, number
from novum.report.model import Report, Tone
from novum.report.short_answer import key_figures, one_number

THUMBNAILS = "thumbnails"  # folder beside report.json
MOST_PAIRS = 8
MARKS = {Tone.CLEAR: "✅", Tone.COPYING: "❌", Tone.DOUBTFUL: "⚠️", Tone.UNJUDGED: "❔"}
MEANT = "\\`*_{}[]<>#|~!&@"  # characters with a meaning in Markdown or HTML
SHORT = 12  # digits of a fingerprint


class Pair(NamedTuple):
    """A sample named as a copy, and the training image."""

    sample: str | int
    train: str | int
    how: str


def named_pairs(report: Report) -> list[Pair]:
    """Facts first, then copies that the test names; each sample once."""
    pairs: dict[str | int, Pair] = {}
    for fact in report.facts if not report.of_text else ():
        pairs.setdefault(fact.sample, Pair(fact.sample, fact.train, fact.kind.replace("_", " ")))
    for copy in report.copies or ():
        how = copy.transform or "named by the test"
        pairs.setdefault(copy.sample, Pair(copy.sample, copy.train, how))
    return list(pairs.values())


def markdown(
    report: Report, checks: Sequence[Check] = (), output: Path | None = None, base: Path = Path()
) -> str:
    """The comment.

    Args:
        report: What was found.
        checks: Criteria of the gate.
        output: Folder of report.html and of thumbnails, to link to.
        base: Folder that links start from.
    """
    verdict = report.verdict
    parts = [
        f"### {MARKS[verdict.tone]} Novum: {escaped(verdict.headline)}",
        f"**{escaped(one_number(report))}** {escaped(' '.join(verdict.sentences))}".strip(),
        _figures(report),
        _checks(checks),
        _pairs(report, output, base),
        _passages(report),
        _inputs(report),
    ]
    if output is not None:
        place = os.path.relpath(output / "report.html", base)
        parts.append(f"[The whole report]({link(place)})")
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(report: Report) -> str:
    beside = report.heldout is not None
    rows = []
    for figure in key_figures(report):
        share = describe(figure.name).share
        floor = UNKNOWN if figure.floor is None else number(figure.floor.value, share)
        cells = [figure.name, number(figure.value.value, share)] + [floor] * beside
        rows.append([*cells, figure.space])
    head = ["figure", "samples", *["held-out in their place"] * beside, "feature space"]
    return table(head, rows)


def _checks(checks: Sequence[Check]) -> str:
    rows = [
        ["passed" if check.passed else "**failed**", f"`{check.name}`", check.message]
        for check in checks
    ]
    return table(["gate", "criterion", "found"], rows, raw=(0, 1))


def _pairs(report: Report, output: Path | None, base: Path) -> str:
    pairs = named_pairs(report)
    if not pairs:
        return ""
    rows = []
    for i, pair in enumerate(pairs[:MOST_PAIRS], 1):
        picture = output / THUMBNAILS / f"{i}.png" if output is not None else None
        shown = ""
        if picture is not None and picture.is_file():
            shown = f"[sample and training image]({link(os.path.relpath(picture, base))})"
        rows.append([str(pair.sample), str(pair.train), pair.how, shown])
    head = ["sample", "training image", "how", "picture"]
    more = f"\n\n{len(pairs) - MOST_PAIRS:,} more are in report.json." * (len(pairs) > MOST_PAIRS)
    return _folded(f"{len(pairs):,} samples named as copies", table(head, rows, raw=[3]) + more)


def _passages(report: Report) -> str:
    copies = [p for p in report.passages if p.is_copy]
    rows = [
        [p.file, f"{p.file_offset:,}", f"{p.length:,}", f"{p.bits or 0:,.0f}", p.kind]
        for p in copies[:MOST_PAIRS]
    ]
    if not rows:
        return ""
    head = ["training text", "offset", "characters", "bits", "how"]
    return _folded(f"{len(copies):,} passages of the training text", table(head, rows))


def _inputs(report: Report) -> str:
    rows = [
        [name, side.path or "", f"{side.n or 0:,}", (side.fingerprint or "")[:SHORT]]
        for name, side in report.sides().items()
    ]
    made = report.made_by
    by = f"\n\nNovum {made.version}, code {made.code[:SHORT]}." if made else ""
    count = "characters" if report.of_text else "images"
    return _folded("Inputs", table(["set", "place", count, "sha256"], rows) + by)


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], raw: Collection[int] = ()) -> str:
    """A table in Markdown, '' without rows; columns in `raw` are Markdown themselves."""
    if not rows:
        return ""
    shown = [
        [cell if column in raw else escaped(cell) for column, cell in enumerate(row)]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *shown])


def escaped(text: str) -> str:
    """Text without a meaning in Markdown or HTML, on one line."""
    kept = " ".join(text.split())
    return "".join(f"&#{ord(c)};" if c in MEANT else c for c in kept if c.isprintable())


def link(place: str) -> str:
    """A place inside of the brackets of a link."""
    return quote(Path(place).as_posix())
