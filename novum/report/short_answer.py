"""The answer on one screen: finding, one number, five figures beside their floors, next step."""

import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from novum.core.errors import printable
from novum.metrics.registry import describe
from novum.report.formatting import UNKNOWN, interval, number
from novum.report.model import Estimate, Finding, Report

WIDTH = 76
IMAGE_FIGURES = ("frechet_distance", "precision", "recall", "coverage")
TEXT_FIGURES = ("copied_share", "longest_copy", "novel_10grams", "self_bleu", "distinct_2")
FAIR = {"closer_to_train": 0.5}  # of samples that copy nothing


class Figure(NamedTuple):
    """A figure of the samples beside that of fresh data in their place."""

    name: str
    space: str
    value: Estimate
    floor: Estimate | None


def short_answer(report: Report, width: int = WIDTH) -> str:
    """The answer in about fifteen lines of at most `width` characters."""
    lines = [report.verdict.headline, one_number(report), _reason(report)]
    if not report.of_text:
        lines.append(f"{report.verdict.quality_headline}.")
    paragraphs = [_wrapped(line, width) for line in lines if line]
    table = "\n".join(figure_lines(report))
    after = [report.verdict.next.replace(" below", " in the report")]
    after += [f"But: {caveat}" for caveat in report.verdict.caveats[: 1 + report.quick]]
    paragraphs += [table] if table else []
    paragraphs += [_wrapped(line, width) for line in after if line]
    return printable("\n".join(paragraphs))


def _wrapped(line: str, width: int) -> str:
    return textwrap.fill(line, width, break_on_hyphens=False)


def _reason(report: Report) -> str:
    """The cause of no clear finding."""
    details = report.verdict.details
    clear = report.finding in (Finding.COPYING, Finding.NONE_FOUND)
    return "" if clear or not details else details[0][:1].upper() + details[0][1:]


def one_number(report: Report) -> str:
    """The figure that the finding rests on, with its interval."""
    if report.of_text:
        space = report.features.get("folded") or next(iter(report.features.values()), None)
        share = space and space.novelty.get("copied_share")
        if not share or share.value is None:
            return ""
        return f"{share.value:.1%} of the samples stands in the training text."
    n, gate = report.samples.n or 0, report.gate
    if gate is not None and gate.copy_rate.value is not None:
        rate = gate.copy_rate
        ends = interval(rate, share=True)
        return f"{rate.value:.1%} (95%: {ends}) of {n:,} samples are copies."
    plural = "is" if len(report.facts) == 1 else "are"
    return f"{len(report.facts):,} of {n:,} samples {plural} beyond doubt a training image."


def key_figures(report: Report) -> Iterator[Figure]:
    """Five figures, each of the first space that has it."""
    names = TEXT_FIGURES if report.of_text else (*IMAGE_FIGURES, *FAIR)
    for name in names:
        for space, figures in report.features.items():
            value = figures.quality.get(name) or figures.novelty.get(name)
            if value is None or value.value is None:
                continue
            own = figures.novelty if name in figures.novelty else figures.quality
            floor = figures.floor.get(name) or own.get(f"{name}_heldout")
            if name in FAIR:
                floor = Estimate(FAIR[name])
            yield Figure(name, space, value, floor)
            break


def figure_lines(report: Report) -> Iterator[str]:
    """A heading and a line for each figure; none if nothing was measured."""
    figures = list(key_figures(report))
    if not figures:
        return
    floor = "held-out" if report.heldout is not None else ""
    yield f"  {'':<18}{'samples':>10}{floor:>12}  "
    for figure in figures:
        metric = describe(figure.name)
        value, beside = (
            UNKNOWN if e is None else number(e.value, metric.share)
            for e in (figure.value, figure.floor)
        )
        beside = beside if report.heldout is not None else ""
        yield f"  {figure.name:<18}{value:>10}{beside:>12}  {figure.space}".rstrip()
