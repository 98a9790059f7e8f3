"""A report as the model card of a hub: Markdown with the YAML header that hubs read."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from novum.core.errors import printable
from novum.metrics.registry import describe
from novum.report.formatting import UNKNOWN, interval, listed, number
from novum.report.markdown import MARKS, escaped, table
from novum.report.model import Estimate, Report
from novum.report.short_answer import key_figures, one_number

HUB = "hf://datasets/"  # places of data sets that have a name on the hub
LEAST_POWER = 0.8  # recall below which an alteration of copies is named as a limit
LIMITS = (
    "Copies of images that were not in the training set given cannot be found; nor is anything said"
    " of licences, of bias, or of what the model makes when it is steered.",
    "Distances belong to their feature space, resizer and number of samples: compare them with"
    " figures of the same kind alone.",
)


def model_card(report: Report, name: str, origin: Mapping[str, str] | None = None) -> str:
    """The card.

    Args:
        report: What was found.
        name: Of the model.
        origin: Facts about the model's file.
    """
    parts = [
        f"# {escaped(name)}",
        _verdict(report),
        _section("What it makes, measured", _figures(report)),
        _section("Data", _data(report)),
        _section("The model", _origin(report, origin or {})),
        _section("Limits", "\n".join(f"- {escaped(line)}" for line in _limits(report))),
        _section("How this was made", _made_by(report)),
    ]
    return "\n\n".join([_header(report, name), *(part for part in parts if part)]) + "\n"


def _header(report: Report, name: str) -> str:
    task = "text-generation" if report.of_text else "unconditional-image-generation"
    train = _place(report.train.path, report)
    known = [train.removeprefix(HUB)] if train.startswith(HUB) else []
    metrics = [
        {
            "type": figure.name,
            "name": f"{figure.name} ({figure.space})",
            "value": figure.value.value,
        }
        for figure in key_figures(report)
    ]
    finding = {"type": "novum_finding", "name": "copying", "value": str(report.finding)}
    result = {
        "task": {"type": task},
        "dataset": {
            "type": known[0] if known else "local",
            "name": _plain(train),
        },
        "metrics": [finding, *metrics],
    }
    header: dict[str, Any] = {
        "library_name": "novum",
        "pipeline_tag": task,
        "tags": ["novum", "evaluated-for-copying"],
        **({"datasets": known} if known else {}),
        "model-index": [{"name": _plain(name), "results": [result]}],
    }
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---"


def _plain(text: str) -> str:
    return printable(text).replace("\n", " ")[:200]


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _verdict(report: Report) -> str:
    verdict = report.verdict
    said = f"> {MARKS[verdict.tone]} **{escaped(verdict.headline)}.** {escaped(one_number(report))}"
    rest = " ".join(verdict.sentences)
    rest = rest[:1].upper() + rest[1:]  # it goes on from the headline elsewhere
    return said.rstrip() + (f"\n>\n> {escaped(rest)}" if rest else "")


def _figures(report: Report) -> str:
    """Every figure with its interval, beside that of held-out data in the place of samples."""
    rows = []
    for space, group, metric, value in report.estimates():
        if metric.endswith("_heldout") or value.value is None:
            continue
        figures = report.features[space]
        floor = figures.floor.get(metric) or figures.group(group).get(f"{metric}_heldout")
        share = describe(metric).share
        cells = [metric, space, number(value.value, share), interval(value, share)]
        rows.append([*cells, UNKNOWN if floor is None else number(floor.value, share)])
    head = ["figure", "feature space", "value", "95% interval", "held-out in their place"]
    return table(head, rows)


def _data(report: Report) -> str:
    count = "characters" if report.of_text else "images"
    rows = [
        [side, _place(summary.path, report), f"{summary.n or 0:,}", summary.fingerprint or UNKNOWN]
        for side, summary in report.sides().items()
    ]
    said = table(["set", "place", count, "fingerprint of its contents"], rows)
    return said if report.heldout else f"{said}\n\nNothing was held out: facts alone were judged."


def _place(path: str | None, report: Report) -> str:
    """A place; of a redacted report its last part is a name that it may not say."""
    redacted = report.made_by is not None and report.made_by.redacted
    return "(redacted)" if redacted else path or UNKNOWN


def _origin(report: Report, origin: Mapping[str, str]) -> str:
    facts = dict(origin)
    if seen := report.samples.seen:
        facts["trained on"] = (
            f"{seen:,} {'tokens' if report.of_text else 'images, counted each time'}"
        )
    facts |= report.settings
    return table(["fact", "value"], [[key, value] for key, value in facts.items()])


def _limits(report: Report) -> Iterator[str]:
    """Reasons to trust the verdict less than it sounds."""
    yield from report.verdict.caveats
    yield from report.notes
    weak = [x for x in report.power if x.recall is not None and x.recall < LEAST_POWER]
    if weak:
        shown = (
            f"{x.edit} ({_percent(x.estimate)})" for x in sorted(weak, key=lambda x: x.recall or 0)
        )
        yield f"Of copies altered so, the detector finds less than 80% here: {listed(shown)}."
    yield from LIMITS


def _percent(estimate: Estimate) -> str:
    ends = interval(estimate, share=True)
    return f"{number(estimate.value, share=True)}{f', 95%: {ends}' if ends else ''}"


def _made_by(report: Report) -> str:
    made = report.made_by
    if made is None:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in made.packages.items())
    seed = made.settings.get("seed")
    return escaped(
        f"By novum {made.version} (code {made.code[:12]}), seed {seed}, with {versions}."
        " report.json beside it has every figure; novum-evaluate --verify report.json says whether"
        " the data are still those that were judged."
    )


def model_name(place: str) -> str:
    """`dcgan_digits` of runs/dcgan_digits/version_0/checkpoints/best.ckpt; else the file's stem."""
    path = Path(place)
    if path.parent.name != "checkpoints":
        return path.stem or "generator"
    run = path.parents[1]
    return (run.parent if re.fullmatch(r"version_\d+", run.name) else run).name or path.stem
