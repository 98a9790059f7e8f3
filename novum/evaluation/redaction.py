"""Redacted reports: hashes and aggregates, no image or text of the sets and no name of one."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from novum.datamodules.sources.corpus import TextSource
from novum.datamodules.sources.image_sources import ImageSource
from novum.report.model import KnownItem, Report

DIGITS = 16  # of a hash


def redact_images(
    report: Report, digests: Mapping[str, NDArray], images: Mapping[str, ImageSource]
) -> None:
    """Put hashes of their pixels, as judged, in the place of the images' names."""
    of_sample, of_train = (
        partial(_hash_of, _rows(images[side].ids), digests[side]) for side in ("samples", "train")
    )
    report.facts = [
        replace(fact, sample=of_sample(fact.sample), train=of_train(fact.train))
        for fact in report.facts
    ]
    report.reviewed = [
        replace(review, sample=of_sample(review.sample), train=of_train(review.train))
        for review in report.reviewed
    ]
    if report.copies is not None:
        report.copies = [
            replace(copy, sample=of_sample(copy.sample), train=of_train(copy.train))
            for copy in report.copies
        ]
    _redact_known(report, lambda item: replace(item, item=of_train(item.item)))


def _redact_known(report: Report, hidden: Callable[[KnownItem], KnownItem]) -> None:
    found = report.membership
    if found is not None:
        report.membership = replace(found, known=[hidden(item) for item in found.known])


def _rows(ids: Sequence[int | str]) -> dict[int | str, int]:
    return {name: row for row, name in enumerate(ids)}


def _hash_of(rows: Mapping[int | str, int], digests: NDArray, name: int | str) -> str:
    """blake2b of 64 bits of an image's uint8 pixels (c, h, w)."""
    return digests[rows[name]].tobytes().hex()


def redact_texts(report: Report, train: TextSource) -> None:
    """Put hashes of their training text in the place of the names of passages' files."""

    def hidden(record: Any) -> Any:
        start, length = record.train, record.train_length or record.length
        return replace(record, file=text_hash(train.text(start, start + length)))

    report.passages = [hidden(passage) for passage in report.passages]
    report.facts = [hidden(fact) for fact in report.facts]

    def known(item: KnownItem) -> KnownItem:
        start = int(item.item)
        return replace(item, file=text_hash(train.text(start, start + (item.length or 0))))

    _redact_known(report, known)
    report.contamination = [
        replace(found, document=text_hash(found.document)) for found in report.contamination
    ]


def text_hash(text: str) -> str:
    found = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    return f"sha256 {found.hexdigest()[:DIGITS]}"
