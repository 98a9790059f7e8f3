"""Criteria that a report is held to by a gate: findings that fail it, and limits of figures."""

import difflib
import math
import operator
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from novum.core.errors import InputError
from novum.metrics.registry import metrics
from novum.report.formatting import number
from novum.report.model import Finding, Report

EXIT_COPYING, EXIT_CANNOT_JUDGE, EXIT_REQUIREMENT = 3, 4, 5
EXITS = {  # of the findings that may fail a gate
    Finding.COPYING: EXIT_COPYING,
    Finding.LEANING: EXIT_COPYING,
    Finding.CANNOT_JUDGE: EXIT_CANNOT_JUDGE,
    Finding.TOO_LITTLE_EVIDENCE: EXIT_CANNOT_JUDGE,
}
OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
REQUIREMENT = re.compile(r"\s*([^<>=\s]+)\s*(>=|<=|>|<)\s*([^<>=\s]+)\s*")
OF_REPORT = ("facts", "copy_rate")  # of all spaces together


class Requirement(NamedTuple):
    """A limit of a figure, `precision>=0.7` or `precision/pixels>=0.7`."""

    text: str
    metric: str
    space: str | None
    operator: str
    limit: float


class Check(NamedTuple):
    """One criterion and what became of it."""

    name: str
    passed: bool
    message: str
    exit_code: int


def parse_findings(listed: str) -> list[Finding]:
    """Findings of `copying,cannot_judge`.

    Raises:
        InputError: If one is unknown, or fails nothing.
    """
    found = []
    for name in (name.strip() for name in listed.split(",")):
        if name not in EXITS:
            near = difflib.get_close_matches(name, EXITS, 1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise InputError(f"--fail-on {name!r}: {meant}give {', '.join(EXITS)}")
        found.append(Finding(name))
    return found


def parse_requirement(text: str) -> Requirement:
    """The limit that a text states.

    Raises:
        InputError: If it states none, or names no figure.
    """
    found = REQUIREMENT.fullmatch(text)
    if found is None:
        raise InputError(
            f"--require {text!r}: give a figure, one of {' '.join(OPERATORS)}, and a number:"
            ' "precision>=0.7"'
        )
    figure, sign, value = found.groups()
    metric, _, space = figure.partition("/")
    names = [*OF_REPORT, *(name for name in metrics() if name not in OF_REPORT)]
    if metric not in names:
        near = difflib.get_close_matches(metric, names, 1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise InputError(f"--require {text!r}: no figure {metric}: {meant}")
    try:
        limit = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError as error:
        raise InputError(f"--require {text!r}: {value!r} is no number") from error
    if not math.isfinite(limit):
        raise InputError(f"--require {text!r}: {value!r} is no number that a figure could reach")
    return Requirement(text.strip(), metric, space or None, sign, limit)


def check_report(
    report: Report,
    fail_on: Collection[Finding],
    requirements: Sequence[Requirement],
    facts_decide: bool = False,
) -> list[Check]:
    """All criteria, those of the finding first.

    Args:
        report: Held to them.
        fail_on: Findings that fail it.
        requirements: Limits of figures.
        facts_decide: Without held-out data a report of no fact passes, though nothing else could
            be judged.
    """
    unjudged = report.finding is Finding.CANNOT_JUDGE and report.heldout is None and facts_decide
    failed = report.finding in fail_on and not unjudged
    code = EXITS.get(report.finding, 0)
    name = f"--fail-on {','.join(dict.fromkeys(fail_on))}"
    checks = [Check(name, not failed, _finding(report), code)] if fail_on else []
    return checks + [_check_requirement(report, requirement) for requirement in requirements]


def _finding(report: Report) -> str:
    verdict = report.verdict
    return f"{verdict.headline}: {verdict.details[0]}" if verdict.details else verdict.headline


def _check_requirement(report: Report, wanted: Requirement) -> Check:
    found = _figure(report, wanted)
    name = f"--require {wanted.text}"
    if found is None:
        spaces = sorted(
            {space for space, _, name, _ in report.estimates() if name == wanted.metric}
        )
        known = spaces or sorted({metric for _, _, metric, _ in report.estimates()})
        where = f" in {wanted.space}" if wanted.space else ""
        message = f"{wanted.metric} was not measured{where}: there are {', '.join(known)}"
        return Check(name, False, message, EXIT_REQUIREMENT)
    value, space = found
    passed = OPERATORS[wanted.operator](value, wanted.limit)
    return Check(name, passed, f"{wanted.metric} is {number(value)} ({space})", EXIT_REQUIREMENT)


def _figure(report: Report, wanted: Requirement) -> tuple[float, str] | None:
    """The figure, and the space that it is of: the first that has it, if none is named."""
    if wanted.space is None and wanted.metric == "facts":
        return float(len(report.facts)), "all spaces"
    rate = report.gate.copy_rate.value if report.gate else None
    if wanted.space is None and wanted.metric == "copy_rate" and rate is not None:
        return rate, "all spaces"
    for space, _, metric, estimate in report.estimates():
        if metric == wanted.metric and wanted.space in (None, space) and estimate.value is not None:
            return estimate.value, space
    return None
