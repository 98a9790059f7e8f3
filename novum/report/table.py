"""Figures of a report: as a table, and as TensorBoard scalars and back."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from novum.core.errors import printable
from novum.metrics.registry import describe
from novum.report.formatting import listed
from novum.report.model import GROUPS, Estimate, Report, Space


def scalars(features: Mapping[str, Space]) -> dict[str, float]:
    """Figures by TensorBoard tag; the ends of an interval are <metric>_low and <metric>_high."""
    tags = {}
    for name, space in features.items():
        for group in GROUPS:
            for metric, estimate in space.group(group).items():
                ends = {"": estimate.value, "_low": estimate.low, "_high": estimate.high}
                for end, value in ends.items():
                    if value is not None:
                        tags[f"{group}/{metric}{end}/{name}"] = value
    return tags


def spaces_of_tags(tags: Mapping[str, float]) -> dict[str, Space]:
    """Figures of a report from a run's tags: the inverse of `scalars`."""
    spaces: dict[str, Space] = {}
    for tag, value in tags.items():
        group, _, rest = tag.partition("/")
        metric, _, name = rest.partition("/")
        whole, _, end = metric.rpartition("_")
        if group not in GROUPS or (end in ("low", "high") and f"{group}/{whole}/{name}" in tags):
            continue
        low, high = (tags.get(f"{group}/{metric}_{end}/{name}") for end in ("low", "high"))
        space = spaces.setdefault(name, Space())
        space.group(group)[metric] = Estimate(value, low, high)
    return spaces


def metric_tables(report: Report, width: int) -> Iterator[Table]:
    """The table of all spaces, or of each space alone where it would not fit."""
    whole = metric_table(report)
    if Console(width=1000).measure(whole).minimum <= width or len(report.features) < 2:
        yield whole
        return
    for space in report.features:
        yield metric_table(report, [space], better=False)


def metric_table(report: Report, spaces: Sequence[str] = (), better: bool = True) -> Table:
    """A row for each metric, a column for each feature space, all if none are named."""
    spaces = list(spaces or report.features)
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for space, group, metric, estimate in report.estimates():
        if space not in spaces:
            continue
        rows.setdefault((group, metric), {})[space] = _cell(estimate)
    table = Table(title=_title(report))
    table.add_column("metric", no_wrap=True)
    for space in spaces:
        table.add_column(
            Text(printable(space)), justify="right", overflow="fold"
        )  # brackets are no markup
    if better:
        table.add_column("better")
    for group in GROUPS:
        for metric in (metric for g, metric in rows if g == group):
            cells = [rows[group, metric].get(space, "") for space in spaces]
            table.add_row(metric, *cells, *[describe(metric).better] * better)
        table.add_section()
    return table


def _cell(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    text = f"{estimate.value:.4g}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({estimate.low:.3g} to {estimate.high:.3g})"


def _title(report: Report) -> str:
    names = {"samples": "samples", "train": "training", "heldout": "held-out"}
    sides = [f"{side.n or 0:,} {names[name]}" for name, side in report.sides().items()]
    return f"{listed(sides)} {'text' if report.of_text else 'images'}"
