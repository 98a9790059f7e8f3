"""report.json and the pictures that go with it as one page to attach to a pull request."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from novum.report.document import (
    clean,
    definitions,
    described,
    document,
    estimate_cell,
    interval,
    metric_heading,
    number,
    section,
    spent,
    table,
)
from novum.report.evaluation import Report, estimates
from novum.report.evidence import (
    Distributions,
    NoveltyPanel,
    Scatter,
    distributions_section,
    panel_section,
    scatter_section,
)
from novum.report.figures import interval_chart, share_bar, shorten
from novum.report.history import histories, history_figure

MOST_COPIES = 20  # listed on the page; report.json has all
SIDES = {"samples": "samples", "train": "training {}", "heldout": "held-out {}"}  # images, text
COLUMNS = {"q": "q", "n": "Images", "train": "Training item"}  # others go by their key
# the colour follows the words, so the two never disagree; the gravest comes first
TONES = {
    r"^copying found": "copying",
    r"^doubtful held-out|^samples lean|^verbatim passages|differs? in kind from": "doubtful",
    r"^copying was not judged": "unjudged",
    r"^no copying found": "clear",
}
TITLES = {  # where the verdict does not open with one
    "clear": "No copying found",
    "copying": "Copying found",
    "doubtful": "Doubtful",
    "unjudged": "Verdict",
}
ICONS = {  # strokes in a circle of radius 16
    "clear": "M9 17l5 5 9-11",
    "copying": "M11 11l10 10M21 11L11 21",
    "doubtful": "M16 8v10M16 23.5v.1",
    "unjudged": "M10 16h12",
}


class Evidence(NamedTuple):
    """What the page shows beyond report.json."""

    panels: Sequence[NoveltyPanel] = ()
    scatters: Sequence[Scatter] = ()
    distributions: Sequence[Distributions] = ()


NOTHING = Evidence()


def page(report: Report, evidence: Evidence = NOTHING) -> str:
    """The whole page; parts that were not measured are left out."""
    parts = [
        heading(report),
        banner(report),
        _quality(report),
        _novelty(report),
        *(panel_section(panel) for panel in evidence.panels),
        _copies(report),
        *(scatter_section(scatter) for scatter in evidence.scatters),
        _power(report),
        distributions_section(report, evidence.distributions),
        _history(report),
        _notes(report),
        _settings(report),
    ]
    return document(f"Novum report: {_name(report)}", "".join(parts))


def _name(report: Report) -> str:
    unnamed = "Training run" if report.get("history") else "Samples"
    return str((report.get("samples") or {}).get("path", unnamed))


def of_text(report: Report) -> bool:
    return report.get("kind") == "text"


def _sides(report: Report) -> dict[str, str]:
    """What each set is called, of those that there are."""
    kind = "text" if of_text(report) else "images"
    return {side: words.format(kind) for side, words in SIDES.items() if report.get(side)}


def heading(report: Report) -> str:
    of, counted = ("characters of ", "characters") if of_text(report) else ("", "images")
    known = [
        f"{report[side]['n']:,} {of}{words}"
        for side, words in _sides(report).items()
        if "n" in report[side]
    ]
    samples = report.get("samples") or {}
    seen = samples.get("images_seen") or samples.get("tokens_seen")
    known += [f"generator after {seen:,} {counted}"] if seen else []
    return (
        f"<header><h1>{clean(_name(report))}</h1>"
        f'<p class="soft">Are these samples good, and are they new? {clean(", ".join(known))}</p>'
        "</header>"
    )


def tone(verdict: str) -> str:
    """clear, copying, doubtful or unjudged."""
    said = verdict.lower()
    return next((name for words, name in TONES.items() if re.search(words, said)), "unjudged")


def icon(name: str) -> str:
    return (
        f'<svg viewBox="0 0 32 32" aria-hidden="true"><circle cx="16" cy="16" r="16"/>'
        f'<path d="{ICONS[name]}"/></svg>'
    )


def banner(report: Report, name: str = "") -> str:
    """The verdict: its first words large after the name, the rest below sentence by sentence."""
    found = tone(report["verdict"])
    title, colon, rest = report["verdict"].partition(": ")
    if not colon or len(title) > 40:
        title, rest = TITLES[found], report["verdict"]
    sentences = re.split(r"(?<=\.) (?=[A-Z])", rest[:1].upper() + rest[1:])
    text = "".join(f"<p>{clean(sentence)}</p>" for sentence in sentences)
    heading = f"<h2>{clean(name)}{clean(title)}</h2>"
    return f'<div class="banner {found}">{icon(found)}<div>{heading}{text}</div></div>'


def metric_table(report: Report, group: str) -> str:
    """A row for each metric, a column for each feature space; empty where nothing was measured."""
    rows: dict[str, dict[str, str]] = {}
    for space, of, metric, estimate in estimates(report):
        if of == group:
            rows.setdefault(metric, {})[space] = estimate_cell(metric, estimate)
    spaces = [s for s in report["features"] if any(s in cells for cells in rows.values())]
    body = [[metric_heading(m), *(cells.get(s, "") for s in spaces)] for m, cells in rows.items()]
    return (
        table(["Metric", *(clean(shorten(s, 24)) for s in spaces)], body, len(spaces))
        if rows
        else ""
    )


def _quality(report: Report) -> str:
    figures = metric_table(report, "quality")
    lead = (
        "How varied the samples are, and held-out text beside them."
        if of_text(report)
        else "How well the samples match the training images in each feature space."
    ) + " Below a figure is its 95% interval, where one is known; the tag says which way is better."
    return section("Quality", lead, figures) if figures else ""


def _novelty(report: Report) -> str:
    figures = metric_table(report, "novelty")
    if not figures:
        return ""
    if of_text(report):
        lead = "Held-out text, which nobody has copied, is the measure of chance."
        return section("Novelty", lead, figures)
    shares = {
        space: estimate
        for space, _, metric, estimate in estimates(report)
        if metric == "closer_to_train" and estimate.get("value") is not None
    }
    if not shares:
        lead = (
            "Without held-out images nothing here is calibrated: nearness to training can be"
            " chance. Compare with another generator only."
        )
        return section("Novelty", lead, figures)
    lead = (
        "New samples fall nearer to training as often as to held-out images: 50%, like a fair coin."
        " An interval wholly in the shaded half means copying."
    )
    label = "samples nearer to training than to held-out images"
    chart = interval_chart(shares, label, limits=around_half(shares), fair=0.5, share=True)
    beside = f'<div class="split gap"><p class="lead">{lead}</p><figure>{chart}</figure></div>'
    return section("Novelty", "", beside, figures)


def around_half(shares: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """Limits with 50% in the middle."""
    ends = [e[k] for e in shares.values() for k in ("low", "value", "high") if e.get(k) is not None]
    reach = min(1.25 * max(0.04, *(abs(v - 0.5) for v in ends)), 0.5)
    return 0.5 - reach, 0.5 + reach


def _copies(report: Report) -> str:
    copies = report.get("copies")
    if copies is None:
        return ""
    if not copies:
        return section("Copies", "", "<p>No sample was flagged as a copy of a training item.</p>")
    lead = (
        f"{len(copies):,} flagged, the surest first. If all with a q up to some value are called"
        " copies, about that share is called so in error."
    )
    first = sorted(copies, key=lambda c: 1 if c.get("q") is None else c["q"])[:MOST_COPIES]
    more = len(copies) - len(first)
    rest = f'<p class="soft">{more:,} more are in report.json.</p>' if more else ""
    records = [
        {k: str(v) if isinstance(v, int) else number(v) for k, v in c.items()} for c in first
    ]
    return section("Copies", lead, record_table(records), rest)


def record_table(records: Sequence[Mapping[str, str]]) -> str:
    """A row for each record, a column for each key that any of them has."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    rows = [[clean(record.get(key, "")) for key in keys] for record in records]
    headings = [COLUMNS.get(k) or k.replace("_", " ").capitalize() for k in keys]
    return table([clean(heading) for heading in headings], rows, kind="wide fit")


