"""The gate of evaluate.py: criteria, and what programs and pull requests read of a report."""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from novum.cli.program import program_name
from novum.core.errors import InputError, printable
from novum.core.files import write_text
from novum.evaluation.request import feature_list
from novum.evaluation.request_fields import PLACES, option, require_apart
from novum.report.criteria import (
    Check,
    Requirement,
    check_report,
    parse_findings,
    parse_requirement,
)
from novum.report.junit import junit
from novum.report.markdown import markdown
from novum.report.model import Finding, Report
from novum.report.model_card import model_card, model_name

STDOUT = Path("-")


class Criteria(NamedTuple):
    """Findings and limits that fail a gate."""

    fail_on: list[Finding]
    requirements: list[Requirement]
    facts_decide: bool  # where nothing is held out


def criteria_of(options: argparse.Namespace) -> Criteria:
    """The criteria asked for, and places for the results, checked before the work."""
    found = parse_findings(options.fail_on) if options.fail_on is not None else []
    _require_files(options)
    facts_decide = Finding.CANNOT_JUDGE not in found
    if options.fail_on_copying:
        found += [Finding.COPYING, Finding.CANNOT_JUDGE]
    requirements = [parse_requirement(text) for text in options.require]
    for limit in requirements:
        _require_space(limit, options)
    return Criteria(found, requirements, facts_decide)


def _require_space(limit: Requirement, options: argparse.Namespace) -> None:
    """Raise InputError for a limit in a space that --features leaves out."""
    spaces = feature_list(options.features)
    if options.kind == "image" and spaces and limit.space and limit.space not in spaces:
        raise InputError(
            f"--require {limit.text!r}: {limit.space} is not among --features {','.join(spaces)}"
        )


def _require_files(options: argparse.Namespace) -> None:
    """Raise InputError for results that cannot be written, or where something else is."""
    places = {name: getattr(options, name) for name in PLACES}
    written = {options.output / "report.html": "the report's page"}
    for field in ("json", "markdown", "model_card", "junit"):
        path, name = getattr(options, field), option(field)
        _require_file(name, path)
        if path is None or path == STDOUT:
            continue
        require_apart(name, path, places)
        if path in written:
            raise InputError(f"{name} {path} is {written[path]} already: give another file")
        written[path] = name


def _require_file(option: str, path: Path | None) -> None:
    if path is None or path == STDOUT:
        return
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder: name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option} {path}: no folder for it ({error.strerror})") from error


def check(report: Report, criteria: Criteria) -> list[Check]:
    return check_report(report, *criteria)


def write(
    report: Report, checks: Sequence[Check], options: argparse.Namespace, stdout: TextIO
) -> None:
    """Write what programs read."""
    if options.json:
        _put(options.json, report.to_json() + "\n", stdout)
    if options.markdown:
        base = Path() if options.markdown == STDOUT else options.markdown.parent
        _put(options.markdown, markdown(report, checks, options.output, base), stdout)
    if options.model_card:
        name = model_name(options.samples)
        _put(options.model_card, model_card(report, name, origin_of(options.samples)), stdout)
    if options.junit:
        _put(options.junit, junit(report, checks), stdout)


def origin_of(samples: str) -> dict[str, str]:
    """Facts about the file of a generator: a checkpoint, or an ONNX file."""
    path = Path(samples).expanduser()
    if path.suffix not in (".ckpt", ".onnx") or not path.is_file():
        return {}
    facts = {"file": path.name}
    if path.suffix == ".ckpt":
        from novum.core.checkpoints import read_checkpoint

        arguments = read_checkpoint(path).get("hyper_parameters") or {}
        facts["class"] = str(arguments.get("_class_path", ""))
    with path.open("rb") as file:
        facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return facts


def _put(path: Path, text: str, stdout: TextIO) -> None:
    if path == STDOUT:
        stdout.write(text)
        stdout.flush()
    else:
        write_text(path, text)


def say(checks: Sequence[Check]) -> None:
    """A line on stderr for each criterion that is not met."""
    for found in checks:
        if not found.passed:
            line = f"{program_name()}: {found.name}: failed: {found.message}"
            print(printable(line), file=sys.stderr)
