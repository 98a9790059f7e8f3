"""report.json: the one writer and the one reader of it.

A report may come from anybody: it is held to its shape, and nothing in it is believed.
"""

import hashlib
import json
import math
import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from novum.core.errors import InputError
from novum.core.files import write_text
from novum.report.model import SCHEMA, Estimate, Finding, Report, Space, Verdict

LARGEST = 1e100  # figures beyond are unknown: charts could not add two of them
HEADLINES = {  # how the verdicts of schema 1 open, most severe first
    "Copying found": Finding.COPYING,
    "Doubtful held-out images": Finding.CANNOT_JUDGE,
    "Samples lean on training data": Finding.LEANING,
    "Verbatim passages": Finding.TOO_LITTLE_EVIDENCE,
    "Copying was not judged": Finding.CANNOT_JUDGE,
    "No copying found": Finding.NONE_FOUND,
}
LEFT_OUT = (
    *("audit", "samples", "train", "facts", "reviewed", "notes", "quick", "novel_ngrams"),
    *("history", "settings"),
)
DOUBTS = ("Doubtful held-out images", "differ in kind from", "differs in kind from")  # schema 1


_hints = cache(get_type_hints)  # of a dataclass; a timeline has thousands of one kind


class Misfit(ValueError):
    """The part of a report that has another shape than evaluate.py and train.py write."""


def write_report(path: Path, report: Report) -> None:
    """Write report.json atomically."""
    write_text(path, to_json(report))


def to_json(report: Report) -> str:
    """Contents of report.json."""
    return json.dumps(dump(report), indent=2)


