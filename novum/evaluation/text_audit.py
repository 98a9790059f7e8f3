"""Audit of the texts before any figure: what was read, what was not, and which documents repeat."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray

from novum.core import distributed
from novum.core.cache import remembered
from novum.datamodules.sources.corpus import TextSource
from novum.datamodules.sources.raw_images import Omission
from novum.datamodules.sources.text_documents import BLOCK
from novum.datamodules.sources.text_files import BESIDE_TABLES, OTHER_SPLITS
from novum.datamodules.sources.walk import HIDDEN_FILES, HIDDEN_FOLDERS
from novum.evaluation.request import Request
from novum.evaluation.set_overlap import find_overlap, overlap_lines
from novum.evaluation.text_sets import Texts
from novum.report.formatting import counted
from novum.report.model import Overlap, SetAudit

NAMES = {"samples": "Samples", "train": "Training text", "heldout": "Held-out text"}
VERSION = 1  # raise it whenever other documents count as equal
EMPTY = 0  # in the place of a hash
EXPECTED = {HIDDEN_FILES, HIDDEN_FOLDERS, BESIDE_TABLES, OTHER_SPLITS}  # no news


def audit_texts(texts: Texts, request: Request) -> tuple[dict[str, SetAudit], Overlap]:
    """Audit the sets and print a line for each, and for each pair that has equal documents."""
    digests = {"samples": _digests([text] for text in texts.samples)}
    size = sum(map(len, texts.samples))
    audits = {"samples": _audit(digests["samples"], size, texts.sample_names, texts.left_out)}
    for name, source in (("train", texts.train), ("heldout", texts.heldout)):
        if source is not None:
            digests[name] = _known_digests(source)
            names = [piece.name for piece in source.pieces]
            audits[name] = _audit(digests[name], len(source), names, source.left_out)
    overlap = find_overlap({name: rows[rows != EMPTY] for name, rows in digests.items()})
    for name, audit in audits.items():
        if request.redacted:
            audits[name] = replace(audit, examples={})
        request.say(audit_line(name, texts.places.get(name, ""), audits[name]))
    for line in overlap_lines(audits, overlap, "document"):
        request.say(line)
    return audits, overlap


def _known_digests(source: TextSource) -> NDArray[np.int64]:
    """Hashes of documents, from the cache, or computed once, each rank for a part of them."""
    spans = [(start, stop) for _, start, stop in source.documents()]
    edges = hashlib.sha256(np.array(spans, np.int64).tobytes()).hexdigest()

    def compute() -> NDArray[np.int64]:
        own = spans[distributed.shard(len(spans))]
        found = torch.from_numpy(np.array(_digests(_blocks(source, *span) for span in own)))
        return distributed.all_gather_rows(found, "the audit of texts").numpy()[:, None]

    key = ["documents", VERSION, source.fingerprint, edges]
    return remembered(key, compute, 1, np.int64)[:, 0]


def _digests(texts: Iterable[Iterable[str]]) -> NDArray[np.int64]:
    """A 64-bit hash of each document, given in blocks; EMPTY if there is nothing in it."""
    return np.frombuffer(b"".join(map(_digest, texts)), np.int64)


def _digest(blocks: Iterable[str]) -> bytes:
    """The hash of a document but for line ends and outer white space."""
    found, held, begun = blake2b(digest_size=8), "", False
    for block in blocks:
        text = f"{held}{block}" if begun else block.lstrip()
        kept = text.rstrip()  # so that no line end is cut in two
        held = text[len(kept) :]
        begun = begun or bool(kept)
        found.update("\n".join(kept.splitlines()).encode("utf-8", "surrogatepass"))
    return found.digest() if begun else bytes(8)


def _blocks(source: TextSource, start: int, stop: int) -> Iterator[str]:
    return (source.text(i, min(i + BLOCK, stop)) for i in range(start, stop, BLOCK))


def _audit(
    digests: NDArray[np.int64],
    characters: int,
    names: Sequence[str],
    left_out: Sequence[Omission],
) -> SetAudit:
    kept = digests[digests != EMPTY]
    counts: dict[str, int] = {}
    examples: dict[str, list[str]] = {}
    for omission in left_out:
        counts[omission.reason] = counts.get(omission.reason, 0) + omission.number
        examples.setdefault(omission.reason, []).extend(omission.examples)
    return SetAudit(
        read=len(digests),
        files=len({name.split(", row ")[0] for name in names}) or None,
        left_out=counts,
        duplicates=len(kept) - len(np.unique(kept)),
        characters=characters,
        examples={reason: found for reason, found in examples.items() if found},
    )


def audit_line(name: str, place: str, audit: SetAudit) -> str:
    """`train: 12 documents, 5,000 characters, of 2 files from x/; left out 1: 1 hidden files`."""
    words = f"{counted(audit.read, 'document')}, {audit.characters or 0:,} characters"
    if audit.files is not None and audit.files != audit.read:
        words += f", of {counted(audit.files, 'file')}"
    parts = [f"{words}, from {place}"]
    if audit.left_out:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in audit.left_out.items())
        parts.append(f"left out {sum(audit.left_out.values()):,}: {reasons}")
    if audit.duplicates:
        parts.append(f"{audit.duplicates:,} equal an earlier one")
    return f"{name}: {'; '.join(parts)}"


def audit_notes(audits: dict[str, SetAudit]) -> Iterator[str]:
    """Sentences on texts that could not be read, and on documents that repeat."""
    for name, audit in audits.items():
        unread = {r: n for r, n in audit.left_out.items() if r not in EXPECTED}
        if unread:
            reasons = ", ".join(
                f"{n:,} {reason}{_shown(audit, reason)}" for reason, n in unread.items()
            )
            yield f"{NAMES[name]}: left out {sum(unread.values()):,}: {reasons}."
        if audit.duplicates:
            yield (
                f"{NAMES[name]}: {audit.duplicates:,} of {audit.read:,} documents equal an earlier"
                " one."
            )


def _shown(audit: SetAudit, reason: str) -> str:
    names = audit.examples.get(reason)
    return f" ({', '.join(names)})" if names else ""
