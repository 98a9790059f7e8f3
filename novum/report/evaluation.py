"""The figures of a report: as a table, and as TensorBoard's scalars and back.

All of it reads the contents of report.json and nothing else.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from novum.core.errors import printable

BETTER = {
    "frechet_distance": "lower",
    "memorization_informed_frechet_distance": "lower; its tau is Inception's",
    "frechet_distance_infinity": "lower",
    "kernel_distance": "lower",
    "inception_score": "higher",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    "expected_coverage": "the ceiling",
    "sliced_wasserstein_distance": "lower",
    "vendi_score": "higher",
    "path_length_z_full": "lower",
    "path_length_z_end": "lower",
    "path_length_w_full": "lower; in w than in z",
    "path_length_w_end": "lower; in w than in z",
    "separability_z": "lower; 1 at best",
    "separability_w": "lower; in w than in z",
    "copy_rate": "0",
    "copies_at_least": "0",
    "copies_flagged": "0",
    "items_copied": "0",
    "longest_copy": "as in held-out text",
    "copies_found": "0",
    "copied_share": "as in held-out text",
    "novel_10grams": "as in held-out text",
    "self_bleu": "as in held-out text",
    "permutation_p": "not near 0",
    "closer_to_train": "0.5 is fair",
    "data_copying_ct": "not far below 0",
    "fld_gap": "not far below 0",
    "authenticity": "higher",
}
GROUPS = ("quality", "novelty")

Report = dict[str, Any]
Estimate = Mapping[str, Any]  # value, and low and high if known


def estimates(report: Report) -> Iterator[tuple[str, str, str, Estimate]]:
    """(space, group, metric, estimate) of everything measured."""
    for name, space in report["features"].items():
        for group in GROUPS:
            for metric, value in (space.get(group) or {}).items():
                yield name, group, metric, value if isinstance(value, dict) else {"value": value}


def scalars(report: Report) -> dict[str, float]:
    """Tag -> value; the ends of an interval are <metric>_low and <metric>_high."""
    tags = {}
    for space, group, metric, estimate in estimates(report):
        for end, value in estimate.items():
            name = metric if end == "value" else f"{metric}_{end}"
            if value is not None:
                tags[f"{group}/{name}/{space}"] = value
    return tags


def spaces_of_tags(tags: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """The `features` of a report from a run's tags: what `scalars` does, undone."""
    spaces: dict[str, dict[str, Any]] = {}
    for tag, value in tags.items():
        group, _, rest = tag.partition("/")
        metric, _, name = rest.partition("/")
        if group not in GROUPS:
            continue
        space = spaces.setdefault(name, {group: {} for group in GROUPS})
        whole, _, end = metric.rpartition("_")
        is_end = end in ("low", "high") and f"{group}/{whole}/{name}" in tags
        entry = space[group].setdefault(whole if is_end else metric, {})
        entry[end if is_end else "value"] = value
    for space in spaces.values():
        for metric, entry in space["novelty"].items():
            if len(entry) == 1:
                space["novelty"][metric] = entry["value"]
    return spaces


def metric_table(report: Report) -> Table:
    """A row for each metric, a column for each feature space."""
    spaces = list(report["features"])
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for space, group, metric, estimate in estimates(report):
        rows.setdefault((group, metric), {})[space] = _cell(estimate)
    table = Table(title=_title(report))
    table.add_column("metric", no_wrap=True)
    for space in spaces:
        table.add_column(Text(printable(space)), justify="right")  # brackets are no markup
    table.add_column("better")
    for group in GROUPS:
        for metric in (metric for g, metric in rows if g == group):
            cells = [rows[group, metric].get(space, "") for space in spaces]
            table.add_row(metric, *cells, BETTER.get(metric, ""))
        table.add_section()
    return table


def _cell(estimate: dict[str, float | None]) -> str:
    if estimate["value"] is None:
        return "-"
    text = f"{estimate['value']:.4g}"
    if estimate.get("low") is None:
        return text
    return f"{text} ({estimate['low']:.3g} to {estimate['high']:.3g})"


def _title(report: Report) -> str:
    sides = {"samples": "samples", "train": "training", "heldout": "held-out"}
    sets = [f"{report[side]['n']:,} {words}" for side, words in sides.items() if report[side]]
    return f"{listed(sets)} {report.get('kind', 'images')}"


def listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
