"""Two or more reports side by side, in the terminal and as one page."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import NamedTuple, TypeGuard

import numpy as np
from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from novum.core.errors import InputError
from novum.core.files import prepare_output, write_text
from novum.metrics.record import Metric
from novum.metrics.registry import describe
from novum.report.boden import BodenView, boden_view, chart_of_reports
from novum.report.figures import interval_chart
from novum.report.formatting import cost_facts, interval, number, plain, set_facts
from novum.report.history import HistoryView, histories, history_view
from novum.report.image_page import around_half
from novum.report.model import GROUPS, Estimate, Report
from novum.report.rendering import render
from novum.report.schema import read_report

Key = tuple[str, str, str]  # group, metric, feature space
Rows = dict[Key, list[Estimate | None]]  # one estimate for each report

NARROW = 320  # pixels of a chart among many
SIDES = {"samples": "samples", "train": "training data", "heldout": "held-out data"}
CHECKED = (
    ("samples", "n", "Different numbers of samples: Fréchet distance and coverage vary with them."),
    ("train", "fingerprint", "Different training data: no figure has the same reference."),
    ("heldout", "fingerprint", "Different held-out data: novelty has different references."),
)
CAUTION = (
    "A star marks the best of a row; where intervals are known, only if none overlaps with its own."
    " Without intervals a small difference may be chance."
)


def compare(paths: Sequence[Path], folder: Path) -> None:
    """Prints the reports side by side and writes compare.html."""
    prepare_output(folder)
    reports = read_reports(paths)
    console = Console(width=None if os.isatty(1) else 140, highlight=False)
    console.print(comparison_table(reports))
    for caution in mismatches(reports):
        console.print(f"Note: {plain(caution)}", markup=False)
    write_text(folder / "compare.html", comparison_page(reports))
    console.print(f"Report: {folder / 'compare.html'}", soft_wrap=True, markup=False)


def read_reports(paths: Sequence[Path]) -> dict[str, Report]:
    """The contents of report.json files by the names of their folders."""
    reports: dict[str, Report] = {}
    for path in paths:
        name = str(path.parent if path.name == "report.json" else path)
        if name in reports:
            raise InputError(f"{path} is given twice: compare two different reports")
        reports[name] = read_report(path)
    if len(reports) < 2:
        raise InputError(f"{len(reports)} reports to compare: give at least 2")
    if len(reports) > len(ascii_uppercase):
        raise InputError(f"{len(reports)} reports to compare: give at most {len(ascii_uppercase)}")
    return reports


def comparison_rows(reports: Mapping[str, Report]) -> Rows:
    """Every metric of every report, quality first."""
    found: dict[Key, dict[str, Estimate]] = {}
    for name, report in reports.items():
        for space, group, metric, estimate in report.estimates():
            found.setdefault((group, metric, space), {})[name] = estimate
    metrics = list(dict.fromkeys((group, metric) for group, metric, _ in found))
    ordered = sorted(found, key=lambda key: (GROUPS.index(key[0]), metrics.index(key[:2])))
    return {key: [found[key].get(name) for name in reports] for key in ordered}


def best(metric: str, row: Sequence[Estimate | None]) -> int | None:
    """The one that is better than all others beyond their intervals, if there is one."""
    sign = {"higher": 1, "lower": -1, None: 0}[describe(metric).direction]
    spans = {i: _span(e, sign) for i, e in enumerate(row) if sign and _known(e)}
    if len(spans) < 2:
        return None
    first = max(spans, key=lambda i: spans[i][0])
    others = [high for i, (_, high) in spans.items() if i != first]
    return first if spans[first][0] > max(others) else None


def _known(estimate: Estimate | None) -> TypeGuard[Estimate]:
    return estimate is not None and estimate.value is not None


def _span(estimate: Estimate, sign: int) -> tuple[float, float]:
    """Ends of an estimate's interval, as if higher were better."""
    signed = [sign * end for end in _ends(estimate)]
    return min(signed), max(signed)


def _ends(estimate: Estimate) -> list[float]:
    ends = (estimate.low, estimate.value, estimate.high)
    return [end for end in ends if end is not None]


def mismatches(reports: Mapping[str, Report]) -> list[str]:
    """Reasons why figures of these reports can differ, other than how good the samples are."""
    found = []
    if len({report.of_text for report in reports.values()}) > 1:
        found.append("Texts and images: no figure is of both.")
    for side, fact, words_ in CHECKED:
        values = [getattr(getattr(report, side), fact, None) for report in reports.values()]
        if len({value for value in values if value is not None}) > 1:
            found.append(words_)
    for name in dict.fromkeys(name for report in reports.values() for name in report.features):
        spaces = [r.features[name] for r in reports.values() if name in r.features]
        if len({space.extractor for space in spaces if space.extractor is not None}) > 1:
            found.append(f"{name} stands for different extractors, so its figures do not compare.")
    found += [
        f"{name} copies, and copies flatter its quality."
        for name, report in reports.items()
        if report.verdict.copying
    ]
    return found


