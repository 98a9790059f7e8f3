"""Held-out or benchmark documents that stand in training text, exactly or nearly."""

from collections.abc import Sequence

import numpy as np

from novum.evaluation.text_sets import LEAST
from novum.metrics.novelty.text import JudgedTexts
from novum.report.formatting import counted
from novum.report.model import Contaminated, Finding, Verdict

EXACT = 0.95  # share of a document that stands in training text, from which all of it does
PARTLY = 0.2  # share from which it is listed
LOOK = "take these documents out of training, or out of the benchmark"


def contaminated(judged: JudgedTexts, names: Sequence[str]) -> list[Contaminated]:
    """Documents with passages of training text that are facts, the largest share first."""
    edges = np.append(0, judged.stops)
    inside = np.zeros(len(judged.text) + 1, np.int64)
    exact = inside.copy()
    for copy in judged.copies:
        if copy.is_fact:
            for counts in (inside, *([exact] if copy.kind == "verbatim" else [])):
                counts[copy.start] += 1
                counts[copy.start + copy.length] -= 1
    shares, exact_shares = (
        [
            float((np.cumsum(counts)[low:high] > 0).mean()) if high > low else 0.0
            for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        ]
        for counts in (inside, exact)
    )
    found = []
    for number, (name, share, word_for_word) in enumerate(
        zip(names, shares, exact_shares, strict=True)
    ):
        if share >= PARTLY:
            whole = "exactly" if word_for_word >= EXACT else "nearly"
            first = next(
                c
                for c in judged.copies
                if c.is_fact and edges[number] <= c.start < edges[number + 1]
            )
            how = whole if share >= EXACT else "partly"
            found.append(Contaminated(name, how, share, word_for_word, first.place))
    return sorted(found, key=lambda c: -c.share)


def contamination_verdict(found: Sequence[Contaminated], texts: Sequence[str]) -> Verdict:
    """The verdict on held-out documents."""
    documents = counted(len(texts), "document")
    short = sum(len(text) < LEAST for text in texts)
    untold = (f"{short:,} of them with fewer than {LEAST} characters: too few to tell.",)
    untold = untold if short else ()
    if not found:
        details = (f"none of {documents} stands in training text by {PARTLY:.0%}.", *untold)
        headline = "No held-out document stands in training text"
        return Verdict(Finding.NONE_FOUND, headline, details)
    counts = {how: sum(c.how == how for c in found) for how in ("exactly", "nearly", "partly")}
    words = ", ".join(f"{n:,} {how}" for how, n in counts.items() if n)
    details = (f"{len(found):,} of {documents}: {words}.", *untold)
    return Verdict(
        Finding.COPYING, "Held-out text stands in training text", details, next=f"Next: {LOOK}."
    )
