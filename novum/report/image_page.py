"""report.html of images and of training runs: what was measured, with pictures, on one page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from novum.metrics.record import Metric
from novum.metrics.registry import describe
from novum.report.boden import BodenView, boden_view, chart_of_report
from novum.report.exhibits import (
    Distributions,
    FactPair,
    NoveltyPanel,
    Reviews,
    Scatter,
    distribution_views,
    distributions_lead,
    panel_view,
    scatter_view,
)
from novum.report.figures import interval_chart
from novum.report.formatting import interval, number, set_facts
from novum.report.history import histories, history_view
from novum.report.known_items import InsideView, Known, inside_view
from novum.report.model import Estimate, Recall, Report
from novum.report.pictures import Pixels
from novum.report.rendering import render
from novum.report.reviews import DECISIONS

MOST_COPIES = 20  # listed on the page; report.json has all
SIDES = {"samples": "samples", "train": "training {}", "heldout": "held-out {}"}  # images, text
INTERVALS = (
    " Below a figure is its 95% interval, where one is known; the tag says which way is better."
)
NO_VERDICT = (
    "No figure here is a verdict: the one above rests on all of them together, and on what training"
    " images themselves show."
)


class Exhibits(NamedTuple):
    """Exhibits of the page beyond report.json."""

    samples: Pixels | None = None  # some ordinary ones
    facts: Sequence[FactPair] = ()
    panels: Sequence[NoveltyPanel] = ()
    scatters: Sequence[Scatter] = ()
    distributions: Sequence[Distributions] = ()
    known: Known | None = None  # from inside the model


NOTHING = Exhibits()


class MetricTable(NamedTuple):
    """A row for each metric, a cell for each feature space; None where it was not measured."""

    spaces: list[str]
    rows: list[tuple[Metric, list[Estimate | None]]]


def page(report: Report, exhibits: Exhibits = NOTHING) -> str:
    """Render the page; parts that were not measured are left out."""
    name = report.samples.path or ("Training run" if report.history else "Samples")
    novelty_lead, shares = _novelty(report)
    return render(
        "report.html",
        title=f"Novum report: {name}",
        name=name,
        report=report,
        known=_known(report),
        quality=metric_table(report, "quality"),
        quality_lead=_quality_lead(report),
        novelty=metric_table(report, "novelty"),
        novelty_lead=novelty_lead,
        shares_chart=shares,
        boden=boden(report),
        samples=exhibits.samples,
        facts=exhibits.facts,
        controls=_controls(report),
        audit=audit_rows(report),
        power=power_groups(report.power),
        panels=[panel_view(panel, decisions(report)) for panel in exhibits.panels],
        copies=_copies(report),
        reviewed=decisions(report),
        reviews=review_note(report),
        inside=inside(report, exhibits.known),
        scatters=[scatter_view(scatter) for scatter in exhibits.scatters],
        distributions=list(distribution_views(exhibits.distributions)),
        distributions_lead=distributions_lead(report, exhibits.distributions),
        history=[history_view(tag, {"": at}, report.of_text) for tag, at in histories(report)],
        **settings(report),
    )


def inside(report: Report, known: Known | None) -> InsideView | None:
    """Section of the model's losses, where they were measured."""
    membership = report.membership
    if membership is None or known is None:
        return None
    return inside_view(membership, known, report.verdict)


def boden(report: Report) -> BodenView | None:
    """Boden's chart of a report, if it has the figures."""
    chart = chart_of_report(report)
    return chart and boden_view(chart, "each evaluation" if chart.path else "all samples")


def audit_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """Images or documents read of each set, those left out, and equal ones."""
    overlap, rows = report.overlap, []
    items = "documents" if report.of_text else "images"
    pairs: dict[str, list[tuple[int | None, str]]] = {}
    if overlap is not None:
        pairs["heldout"] = [(overlap.train_heldout, f"training {items}")]
        pairs["samples"] = [
            (overlap.train_samples, f"training {items}"),
            (overlap.heldout_samples, f"held-out {items}"),
        ]
    for side, name in side_names(report).items():
        audit = report.audit.get(side)
        if audit is None:
            continue
        read = ", ".join(f"{n:,} of {size}" for size, n in audit.sizes.items())
        if audit.characters is not None:
            several = audit.files not in (None, audit.read)
            files = f", of {audit.files:,} files" if several else ""
            read = f"{audit.read:,}{files}; {audit.characters:,} characters"
        left = ", ".join(f"{n:,} {reason}" for reason, n in audit.left_out.items())
        equal = [f"{audit.duplicates:,} an earlier one"] if audit.duplicates else []
        equal += [f"{n:,} {what}" for n, what in pairs.get(side, []) if n]
        rows.append((name, read, left or "nothing", ", ".join(equal) or "none"))
    return rows


def power_groups(power: Sequence[Recall]) -> dict[str, list[Recall]]:
    """Recalls by the heading of their table."""
    groups: dict[str, list[Recall]] = {}
    for recall in power:
        heading = "Planted copies"
        if recall.library:
            heading = f"Edits of {recall.library}, which the detectors were not made for"
        elif not recall.tuned:
            heading = "Alterations that the search was not made for"
        groups.setdefault(heading, []).append(recall)
    return groups


