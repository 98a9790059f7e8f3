"""Figures of a training run's evaluations against what it had seen until then."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from novum.metrics.record import Metric
from novum.metrics.registry import describe
from novum.report.figures import line_chart
from novum.report.model import Report

LOSSES = {"loss": "loss", "val": "on held-out data"}
CHARTED = ("quality/", "novelty/", *(f"{group}/" for group in LOSSES))
AXES = ("images_seen", "tokens_seen", "global_step")


class HistoryView(NamedTuple):
    """A chart of one metric, with a curve for each name."""

    metric: Metric
    space: str
    names: list[str]
    chart: Markup


def histories(report: Report) -> Iterator[tuple[str, np.ndarray]]:
    """Yield a tag and its points (n, 2), images seen and value: quality, novelty and losses."""
    tags = dict.fromkeys(tag for row in report.history for tag in row if tag.startswith(CHARTED))
    for tag in tags:
        if not tag.split("/")[1].endswith(("_low", "_high")):
            points = [(seen_at(row), row.get(tag)) for row in report.history]
            known = [[x, y] for x, y in points if x is not None and y is not None]
            yield tag, np.array(known, float).reshape(-1, 2)


def seen_at(row: Mapping[str, float | None]) -> float | None:
    """Position of an evaluation on the x axis of its run."""
    return next((row[axis] for axis in AXES if axis in row), None)


def history_view(tag: str, curves: Mapping[str, np.ndarray], of_text: bool) -> HistoryView:
    """Chart of one metric against the images or characters seen."""
    group, metric, *rest = tag.split("/", 2)
    seen = f"training {'characters' if of_text else 'images'} seen"
    known = describe(metric)  # of a loss: its name
    chart = line_chart(curves, seen, known.title, known.share)
    return HistoryView(known, rest[0] if rest else LOSSES.get(group, ""), list(curves), chart)
