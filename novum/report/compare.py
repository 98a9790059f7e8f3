"""Two or more reports side by side, in the terminal and as one page."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from novum.core.errors import InputError
from novum.report.document import (
    clean,
    described,
    document,
    estimate_cell,
    interval,
    metric_heading,
    number,
    plain,
    section,
    spent,
    table,
    words,
)
from novum.report.evaluation import BETTER, GROUPS, Estimate, Report, estimates
from novum.report.figures import interval_chart
from novum.report.files import prepare_output, write_text
from novum.report.history import histories, history_figure
from novum.report.html import (
    around_half,
    banner,
    of_text,
    record_table,
    tone,
)
from novum.report.reading import read_report

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
        for space, group, metric, estimate in estimates(report):
            found.setdefault((group, metric, space), {})[name] = estimate
    metrics = list(dict.fromkeys((group, metric) for group, metric, _ in found))
    ordered = sorted(found, key=lambda key: (GROUPS.index(key[0]), metrics.index(key[:2])))
    return {key: [found[key].get(name) for name in reports] for key in ordered}


def best(metric: str, row: Sequence[Estimate | None]) -> int | None:
    """The one that is better than all others beyond their intervals, if there is one."""
    sign = {"higher": 1, "lower": -1}.get(BETTER.get(metric, "").split(";")[0])
    spans = {
        i: _span(e, sign) for i, e in enumerate(row) if sign and e and e.get("value") is not None
    }
    if len(spans) < 2:
        return None
    first = max(spans, key=lambda i: spans[i][0])
    others = [high for i, (_, high) in spans.items() if i != first]
    return first if spans[first][0] > max(others) else None


def _span(estimate: Estimate, sign: int) -> tuple[float, float]:
    """The ends of an estimate's interval, as if higher were better."""
    ends = [estimate["value"], estimate.get("low"), estimate.get("high")]
    signed = [sign * end for end in ends if end is not None]
    return min(signed), max(signed)


def mismatches(reports: Mapping[str, Report]) -> list[str]:
    """Why figures of these reports can differ, other than by how good the samples are."""
    found = []
    if len({of_text(report) for report in reports.values()}) > 1:
        found.append("Texts and images: no figure is of both.")
    for side, fact, words_ in CHECKED:
        values = [(report.get(side) or {}).get(fact) for report in reports.values()]
        if len({value for value in values if value is not None}) > 1:
            found.append(words_)
    for name in dict.fromkeys(name for report in reports.values() for name in report["features"]):
        spaces = [r["features"][name] for r in reports.values() if name in r["features"]]
        if len({space["extractor"] for space in spaces if "extractor" in space}) > 1:
            found.append(f"{name} stands for different extractors, so its figures do not compare.")
    found += [
        f"{name} copies, and copies flatter its quality."
        for name, report in reports.items()
        if tone(report["verdict"]) == "copying"
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
                    Text(plain(metric)), Text(plain(space)), *cells, BETTER.get(metric, "")
                )
        grid.add_section()
    return grid


def _terminal_cells(metric: str, row: Sequence[Estimate | None]) -> list[Text]:
    first, share = best(metric, row), words(metric).share
    cells = []
    for i, estimate in enumerate(row):
        value = number(estimate.get("value"), share) if estimate else ""
        ends = interval(estimate, share) if estimate else ""
        text = f"{value} ({ends})" if ends else value
        cells.append(Text(f"{text} *" if i == first else text, "bold" if i == first else ""))
    return cells


def comparison_page(reports: Mapping[str, Report]) -> str:
    """Verdicts, figures with the best marked, charts, and what each was measured on."""
    letters = dict(zip(reports, ascii_uppercase, strict=False))
    rows = comparison_rows(reports)
    parts = [
        f"<header><h1>{len(reports)} reports compared</h1></header>",
        *(banner(report, f"{letters[name]} · {name}: ") for name, report in reports.items()),
        _mismatches(reports),
        *(_figures(group, rows, letters) for group in GROUPS),
        _charts(rows, letters),
        _histories(reports, letters),
        _settings(reports, letters),
    ]
    return document(f"Novum: {len(reports)} reports compared", "".join(parts))


