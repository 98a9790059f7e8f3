"""Figures, durations and names as people read them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any, NamedTuple

from novum.core.errors import printable
from novum.report.model import Cost, Estimate, SetSummary

MIB = 2**20
UNKNOWN = "–"
HEADINGS = {"q": "q", "n": "Images", "train": "Training item"}  # others go by their key


def number(value: object, share: bool = False) -> str:
    """Format a figure with as many digits as can be read; a dash if it is unknown."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UNKNOWN if value is None else str(value)
    if not isfinite(value):
        return UNKNOWN
    if share:
        return f"{value:.1%}"
    if isinstance(value, int) or 1000 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def interval(estimate: Estimate, share: bool = False) -> str:
    """Describe the ends of an interval; empty if there is none."""
    low = None if estimate.low is None else number(estimate.low, share)
    high = None if estimate.high is None else number(estimate.high, share)
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"at least {low}" if low is not None else f"at most {high}" if high is not None else ""


def counted(count: int, noun: str) -> str:
    """Format how many there are of something, such as "1 passage" or "1,200 passages"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def listed(words: Iterable[str]) -> str:
    """Join words by commas and a last `and`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def shorten(text: str, at_most: int) -> str:
    """Keep the end of a long name: of a path it says the most."""
    return text if len(text) <= at_most else "…" + text[-max(at_most - 1, 1) :]


def set_facts(summary: SetSummary, of_text: bool = False) -> dict[str, str]:
    """Path, size and other facts about a set, by name."""
    names = {"n": "characters"} if of_text else {}
    facts = asdict(summary).items()
    return {names.get(key, key): _fact(value) for key, value in facts if value is not None}


def _fact(value: Any) -> str:
    return "×".join(map(str, value)) if isinstance(value, list) else number(value)


def cost_facts(cost: Cost) -> dict[str, str]:
    """Time, memory and speed, by name."""
    facts = {}
    if cost.seconds is not None:
        facts["Time"] = _duration(cost.seconds)
    if cost.peak_rss_bytes is not None:
        facts["Peak memory"] = f"{cost.peak_rss_bytes / MIB:,.0f} MiB"
    if cost.images_per_second is not None:
        facts["Speed"] = f"{cost.images_per_second:,.0f} images/s"
    if cost.characters_per_second is not None:
        facts["Speed"] = f"{cost.characters_per_second:,.0f} characters/s"
    return facts


class Columns(NamedTuple):
    headings: list[str]
    rows: list[list[str]]


def columns(records: Sequence[Mapping[str, str]]) -> Columns:
    """Records as a table with a column for each key that any of them has."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    headings = [HEADINGS.get(key) or key.replace("_", " ").capitalize() for key in keys]
    return Columns(headings, [[record.get(key, "") for key in keys] for record in records])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def plain(text: object) -> str:
    """Any value as text whose control characters and undecodable bytes are escaped."""
    return printable(str(text))