def _controls(report: Report) -> list[tuple[str, str, str]]:
    """Copying that training images themselves show, for each space."""
    rows = []
    for name, control in report.negative_controls.items():
        most = max(control.excess, key=lambda e: abs(e.value or 0.0))
        ends = f" ({interval(most, share=True)})"
        rows.append((name, f"{number(most.value, share=True)}{ends}", number(control.p)))
    return rows


def side_names(report: Report) -> dict[str, str]:
    """Names of the sets that exist."""
    kind = "text" if report.of_text else "images"
    return {side: SIDES[side].format(kind) for side in report.sides()}


def _known(report: Report) -> list[str]:
    """Sizes of the sets and how far the generator was trained."""
    of, counted = ("characters of ", "characters") if report.of_text else ("", "images")
    sides = report.sides()
    known = [
        f"{sides[side].n:,} {of}{name}"
        for side, name in side_names(report).items()
        if sides[side].n is not None
    ]
    seen = report.samples.seen
    return known + ([f"generator after {seen:,} {counted}"] if seen else [])


def metric_table(report: Report, group: str) -> MetricTable:
    found: dict[str, dict[str, Estimate]] = {}
    for space, of, metric, estimate in report.estimates():
        if of == group:
            found.setdefault(metric, {})[space] = estimate
    spaces = [s for s in report.features if any(s in cells for cells in found.values())]
    rows = [(describe(m), [cells.get(s) for s in spaces]) for m, cells in found.items()]
    return MetricTable(spaces, rows)


def _quality_lead(report: Report) -> str:
    if report.of_text:
        return f"How varied the samples are, and held-out text beside them.{INTERVALS}"
    return f"How well the samples match the training images in each feature space.{INTERVALS}"


def _novelty(report: Report) -> tuple[str, str]:
    """Metric above the figures, and a chart of the shares closer to training if known."""
    if report.of_text:
        return "Held-out text is the measure of chance.", ""
    shares = {
        name: share
        for name, space in report.features.items()
        if (share := space.novelty.get("closer_to_train")) and share.value is not None
    }
    if not shares:
        lead = f"Held-out images are the measure of chance. {NO_VERDICT}"
        if report.heldout is None:
            lead = (
                "Facts aside, nothing here is calibrated without held-out images: nearness to"
                " training can be chance. Compare with another generator only."
            )
        return lead, ""
    label = "samples nearer to training than to held-out images"
    chart = interval_chart(shares, label, limits=around_half(shares), fair=0.5, share=True)
    return (
        "New samples fall nearer to training as often as to held-out images: 50%, like a fair coin."
        f" Copying moves that up, and so do held-out images of another kind. {NO_VERDICT}",
        chart,
    )


def around_half(shares: Mapping[str, Estimate]) -> tuple[float, float]:
    """Limits with 50% in the middle."""
    ends = [end for e in shares.values() for end in (e.low, e.value, e.high) if end is not None]
    reach = min(1.25 * max(0.04, *(abs(end - 0.5) for end in ends)), 0.5)
    return 0.5 - reach, 0.5 + reach


def _copies(report: Report) -> list[dict[str, str]]:
    """The surest copies as records of text."""
    copies, reviewed = report.copies or (), decisions(report)
    first = sorted(copies, key=lambda c: 1 if c.q is None else c.q)[:MOST_COPIES]
    fields = ("sample", "train", "q", "distance", "transform", "features")
    known = [f for f in fields if any(getattr(c, f) is not None for c in first)]
    words = [reviewed.get((copy.sample, copy.train)) for copy in first]
    return [
        {f: _entry(getattr(copy, f)) for f in known} | ({"reviewed": word} if word else {})
        for copy, word in zip(first, words, strict=True)
    ]


def decisions(report: Report) -> Reviews:
    """A person's words on pairs, by the names of sample and source."""
    return {(review.sample, review.train): review.decision for review in report.reviewed}


def review_note(report: Report) -> str:
    """Sentences on what a person has looked at, or where one can; empty if no pair is named."""
    counts = Counter(review.decision for review in report.reviewed)
    if counts:
        said = " and ".join(f"{counts[word]:,} {word}" for word in DECISIONS if counts[word])
        return (
            f"A person has looked at named pairs in TensorBoard's Novelty tab: {said}. No figure"
            " changes by it, since only named pairs are looked at."
        )
    redacted = report.made_by is not None and report.made_by.redacted
    if redacted or not (report.facts or report.copies or any(p.is_copy for p in report.passages)):
        return ""
    return (
        "This page cannot keep what you think of a pair. TensorBoard's Novelty tab can: give it"
        " this page's folder as --logdir and confirm or reject each; later reports show that."
    )


def _entry(value: str | float | None) -> str:
    return str(value) if isinstance(value, int) else number(value)


def settings(report: Report) -> dict[str, Any]:
    """Context of the last section: what was compared, in which spaces."""
    sides = report.sides()
    return {
        "sides": [
            {"set": name, **set_facts(sides[side], report.of_text)}
            for side, name in side_names(report).items()
        ],
        "spaces": {
            name: space.extractor
            for name, space in report.features.items()
            if space.extractor is not None
        },
    }