def _mismatches(reports: Mapping[str, Report]) -> str:
    items = "".join(f"<li>{clean(text)}</li>" for text in mismatches(reports))
    lead = "Figures can differ for other reasons than how good the samples are."
    return section("Compare with care", lead, f"<ul>{items}</ul>") if items else ""


def _figures(group: str, rows: Rows, letters: Mapping[str, str]) -> str:
    """The table of one group; empty where nothing was measured."""
    body: list[list[str]] = []
    explained = set()
    for (of, metric, space), row in rows.items():
        if of == group:
            first = best(metric, row)
            cells = [
                f'<span class="best">{cell}</span>' if i == first else cell
                for i, cell in enumerate(estimate_cell(metric, estimate) for estimate in row)
            ]
            heading = metric_heading(metric, f"in {space}", metric not in explained)
            explained.add(metric)
            body.append([heading, *cells])
    headings = ["Metric", *letters.values()]
    figures = table(headings, body, len(letters))
    return section(group.capitalize(), CAUTION, figures) if body else ""


def _charts(rows: Rows, letters: Mapping[str, str]) -> str:
    charts = "".join(
        _chart(metric, space, dict(zip(letters.values(), row, strict=True)))
        for (_, metric, space), row in rows.items()
    )
    lead = "The same figures as dots, with their 95% intervals where they are known."
    charts = f'<div class="charts small">{charts}</div>' if charts else ""
    return section("Side by side", lead, charts) if charts else ""


def _chart(metric: str, space: str, row: Mapping[str, Estimate | None]) -> str:
    """Empty where fewer than two reports know the figure."""
    known = {name: e for name, e in row.items() if e and _is_number(e.get("value"))}
    if len(known) < 2:
        return ""
    title, _, share = words(metric)
    fair = 0.5 if metric == "closer_to_train" else None
    chart = interval_chart(
        {name: known.get(name, {}) for name in row},
        title,
        limits=around_half(known) if fair else _from_zero(known.values()),
        fair=fair,
        share=share,
        width=NARROW,
    )
    heading = f"<figcaption>{metric_heading(metric, explain=False)} {clean(space)}</figcaption>"
    return f"<figure>{heading}{chart}</figure>"


def _from_zero(known: Iterable[Estimate]) -> tuple[float, float]:
    """Limits that hold 0, so that lengths can be compared."""
    ends = [e[k] for e in known for k in ("low", "value", "high") if e.get(k) is not None]
    low, high = min(0, *ends), max(0, *ends)
    air = 0.04 * (high - low)
    return low - air * (low < 0), high + air * (high > 0)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _histories(reports: Mapping[str, Report], letters: Mapping[str, str]) -> str:
    """A chart for each figure that training followed."""
    followed = {letters[name]: histories(report) for name, report in reports.items()}
    tags = dict.fromkeys(tag for found in followed.values() for tag in found)
    none = np.empty((0, 2))
    texts = {letters[name] for name, report in reports.items() if of_text(report)}
    charts = ""
    for tag in tags:
        curves = {letter: found.get(tag, none) for letter, found in followed.items()}
        charts += history_figure(tag, curves, any(len(curves[letter]) for letter in texts))
    lead = "Each evaluation during training, for the reports of training runs."
    return section("During training", lead, f'<div class="charts">{charts}</div>') if charts else ""


def _settings(reports: Mapping[str, Report], letters: Mapping[str, str]) -> str:
    parts = []
    for side, words_ in SIDES.items():
        records = [
            {"report": letters[name], **described(report[side])}
            for name, report in reports.items()
            if report.get(side)
        ]
        parts += [f"<h3>{words_.capitalize()}</h3>{record_table(records)}"] if records else []
    costs = [
        {"report": letters[name], **spent(report["cost"])}
        for name, report in reports.items()
        if report.get("cost")
    ]
    parts += [f"<h3>Cost</h3>{record_table(costs)}"] if costs else []
    lead = "What each report was made of: equal fingerprints are equal data, to the last bit."
    return section("Settings and cost", lead, *parts) if parts else ""