def _power(report: Report) -> str:
    """What would have been found, had it been there."""
    if not report.get("power"):
        return ""
    lead = (
        "What this evaluation can see: training images were altered in these ways, planted among"
        " the samples and searched for. Where recall is low, a clean verdict says little."
    )
    rows = [
        [
            clean(" · ".join(str(v) for v in attack.values() if isinstance(v, str))),
            share_bar({**attack, "value": attack.get("recall")}),
            number(attack.get("recall"), share=True)
            + f"<small>{clean(interval(attack, share=True))}</small>",
        ]
        for attack in report["power"]
    ]
    headings = ["Planted copies", "From 0 to 100%", "Recall, 95% interval"]
    return section("Power of the copy test", lead, table(headings, rows, 1, "wide fit"))


def _history(report: Report) -> str:
    curves = histories(report).items()
    charts = "".join(history_figure(tag, {"": at}, of_text(report)) for tag, at in curves)
    lead = "Each evaluation during training."
    return section("During training", lead, f'<div class="charts">{charts}</div>') if charts else ""


def _notes(report: Report) -> str:
    notes = "".join(f"<li>{clean(note)}</li>" for note in report.get("notes") or ())
    lead = "What was changed or left out on the way."
    return section("Notes", lead, f"<ul>{notes}</ul>") if notes else ""


def _settings(report: Report) -> str:
    sides = [{"set": words, **described(report[side])} for side, words in _sides(report).items()]
    spaces = {
        name: space["extractor"]
        for name, space in report["features"].items()
        if "extractor" in space
    }
    parts = [record_table(sides)] if sides else []
    for title, entries in (
        ("Feature spaces", spaces),
        ("Settings", report.get("settings") or {}),
        ("Cost", spent(report.get("cost") or {})),
    ):
        parts += [f"<h3>{title}</h3>{definitions(entries)}"] if entries else []
    equal = "texts, to the last character" if of_text(report) else "images, to the last pixel"
    lead = f"What was compared and how: equal fingerprints are equal {equal}."
    return section("Settings and cost", lead, *parts)