def comparison_table(reports: Mapping[str, Report]) -> Table:
    """For the terminal: a row for each metric, a column for each report, the best with a star."""
    grid = Table(title=f"{len(reports)} reports")
    grid.add_column("metric", overflow="fold")
    grid.add_column("features", overflow="fold")
    for name in reports:
        grid.add_column(Text(plain(name), overflow="fold"), justify="right")
    grid.add_column("better")
    for group in GROUPS:
        for (of, metric, space), row in comparison_rows(reports).items():
            if of == group:
                cells = _terminal_cells(metric, row)
                grid.add_row(
                    Text(plain(metric)), Text(plain(space)), *cells, describe(metric).better
                )
        grid.add_section()
    return grid


def _terminal_cells(metric: str, row: Sequence[Estimate | None]) -> list[Text]:
    first, share = best(metric, row), describe(metric).share
    cells = []
    for i, estimate in enumerate(row):
        value = number(estimate.value, share) if estimate else ""
        ends = interval(estimate, share) if estimate else ""
        text = f"{value} ({ends})" if ends else value
        cells.append(Text(f"{text} *" if i == first else text, "bold" if i == first else ""))
    return cells


class FigureRow(NamedTuple):
    """One metric in one space, with a value for each report."""

    metric: Metric
    space: str
    values: list[Estimate | None]
    best: int | None
    explain: bool  # the first row of a metric says what it means


class FigureGroup(NamedTuple):
    name: str
    rows: list[FigureRow]


class ChartView(NamedTuple):
    metric: Metric
    space: str
    chart: Markup


def comparison_page(reports: Mapping[str, Report]) -> str:
    """Render verdicts, figures with the best marked, charts, and what each was measured on."""
    letters = dict(zip(reports, ascii_uppercase, strict=False))
    rows = comparison_rows(reports)
    return render(
        "compare.html",
        title=f"Novum: {len(reports)} reports compared",
        title_text=f"{len(reports)} reports compared",
        verdicts=[(letters[name], name, report.verdict) for name, report in reports.items()],
        mismatches=mismatches(reports),
        caution=CAUTION,
        letters=list(letters.values()),
        groups=[group for name in GROUPS if (group := _figures(name, rows)).rows],
        charts=list(_charts(rows, list(letters.values()))),
        boden=_boden(reports, letters),
        history=list(_histories(reports, letters)),
        records=_records(reports, letters),
    )


def _figures(group: str, rows: Rows) -> FigureGroup:
    explained: set[str] = set()
    found = []
    for (of, metric, space), row in rows.items():
        if of == group:
            first = metric not in explained
            found.append(FigureRow(describe(metric), space, row, best(metric, row), first))
            explained.add(metric)
    return FigureGroup(group, found)


def _charts(rows: Rows, letters: Sequence[str]) -> Iterator[ChartView]:
    """Yield a chart of each figure that two or more reports know."""
    for (_, metric, space), row in rows.items():
        known = {name: e for name, e in zip(letters, row, strict=True) if _known(e)}
        if len(known) < 2:
            continue
        named = describe(metric)
        fair = 0.5 if metric == "closer_to_train" else None
        chart = interval_chart(
            {name: known.get(name, Estimate(None)) for name in letters},
            named.title,
            limits=around_half(known) if fair else _from_zero(known.values()),
            fair=fair,
            share=named.share,
            width=NARROW,
        )
        yield ChartView(named, space, chart)


def _from_zero(known: Iterable[Estimate]) -> tuple[float, float]:
    """Limits that hold 0, so that lengths can be compared."""
    ends = [end for estimate in known for end in _ends(estimate)]
    low, high = min(0, *ends), max(0, *ends)
    air = 0.04 * (high - low)
    return low - air * (low < 0), high + air * (high > 0)


def _boden(reports: Mapping[str, Report], letters: Mapping[str, str]) -> BodenView | None:
    """Boden's chart with a point for each report."""
    chart = chart_of_reports({letters[name]: report for name, report in reports.items()})
    return chart and boden_view(chart, "each report")


def _histories(reports: Mapping[str, Report], letters: Mapping[str, str]) -> Iterator[HistoryView]:
    """Yield a chart for each figure that training followed."""
    followed = {letters[name]: dict(histories(report)) for name, report in reports.items()}
    tags = dict.fromkeys(tag for found in followed.values() for tag in found)
    texts = {letters[name] for name, report in reports.items() if report.of_text}
    for tag in tags:
        curves = {letter: found.get(tag, np.empty((0, 2))) for letter, found in followed.items()}
        yield history_view(tag, curves, any(len(curves[letter]) for letter in texts))


def _records(
    reports: Mapping[str, Report], letters: Mapping[str, str]
) -> list[tuple[str, list[dict[str, str]]]]:
    """Tables of what each report was made of, and of what it cost."""
    tables = []
    for side, title in SIDES.items():
        records = [
            {"report": letters[name], **set_facts(report.sides()[side], report.of_text)}
            for name, report in reports.items()
            if side in report.sides()
        ]
        tables.append((title.capitalize(), records))
    costs = [
        {"report": letters[name], **cost_facts(report.cost)}
        for name, report in reports.items()
        if report.cost is not None
    ]
    return [(title, records) for title, records in (*tables, ("Cost", costs)) if records]