def read_report(path: Path) -> Report:
    """Read a report.json of schema 1 or 2; figures that are not finite become unknown.

    Raises:
        InputError: If the file is not a report of an evaluation.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise InputError(f"{path} cannot be read ({reason}): give a report.json") from error
    if not isinstance(content, dict) or not {"schema", "verdict", "features"} <= content.keys():
        raise InputError(f"{path} is not a report of an evaluation: give a report.json")
    if content["schema"] not in range(1, SCHEMA + 1):
        raise InputError(
            f"{path} has schema {content['schema']!r:.40}, this version reads schema 1 to {SCHEMA}"
        )
    try:
        return parse(content)
    except Misfit as error:
        raise InputError(
            f"{path} is not a report of an evaluation: {error} has another shape than expected"
        ) from error


def dump(report: Report) -> dict[str, Any]:
    """Contents of report.json, schema 2: those of schema 1 and more."""
    verdict = report.verdict
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "finding": verdict.finding.value,
        "quality_finding": verdict.quality_finding.value,
        "verdict": verdict.text,
        "next": verdict.next,
        "caveats": list(verdict.caveats),
        "conclusion": asdict(verdict),
    }
    if report.of_text:
        content["kind"] = "text"
    for name in ("samples", "train", "heldout"):
        side = getattr(report, name)
        content[name] = side and _known(asdict(side))
    if report.audit:
        content["audit"] = {name: _known(asdict(side)) for name, side in report.audit.items()}
    if report.overlap:
        content.setdefault("audit", {})["overlap"] = _known(asdict(report.overlap))
    content["features"] = {name: _space(space) for name, space in report.features.items()}
    copies = report.passages if report.of_text else report.copies
    if copies is not None:
        content["copies"] = [_known(asdict(copy)) for copy in copies]
    if report.power:  # `attack` is the edit's name in schema 1
        content["power"] = [{"attack": r.edit, **asdict(r)} for r in report.power]
    content["facts"] = [_known(asdict(fact)) for fact in report.facts]
    if report.reviewed:
        content["reviewed"] = [asdict(review) for review in report.reviewed]
    if report.identical is not None:
        content["identical"] = _known(asdict(report.identical))
    if report.near_identical is not None:
        content["near_identical"] = asdict(report.near_identical)
    if report.text_evidence is not None:
        content["text_evidence"] = _known(asdict(report.text_evidence))
    if report.contamination:
        content["contamination"] = [asdict(found) for found in report.contamination]
    if report.gate is not None:
        content["gate"] = asdict(report.gate)
    content["controls"] = {
        "negative": {name: asdict(c) for name, c in report.negative_controls.items()},
        "positive": [asdict(recall) for recall in report.power],
    }
    if report.membership is not None:
        content["membership"] = _known(asdict(report.membership))
    content["notes"] = report.notes
    if report.quick:
        content["quick"] = True
    for name in ("novel_ngrams", "history", "settings"):
        if getattr(report, name):
            content[name] = getattr(report, name)
    if report.made_by is not None:
        content["made_by"] = {**asdict(report.made_by), "seal": seal(content)}
    if report.cost is not None:
        content["cost"] = _known(asdict(report.cost))
    return content


def seal(content: Mapping[str, Any]) -> str:
    """sha256 of a report's contents but for its cost and origin: shows a change, not its author."""
    kept = {k: v for k, v in content.items() if k not in ("cost", "made_by")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _space(space: Space) -> dict[str, Any]:
    """Figures of `novelty` without an interval are plain numbers."""
    content: dict[str, Any] = {} if space.extractor is None else {"extractor": space.extractor}
    content["quality"] = {name: _estimate(e) for name, e in space.quality.items()}
    content["novelty"] = {
        name: _number(e.value) if e.low is None and e.high is None else _estimate(e)
        for name, e in space.novelty.items()
    }
    if space.floor:
        content["floor"] = {name: _estimate(e) for name, e in space.floor.items()}
    return content


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    ends = {"low": estimate.low, "high": estimate.high}
    known = {name: _number(end) for name, end in ends.items() if end is not None}
    return {"value": _number(estimate.value), **known}


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def parse(content: Mapping[str, Any]) -> Report:
    """Return the report with these contents of schema 1 or 2; parts may be missing.

    Raises:
        Misfit: Names the first part that has another shape.
    """
    if not isinstance(content["verdict"], str):
        raise Misfit("verdict")
    content = dict(content)
    content["verdict"] = _verdict(content)
    if content.get("kind") == "text":
        content["passages"] = content.pop("copies", None) or []
    content["power"] = [
        _edit_of_schema_1(recall) for recall in _typed(content.get("power") or [], list, "power")
    ]
    controls = _typed(content.pop("controls", None) or {}, dict, "controls")
    content["negative_controls"] = controls.get("negative") or {}
    if content.get("audit"):
        content["audit"] = dict(_typed(content["audit"], dict, "audit"))
        content["overlap"] = content["audit"].pop("overlap", None)
    content.pop("page", None)  # is HTML that a notebook would run
    for group in LEFT_OUT:
        if content.get(group) is None:
            content.pop(group, None)
    return build(Report, content, "the report")


def _edit_of_schema_1(recall: Any) -> Any:
    if isinstance(recall, dict) and "attack" in recall and "edit" not in recall:
        return {"edit": recall["attack"], **recall}
    return recall


def _verdict(content: Mapping[str, Any]) -> Any:
    """The verdict's parts; of schema 1, which stores its words alone, from how they open."""
    if content["schema"] != 1:
        return {"finding": content.get("finding")} | _typed(
            content.get("conclusion") or {"headline": content["verdict"]}, dict, "conclusion"
        )
    text = content["verdict"]
    opening, colon, rest = text.partition(": ")
    headline = opening if colon and len(opening) <= 40 else "Verdict"
    found = (finding for words, finding in HEADLINES.items() if text.startswith(words))
    return Verdict(
        next(found, Finding.CANNOT_JUDGE),
        headline,
        (rest if headline == opening else text,),
        doubtful=any(words in text for words in DOUBTS),
    )


def _typed(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        raise Misfit(where)
    return value


def build(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the type that a field declares; unknown keys are left out.

    Raises:
        Misfit: Names the first part that has another shape.
    """
    if isinstance(value, float | int) and not isinstance(value, bool):
        value = _number(value)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _build_any(inner, value, where)
    if hint is Estimate and not isinstance(value, dict):
        return Estimate(build(float | None, value, where))
    if is_dataclass(hint):
        if isinstance(value, hint):
            return value
        hints, content = _hints(hint), _typed(value, dict, where)
        known = [f.name for f in fields(hint) if f.name in content]
        try:
            return hint(**{name: build(hints[name], content[name], name) for name in known})
        except TypeError as error:  # a field without a default is missing
            raise Misfit(where) from error
    if origin is dict:
        items = _typed(value, dict, where).items()
        return {k: build(inner[1], v, f"{where} {str(k):.40}") for k, v in items}
    if origin in (list, tuple):
        parts = _typed(list(value) if isinstance(value, tuple) else value, list, where)
        return origin(build(inner[0], part, where) for part in parts)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        if value not in list(hint):
            raise Misfit(where)
        return hint(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, bool) and hint is not bool:
        raise Misfit(where)
    return _typed(value, hint, where)


def _build_any(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in hints:
        return None
    kinds = [hint for hint in hints if hint is not type(None)]
    if len(kinds) == 1:
        return build(kinds[0], value, where)
    for hint in kinds:
        try:
            return build(hint, value, where)
        except Misfit:
            continue
    raise Misfit(where)


def _number(value: float | None) -> float | None:
    """A finite number of usable size, else None."""
    usable = value is not None and math.isfinite(value) and abs(value) <= LARGEST
    return value if usable else None
