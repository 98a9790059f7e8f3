"""A report.json from anybody: read, held to its shape, and nothing in it believed."""

import json
from math import isfinite
from pathlib import Path
from typing import Any

from novum.core.errors import InputError
from novum.report.evaluation import GROUPS, Report

MOST = 1e100  # no figure is larger; charts could not add two that are


def read_report(path: Path) -> Report:
    """A report; figures that are not finite are unknown.

    Raises:
        InputError: If it is no report of an evaluation.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise InputError(f"{path} cannot be read ({reason}): give a report.json") from error
    if not isinstance(report, dict) or not {"schema", "verdict", "features"} <= report.keys():
        raise InputError(f"{path} is no report of an evaluation: give a report.json")
    if report["schema"] != 1:
        raise InputError(f"{path} has schema {report['schema']!r:.40}, this version reads schema 1")
    found = _misfit(report)
    if found:
        raise InputError(f"{path} is no report of an evaluation: {found} is not as it has to be")
    return _finite(report)


def _misfit(report: Report) -> str:
    """The first part that is of another kind than evaluate.py and train.py write."""
    if not isinstance(report["verdict"], str):
        return "its verdict"
    if not _maps(report["features"]):
        return "its features"
    for name, space in report["features"].items():
        for group in GROUPS:
            if not _figures(space.get(group) or {}):
                return f"{group} in {name!r:.40}"
        if not isinstance(space.get("extractor", ""), str):
            return f"extractor in {name!r:.40}"
    for side in ("samples", "train", "heldout", "cost"):
        facts = report.get(side) or {}
        if not isinstance(facts, dict) or not all(_fact(*fact) for fact in facts.items()):
            return side
    if not all(isinstance(v, int | float | None) for v in (report.get("cost") or {}).values()):
        return "cost"
    history = report.get("history") or []
    return "" if isinstance(history, list) and all(map(_figures, history)) else "history"


def _maps(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(part, dict) for part in value.values())


def _figures(value: Any) -> bool:
    """Whether it gives numbers, or estimates of value, low and high, by name."""
    return isinstance(value, dict) and all(
        all(map(_number, part.values())) if isinstance(part, dict) else _number(part)
        for part in value.values()
    )


def _number(value: Any) -> bool:
    return isinstance(value, int | float | None) and not isinstance(value, bool)


def _fact(name: str, value: Any) -> bool:
    """What is said of a set: plain values, and shapes."""
    if name == "shape" and isinstance(value, list):
        return all(isinstance(part, int | str) for part in value)
    return isinstance(value, str | int | float | None)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return None if isinstance(value, int | float) and abs(value) > MOST else value
