"""Boden's chart: how new, how good and how typical is what generators make?

Creative is what is new, surprising and valuable (Boden, 2004). A program's results are judged by
their novelty, typicality and quality (Ritchie, 2007). Each is a figure of the report.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple, TypeGuard

from markupsafe import Markup

from novum.report.figures import (
    WIDTH,
    Axis,
    clean,
    frame,
    make_axis,
    room_beside,
    svg,
)
from novum.report.formatting import interval, listed, number
from novum.report.history import seen_at
from novum.report.model import Estimate, Report, Space
from novum.report.table import spaces_of_tags

UNUSUAL, TYPICAL = (0.5, 0.8), (1.25, 2.0)  # of held-out data's typicality: edges of the colours
COLOURS = (  # class of the page's style, of TensorBoard's picture, and in words
    ("t0", "#0b68c4", "far more unusual"),
    ("t1", "#5fa8e8", "more unusual"),
    ("t2", "#5b6470", "as held-out data"),
    ("t3", "#e58a3a", "more of the same"),
    ("t4", "#b84a00", "far more of the same"),
)
UNKNOWN = ("t5", "#ffffff", "typicality unknown")
LEAST_NOVELTY = 0.9  # the axis of novelty begins here, or lower
HELDOUT = "held-out data"
TAG = "novelty/boden"
DPI = 110
ROUNDING = 1e-6  # of shares


class Terms(NamedTuple):
    """Figures that stand for Boden's terms, in words."""

    novelty: str
    value: str
    typicality: str


IMAGES = Terms(
    "novelty: share of samples that copy no training image",
    "value: share of samples that look like real images",
    "density of training images around a sample, over that around a held-out image",
)
TEXTS = Terms(
    "novelty: share of samples that copy no training text",
    "value: share of 10-grams that training text has too",
    "likeness of samples to each other (self-BLEU), over that of held-out text",
)
HELDOUT_LEAD = (
    " The diamond is where held-out data itself lies: as new as anything, and as good as can be"
    " asked for."
)


class Place(NamedTuple):
    """Point of a generator, or of a checkpoint, in the chart."""

    name: str
    novelty: Estimate
    value: Estimate
    typicality: float | None  # over that of held-out data


class BodenChart(NamedTuple):
    """Places to draw, with those of held-out data."""

    places: list[Place]
    heldout: list[Place]
    terms: Terms
    space: str  # that value and typicality are of
    path: bool = False  # the places are checkpoints, in order


class BodenView(NamedTuple):
    """The chart for a page, and the same as a table."""

    space: str
    lead: str
    chart: Markup
    names: list[str]  # of the legend
    classes: list[str]
    headings: list[str]
    rows: list[list[str]]


def chart_of_report(report: Report) -> BodenChart | None:
    """Chart of a run's evaluations, or of the samples of one; None if figures are missing."""
    floors = {name: space.floor for name, space in report.features.items()}
    if path := chart_of_history(report.history, floors, report.of_text):
        return path
    return chart_of_reports({"samples": report})


def chart_of_reports(reports: Mapping[str, Report]) -> BodenChart | None:
    """Chart of one point for each report that has the figures; None if none has."""
    kinds = {report.of_text for report in reports.values()}
    if len(kinds) != 1:
        return None
    of_text = kinds.pop()
    space = _space(report.features for report in reports.values())
    places: list[Place] = []
    heldout: dict[Place, list[str]] = {}  # and whose it is
    for name, report in reports.items():
        rate = report.gate.copy_rate if report.gate else None
        if place := _place(name, report.features, space, of_text, rate):
            places.append(place)
            floor = report.features[space].floor if space in report.features else {}
            for there in _heldout(report.features, space, of_text, floor):
                heldout.setdefault(there, []).append(name)
    several = len(heldout) > 1
    named = [
        there._replace(name=f"{HELDOUT} of {listed(names)}") if several else there
        for there, names in heldout.items()
    ]
    return _chart(places, named, of_text, space)


