"""Equal items of the sets of an evaluation, images or documents, by a hash of each."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from novum.report.model import Overlap, SetAudit


def find_overlap(digests: dict[str, NDArray]) -> Overlap:
    """Number of equal items of each pair of sets."""

    def equal(first: str, second: str) -> int | None:
        if first not in digests or second not in digests:
            return None
        return int(np.isin(digests[second], digests[first]).sum())

    return Overlap(
        equal("train", "heldout"), equal("train", "samples"), equal("heldout", "samples")
    )


def overlap_lines(audit: dict[str, SetAudit], overlap: Overlap, item: str) -> Iterator[str]:
    """`overlap: 30 of 60 samples equal a training image`, for each pair that has equal items."""
    pairs = (
        (overlap.train_heldout, "heldout", f"held-out {item}s equal a training {item}"),
        (overlap.train_samples, "samples", f"samples equal a training {item}"),
        (overlap.heldout_samples, "samples", f"samples equal a held-out {item}"),
    )
    for number, side, words in pairs:
        if number:
            yield f"overlap: {number:,} of {audit[side].read:,} {words}"
