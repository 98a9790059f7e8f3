"""What training followed: each evaluation's figures against what it had seen until then."""

from collections.abc import Mapping

import numpy as np

from novum.report.document import clean, legend, words
from novum.report.evaluation import Report
from novum.report.figures import line_chart


def histories(report: Report) -> dict[str, np.ndarray]:
    """Tag -> (images seen, value) of a training run's quality, and of what it copies."""
    rows = report.get("history") or []
    tags = dict.fromkeys(
        tag for row in rows for tag in row if tag.startswith(("quality/", "novelty/"))
    )
    return {
        tag: np.array(
            [[_seen(r), r[tag]] for r in rows if r.get(tag) is not None and _seen(r) is not None],
            float,
        ).reshape(-1, 2)
        for tag in tags
        if tag.count("/") > 1 and not tag.split("/")[1].endswith(("_low", "_high"))
    }


def _seen(row: dict[str, float]) -> float | None:
    """Where an evaluation stands on the x axis of its run."""
    axes = ("images_seen", "tokens_seen", "global_step")
    return next((row[axis] for axis in axes if axis in row), None)


def history_figure(tag: str, curves: Mapping[str, np.ndarray], text: bool) -> str:
    """One metric against the images or characters seen, a curve for each name."""
    _, metric, space = tag.split("/", 2)
    title, _, share = words(metric)
    names = legend(curves) if len(curves) > 1 else ""
    seen = f"training {'characters' if text else 'images'} seen"
    chart = line_chart(curves, seen, title, share)
    heading = f"<figcaption><b>{clean(title)}</b> {clean(space)}</figcaption>"
    return f"<figure>{heading}{names}{chart}</figure>"