def chart_of_history(
    history: Sequence[Mapping[str, float | None]],
    floors: Mapping[str, Mapping[str, Estimate]],
    of_text: bool,
) -> BodenChart | None:
    """Chart of a run's evaluations as a path; None if none has the figures.

    Args:
        history: Tag -> value, and what the model had seen, of each evaluation.
        floors: Figures of held-out data, by feature space.
    """
    rows = [(seen_at(row), spaces_of_tags(_known(row))) for row in history]
    space = _space(spaces for _, spaces in rows)
    floor, places, heldout = floors.get(space, {}), [], []
    for seen, spaces in rows:
        name = "" if seen is None else f"{seen:,.0f}"
        if place := _place(name, spaces, space, of_text, None, floor):
            places.append(place)
            heldout = _heldout(spaces, space, of_text, floor)
    chart = _chart(places, heldout, of_text, space)
    return chart and chart._replace(path=len(places) > 1)


def _known(row: Mapping[str, float | None]) -> dict[str, float]:
    """Figures of an evaluation that are numbers."""
    return {tag: value for tag, value in row.items() if value is not None and isfinite(value)}


def _chart(
    places: list[Place], heldout: list[Place], of_text: bool, space: str
) -> BodenChart | None:
    terms = TEXTS if of_text else IMAGES
    return BodenChart(places, heldout, terms, space) if places else None


def _space(features: Iterable[Mapping[str, Space]]) -> str:
    """The first of the spaces in which most know the value; of text, the verbatim reading."""
    counts: dict[str, int] = {}
    for spaces in features:
        for name, space in spaces.items():
            if {"precision", "novel_10grams"} & (space.quality.keys() | space.novelty.keys()):
                counts[name] = counts.get(name, 0) + 1
    return max(counts, key=lambda name: counts[name], default="")


def _place(
    name: str,
    features: Mapping[str, Space],
    space: str,
    of_text: bool,
    rate: Estimate | None,
    floor: Mapping[str, Estimate] | None = None,
) -> Place | None:
    """Point of what has these figures. `rate`: copy rate of all spaces together, where known."""
    own = features.get(space)
    if own is None:
        return None
    floor = own.floor if floor is None else floor
    rate = rate or _copy_rate(features)
    value = _rest(own.novelty.get("novel_10grams")) if of_text else own.quality.get("precision")
    novelty = _rest(rate)
    if not (_is_share(novelty) and _is_share(value)):
        return None
    return Place(name, novelty, value, _typicality(own, of_text, floor))


def _copy_rate(features: Mapping[str, Space]) -> Estimate | None:
    """The highest of all spaces: each sees copies that others do not."""
    known = (found.novelty.get("copy_rate") for found in features.values())
    rates = [rate for rate in known if rate is not None and rate.value is not None]
    return max(rates, key=lambda rate: rate.value or 0.0, default=None)


def _rest(share: Estimate | None) -> Estimate | None:
    """The share of the others."""
    if share is None or share.value is None:
        return None
    low, high = (None if end is None else 1 - end for end in (share.high, share.low))
    return Estimate(1 - share.value, low, high)


def _is_share(estimate: Estimate | None) -> TypeGuard[Estimate]:
    """True of a known share: a report from elsewhere may hold any number."""
    if estimate is None or estimate.value is None:
        return False
    ends = (estimate.low, estimate.value, estimate.high)
    return all(end is None or -ROUNDING <= end <= 1 + ROUNDING for end in ends)


def _typicality(own: Space, of_text: bool, floor: Mapping[str, Estimate]) -> float | None:
    if of_text:
        known = own.quality.get("self_bleu"), own.quality.get("self_bleu_heldout")
    else:
        known = own.quality.get("density"), floor.get("density")
    figure, usual = (None if x is None else x.value for x in known)
    return figure / usual if figure is not None and usual else None


