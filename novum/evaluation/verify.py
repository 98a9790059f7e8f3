"""`--verify`: are the inputs of a report, as they are now, those that were judged?"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from novum.core.errors import InputError
from novum.core.hub_places import is_hub
from novum.core.run_record import code_version, novum_version
from novum.core.security.trust import trusts_all
from novum.evaluation.generators import is_function_name
from novum.evaluation.request import Request
from novum.report.model import Report
from novum.report.schema import read_report, seal

SETTINGS = (
    "seed num_samples classifier calibrate_by groups image_column text_column split encoding"
    " on_bad_image on_bad_text follow_links contamination"
).split()


class Verified(NamedTuple):
    """Lines that say what is as it was, and whether all inputs and figures are."""

    lines: list[str]
    same: bool


def verify(path: Path, places: Mapping[str, str | None], quiet: bool = False) -> Verified:
    """Read the sets of a report again and compare their fingerprints.

    Args:
        path: report.json.
        places: Of samples, train and heldout, if they lie elsewhere now.
        quiet: Print nothing.
    """
    report = read_report(path)
    if report.made_by is None:
        raise InputError(f"{path} says nothing of its inputs: it was made by an earlier version")
    request = request_of(report, path, places, quiet)
    found = fingerprints(request)
    lines, same = [], True
    for name, side in report.sides().items():
        now = found.get(name)
        if now == side.fingerprint and now is not None:
            lines.append(f"{name}: as judged ({now[:12]})")
        else:
            same = False
            was, has = (side.fingerprint or "unknown")[:12], (now or "nothing")[:12]
            lines.append(f"{name}: changed: judged {was}, now {has}")
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["made_by"].get("seal") == seal(content):
        lines.append("figures: as written")
    else:
        same = False
        lines.append("figures: changed after they were written")
    made = report.made_by
    if made.code == code_version():
        lines.append(f"code: the same (Novum {made.version})")
    else:
        lines.append(
            f"code: another than that which judged (Novum {made.version}, now {novum_version()})"
        )
    return Verified(lines, same)


def request_of(
    report: Report, path: Path, places: Mapping[str, str | None], quiet: bool
) -> Request:
    """The request that a report answers."""
    assert report.made_by is not None
    settings = report.made_by.settings
    named: dict[str, Any] = {}
    for name in ("samples", "train", "heldout"):
        named[name] = places.get(name) or settings.get(name)
        side = getattr(report, name)
        held = side is not None and (side.path or "").endswith("(in memory)")
        if held and not places.get(name):
            raise InputError(f"{path}: {name} was held by a program: name its place, --{name} PATH")
    if report.heldout is None:
        named["heldout"] = "none"
    if is_function_name(named["samples"]) and not (places.get("samples") or trusts_all()):
        raise InputError(
            f"{path} names the function {named['samples']}, which would run: --trust if it is yours"
        )
    fetched = [x for x, place in named.items() if is_hub(place) and not places.get(x)]
    if fetched and not trusts_all():
        raise InputError(
            f"{path} names {named[fetched[0]]}, which would be fetched: --trust if it is yours"
        )
    if not isinstance(named["samples"], str):
        raise InputError(f"{path}: samples came from a generator: name it, --samples")
    kept = {name: settings[name] for name in SETTINGS if settings.get(name) is not None}
    try:
        return Request(**named, kind=report.kind, quiet=quiet, **kept)  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise InputError(f"{path} has settings of another shape than expected") from error


def fingerprints(request: Request) -> dict[str, str]:
    """Fingerprints of the sets as they are now."""
    if request.kind == "text":
        from novum.evaluation.text import fingerprint_of
        from novum.evaluation.text_sets import open_texts

        texts = open_texts(request)
        sides = {"train": texts.train, "heldout": texts.heldout}
        known = {name: side.fingerprint for name, side in sides.items() if side is not None}
        return {"samples": fingerprint_of(texts.samples), **known}
    from novum.evaluation.image_sets import open_sets

    return {name: side.fingerprint for name, side in open_sets(request).images().items()}
