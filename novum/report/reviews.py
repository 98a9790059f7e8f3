"""A person's word on pairs that were named: reviews.json beside the report.

No figure changes by it: only named pairs are looked at, so they say nothing of the others.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from novum.core.errors import InputError
from novum.core.files import read_regular, write_json

REVIEWS = "reviews.json"
DECISIONS = ("confirmed", "rejected")
PAIR = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}")  # of a sample, and of what it copies
MOST_PAIRS = 100_000
MOST_BYTES = 1 << 25


def pair_of_images(sample: bytes, train: bytes) -> str:
    """Fingerprint of two images by their uint8 pixels (c, h, w)."""
    return f"{image_hash(sample)}-{image_hash(train)}"


def image_hash(pixels: bytes) -> str:
    """blake2b of 64 bits, as audits and redacted reports have it."""
    return hashlib.blake2b(pixels, digest_size=8).hexdigest()


def pair_of_texts(own: str, source: str) -> str:
    """Fingerprint of a passage and its source."""
    return "-".join(image_hash(text.encode("utf-8", "surrogatepass")) for text in (own, source))


def read_reviews(folder: Path) -> dict[str, str]:
    """Decisions by pair; none if there is no file.

    Raises:
        InputError: If the file has another shape than it is written with.
    """
    return {pair: record["decision"] for pair, record in _records(folder).items()}


def _records(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / REVIEWS
    if not path.exists():
        return {}
    try:
        pairs = json.loads(read_regular(path, MOST_BYTES))["pairs"]
        if not all(_is_review(pair, record) for pair, record in pairs.items()):
            raise TypeError
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is no list of reviews as TensorBoard's Novelty tab writes it: move it away"
        ) from error
    return {pair: _record(record) for pair, record in pairs.items()}


def _is_review(pair: str, record: Any) -> bool:
    return bool(
        PAIR.fullmatch(pair) and isinstance(record, dict) and record.get("decision") in DECISIONS
    )


def _record(record: Mapping[str, Any]) -> dict[str, str]:
    return {"decision": record["decision"], "at": str(record.get("at", ""))[:40]}


def decide(folder: Path, pair: str, decision: str | None) -> dict[str, str]:
    """Keep a decision, or take it back (None); return all decisions.

    Raises:
        InputError: If the pair or the decision is of another form, or there are too many.
    """
    if not isinstance(pair, str) or not PAIR.fullmatch(pair):
        raise InputError("a pair is two fingerprints of 16 hexadecimal digits, joined by a dash")
    if decision is not None and decision not in DECISIONS:
        raise InputError(f"a decision is null or one of {', '.join(DECISIONS)}")
    with FileLock(folder / f".{REVIEWS}.lock"):
        records = _records(folder)
        if decision is None:
            records.pop(pair, None)
        elif pair not in records and len(records) >= MOST_PAIRS:
            raise InputError(f"{folder / REVIEWS} holds {MOST_PAIRS:,} pairs, which is the most")
        else:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            records[pair] = {"decision": decision, "at": now}
        write_json(folder / REVIEWS, {"schema": 1, "pairs": records})
    return {known: record["decision"] for known, record in records.items()}