def _heldout(
    features: Mapping[str, Space], space: str, of_text: bool, floor: Mapping[str, Estimate]
) -> list[Place]:
    """Place of held-out data, if that was measured."""
    value = floor.get("precision")
    if of_text:
        value = _rest(features[space].novelty.get("novel_10grams_heldout"))
    if not _is_share(value):
        return []
    return [Place(HELDOUT, Estimate(1.0), value, 1.0)]


def colour(typicality: float | None) -> tuple[str, str, str]:
    """Class, colour and words of a typicality."""
    if typicality is None:
        return UNKNOWN
    return COLOURS[sum(typicality > edge for edge in (*UNUSUAL, *TYPICAL))]


def _limits(chart: BodenChart) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ends of the axes of novelty, which ends at 100%, and of value, which begins at 0."""
    every = [*chart.places, *chart.heldout]
    low = min(LEAST_NOVELTY, *(end for place in every for end in _ends(place.novelty)))
    high = max(end for place in every for end in _ends(place.value))
    air = 0.04 * (1 - low)
    return (low - air, 1 + air), (0.0, max(1.06 * high, 0.1))


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    """Low end, value and high end; an end that is unknown is the value."""
    assert estimate.value is not None  # or it would be no place
    value, low, high = estimate.value, estimate.low, estimate.high
    return value if low is None else low, value, value if high is None else high


def boden_view(chart: BodenChart, each: str) -> BodenView:
    """The chart for a page. `each`: what a point stands for, `each report`."""
    used = [colour(place.typicality) for place in chart.places]
    shown = [known for known in (*COLOURS, UNKNOWN) if known in used]
    rows = [_row(place) for place in (*chart.places, *chart.heldout)]
    first = "Seen in training" if chart.path else ""
    return BodenView(
        chart.space,
        _lead(chart, each),
        _svg_chart(chart),
        [words for _, _, words in shown],
        [name for name, _, _ in shown],
        [first, "Novelty", "Value", "Typicality"],
        rows,
    )


def _lead(chart: BodenChart, each: str) -> str:
    line = " The line follows training, and ends in the ring." if chart.path else ""
    return (
        f"A point for {each}: farther right is newer, higher is better.{line}"
        f"{HELDOUT_LEAD if chart.heldout else ''} Colour is typicality, Boden's surprise turned"
        f" round: the {chart.terms.typicality}. Orange is more of the same than held-out data, blue"
        " more unusual. Bars are 95% intervals, where they are known."
    )


def _row(place: Place) -> list[str]:
    shares = []
    for estimate in (place.novelty, place.value):
        ends = interval(estimate, share=True)
        shares.append(f"{number(estimate.value, share=True)}{f' ({ends})' if ends else ''}")
    typicality = number(place.typicality)
    words = "" if place.typicality is None else f": {colour(place.typicality)[2]}"
    return [place.name, *shares, f"{typicality}{words}"]


def _svg_chart(chart: BodenChart) -> Markup:
    across, up = _limits(chart)
    y = make_axis(chart.terms.value, *up, 318, 12, share=True)
    x = make_axis(chart.terms.novelty, *across, room_beside(y) + 8, WIDTH - 16, share=True)
    x = x._replace(ticks=[tick for tick in x.ticks if tick[0] <= 1])
    parts = [frame(x, y)]
    parts += [_diamond(x, y, place) for place in chart.heldout]
    if chart.path:
        corners = " ".join(",".join(f"{at:.1f}" for at in _at(x, y, p)) for p in chart.places)
        parts.append(f'<polyline class="mass curve" points="{corners}"/>')
    parts += [_point(x, y, place) for place in chart.places]
    if chart.path:
        a, b = _at(x, y, chart.places[-1])
        parts.append(f'<circle class="mass ring" cx="{a:.1f}" cy="{b:.1f}" r="9"/>')
    named = [chart.places[0], chart.places[-1]] if chart.path else chart.places
    parts += [_label(x, y, place) for place in named]
    parts += [_label(x, y, place, below=bool(i % 2)) for i, place in enumerate(chart.heldout)]
    spoken = "; ".join(", ".join(_row(place)) for place in (*named, *chart.heldout))
    return svg(364, f"Value against novelty: {spoken}", *parts)


def _at(x: Axis, y: Axis, place: Place) -> tuple[float, float]:
    return float(x.at(place.novelty.value)), float(y.at(place.value.value))


def _diamond(x: Axis, y: Axis, place: Place) -> str:
    a, b = _at(x, y, place)
    corners = f"{a:.1f},{b - 8:.1f} {a + 8:.1f},{b:.1f} {a:.1f},{b + 8:.1f} {a - 8:.1f},{b:.1f}"
    return (
        f'<line class="fair" x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{b:.1f}" y2="{b:.1f}"/>'
        f'<polygon class="t2 diamond" points="{corners}"/>'
    )


def _point(x: Axis, y: Axis, place: Place) -> str:
    a, b = _at(x, y, place)
    name = colour(place.typicality)[0]
    left, _, right = (float(x.at(end)) for end in _ends(place.novelty))
    low, _, high = (float(y.at(end)) for end in _ends(place.value))
    return (
        f'<line class="{name} whisker" x1="{left:.1f}" x2="{right:.1f}" y1="{b:.1f}" y2="{b:.1f}"/>'
        f'<line class="{name} whisker" x1="{a:.1f}" x2="{a:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        f'<circle class="{name} spot" cx="{a:.1f}" cy="{b:.1f}" r="5.5"/>'
    )


def _label(x: Axis, y: Axis, place: Place, below: bool = False) -> str:
    """The name at the left of a place, or at its right where there is no room."""
    a, b = _at(x, y, place)
    right = a - x.start < 130
    where = f'x="{a + (13 if right else -13):.1f}" y="{b + (18 if below else -7):.1f}"'
    anchor = "start" if right else "end"
    return f'<text class="name" {where} text-anchor="{anchor}">{clean(place.name)}</text>'


def draw_boden(chart: BodenChart) -> bytes:
    """PNG of the chart, for TensorBoard."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(6, 4.6), layout="constrained")
    axes = figure.subplots()
    across, up = _limits(chart)
    axes.set(xlim=across, ylim=up, xlabel=chart.terms.novelty, ylabel=chart.terms.value)
    for one in (axes.xaxis, axes.yaxis):
        one.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    for place in chart.heldout:
        at = 1.0, _ends(place.value)[1]
        axes.axhline(at[1], color="black", linestyle="--", linewidth=0.8)
        axes.plot(*at, "D", color="white", markeredgecolor="black", markersize=9, label=HELDOUT)
    if chart.path:
        corners = [(place.novelty.value, place.value.value) for place in chart.places]
        axes.plot(*zip(*corners, strict=True), color="#5b6470", linewidth=1.2)
    for place in chart.places:
        _draw_place(axes, place)
    for place in [chart.places[0], chart.places[-1]] if chart.path else chart.places:
        at = place.novelty.value, place.value.value
        axes.annotate(place.name, at, (-8, 6), textcoords="offset points", ha="right", fontsize=8)
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(once.values(), once.keys(), fontsize=8, loc="lower left")
    axes.set_title(f"Value, novelty and typicality ({chart.space})", fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _draw_place(axes: Any, place: Place) -> None:
    """A point with its whiskers on axes of matplotlib."""
    _, fill, words = colour(place.typicality)
    across, up = _ends(place.novelty), _ends(place.value)
    axes.errorbar(
        across[1],
        up[1],
        xerr=[[across[1] - across[0]], [across[2] - across[1]]],
        yerr=[[up[1] - up[0]], [up[2] - up[1]]],
        fmt="o",
        color=fill if fill != UNKNOWN[1] else "#5b6470",
        markerfacecolor=fill,
        markeredgecolor="black",
        label=words,
    )
