"""What evaluate.py found, in words, as a table and as TensorBoard's scalars.

All of it reads the contents of report.json and nothing else.
"""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

BETTER = {
    "frechet_distance": "lower",
    "memorization_informed_frechet_distance": "lower; its tau is Inception's",
    "kernel_distance": "lower",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    "vendi_score": "higher",
    "closer_to_train": "0.5 is fair",
    "data_copying_ct": "not far below 0",
    "authenticity": "higher",
}
IN_WORDS = {
    "frechet_distance": "Fréchet distance {:.4g}",
    "precision": "precision {:.0%}",
    "recall": "recall {:.0%}",
    "coverage": "coverage {:.0%}",
}

GROUPS = ("quality", "novelty")

Report = dict[str, Any]


def scalars(report: Report) -> dict[str, float]:
    """Tag -> value; the ends of an interval are <metric>_low and <metric>_high."""
    tags = {}
    for space, group, metric, estimate in _estimates(report):
        for end, value in estimate.items():
            name = metric if end == "value" else f"{metric}_{end}"
            if value is not None:
                tags[f"{group}/{name}/{space}"] = value
    return tags


def metric_table(report: Report) -> Table:
    """A row for each metric, a column for each feature space."""
    spaces = list(report["features"])
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for space, group, metric, estimate in _estimates(report):
        rows.setdefault((group, metric), {})[space] = _cell(estimate)
    table = Table(title=_title(report))
    table.add_column("metric", no_wrap=True)
    for space in spaces:
        table.add_column(space, justify="right")
    table.add_column("better")
    for group in GROUPS:
        for metric in (metric for g, metric in rows if g == group):
            cells = [rows[group, metric].get(space, "") for space in spaces]
            table.add_row(metric, *cells, BETTER.get(metric, ""))
        table.add_section()
    return table


def spaces_with_copying(report: Report) -> list[str]:
    """Feature spaces in which more samples are closer to training than chance allows."""
    return [name for name, share in _shares(report).items() if share["low"] > 0.5]


def verdict(report: Report) -> str:
    """Is it copying, is it good, and what could not be said."""
    novelty = _novelty_verdict(report) if report["heldout"] else _uncalibrated_verdict(report)
    return f"{novelty} {_quality_verdict(report)}"


def _novelty_verdict(report: Report) -> str:
    shares = _shares(report)
    copied = spaces_with_copying(report)
    if copied:
        return (
            f"Copying found: {_named(shares, copied)} (if held-out images are as like the training"
            " images as these are to one another)."
        )
    reverse = [name for name, share in shares.items() if share["high"] < 0.5]
    if reverse:
        return (
            f"Doubtful held-out images: {_named(shares, reverse)}. Samples lie nearer to held-out"
            " than to training images; is it another kind of data, or was it trained on?"
        )
    # A share c of copies raises a fair coin by c / 2, and the interval reaches as far below it.
    # Training is cut into folds of the held-out set's size, and a copy shows in one of them.
    train, heldout = report["train"]["n"], report["heldout"]["n"]
    folds = max(train / heldout, 1)
    unseen = min(folds * min(share["high"] - share["low"] for share in shares.values()), 1)
    return (
        f"No sign of copying: {_named(shares, list(shares))}. Copies would not show if they were"
        f" fewer than about {float(f'{100 * unseen:.1g}'):g}% of the samples."
    )


def _named(shares: dict[str, dict[str, float]], spaces: list[str]) -> str:
    """The shares in these spaces, in words."""
    words = [
        f"{shares[name]['value']:.1%} in {name} (95%: {shares[name]['low']:.1%} to"
        f" {shares[name]['high']:.1%})"
        for name in spaces
    ]
    return (
        f"{_listed(words)} of the samples are closer to training than to held-out images, where"
        " 50% is fair"
    )


def _uncalibrated_verdict(report: Report) -> str:
    values = [
        f"{space['novelty']['authenticity']:.0%} in {name}"
        for name, space in report["features"].items()
        if space["novelty"].get("authenticity") is not None
    ]
    told = f" (authenticity, uncalibrated: {_listed(values)})" if values else ""
    return (
        "Copying was not judged: without held-out images nearness to training cannot be told"
        f" from chance{told}."
    )


def _quality_verdict(report: Report) -> str:
    name, space = next(iter(report["features"].items()))
    known = {metric: estimate["value"] for metric, estimate in space["quality"].items()}
    words = [
        text.format(known[metric])
        for metric, text in IN_WORDS.items()
        if known.get(metric) is not None
    ]
    if not words:
        return f"Quality was not judged: {report['samples']['n']} samples are too few."
    return f"Quality of {report['samples']['n']:,} samples in {name}: {', '.join(words)}."


def _shares(report: Report) -> dict[str, dict[str, float]]:
    found = {name: space["novelty"] for name, space in report["features"].items()}
    return {name: n["closer_to_train"] for name, n in found.items() if "closer_to_train" in n}


def _estimates(report: Report) -> Iterator[tuple[str, str, str, dict[str, float | None]]]:
    """(space, group, metric, estimate) of everything measured."""
    for name, space in report["features"].items():
        for group in GROUPS:
            for metric, value in space[group].items():
                yield name, group, metric, value if isinstance(value, dict) else {"value": value}


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
    return f"{_listed(sets)} images"


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
