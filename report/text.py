"""What a report of texts says: its verdict, and its copies one by one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from novum.datamodules.text import TextSource
from novum.metrics.novelty.text import LONG, JudgedTexts
from novum.report.evaluation import Report, listed
from novum.report.verdict import HARDLY_CHANCE, spaces_with_copying

WHERE = {"verbatim": "", "folded": ", case and white space aside,"}


def text_report(judged: JudgedTexts) -> Report:
    """The parts of report.json that were measured: features and the n-gram curve."""
    features = {
        name: {"quality": {}, "novelty": found.novelty} for name, found in judged.readings.items()
    }
    features["verbatim"]["quality"] = {k: {"value": v} for k, v in judged.quality.items()}
    verbatim = judged.readings["verbatim"]
    curves = {"samples": verbatim.novel, "heldout": verbatim.usually_novel}
    return {
        "features": features,
        "novel_ngrams": {
            name: [None if np.isnan(x) else float(x) for x in curve]
            for name, curve in curves.items()
            if curve is not None
        },
    }


def copy_records(
    judged: JudgedTexts, texts: Sequence[str], train: TextSource
) -> list[dict[str, Any]]:
    """Every copy: offsets in all samples joined, in its sample, in training text and its file."""
    vocabulary = train.vocabulary
    starts = np.append(0, np.cumsum([len(vocabulary.encode(text)) for text in texts]))
    records = []
    for name, found in judged.readings.items():
        columns = (*found.copies, found.source_length, found.q, found.common)
        for row in zip(*(column.tolist() for column in columns), strict=True):
            start, length, place, source_length, q, common = row
            text = int(np.searchsorted(starts, start, "right")) - 1
            file, file_offset = train.place(place)
            records.append(
                {
                    "sample": start,
                    "train": place,
                    "length": length,
                    "train_length": source_length,
                    "q": q,
                    "in_heldout": common,
                    "text": text,
                    "text_offset": start - int(starts[text]),
                    "file": file,
                    "file_offset": file_offset,
                    "features": name,
                }
            )
    return sorted(records, key=lambda r: (r["q"], -r["length"], r["sample"]))


def kind(copy: Mapping[str, Any]) -> str:
    """verbatim, near or common: the last stands in held-out text too."""
    if copy["in_heldout"]:
        return "common"
    return "verbatim" if copy["features"] == "verbatim" else "near"


def text_verdict(report: Report) -> str:
    """One paragraph; its first words name the finding."""
    if not report.get("heldout"):
        said = (
            "Copying was not judged: without held-out text it cannot be told from what any such"
            f" text has in common. {_account(report)}"
        )
    elif copied := spaces_with_copying(report):
        said = (
            f"Copying found: {listed([_named(report, name) for name in copied])}. {_usual(report)}"
        )
    elif _novelty(report)["copies_found"]:
        said = (
            f"Verbatim passages, but no more than chance may give: {_account(report)}"
            f" {_usual(report)}"
        )
    else:
        said = f"No copying found: {_account(report)} {_usual(report)}"
    return " ".join(part for part in (said, _leaning(report), _variety(report)) if part)


def _novelty(report: Report, name: str = "verbatim") -> dict[str, Any]:
    return report["features"][name]["novelty"]


def _named(report: Report, name: str) -> str:
    found = _novelty(report, name)
    flagged = found["copies_flagged"]
    many = f"{flagged:,} passages are" if flagged != 1 else "1 passage is"
    named = f"{many} named as copies of training text{WHERE[name]}" if flagged else ""
    low = found["copies_at_least"]
    bound = f"at least {low:.2%} of the passages owe their words to it (95% confidence)"
    longest = f"the longest has {found['longest_copy']:,} characters"
    share = f"they make up {found['copied_share']:.2%} of the samples"
    return ", ".join([p for p in (named, longest, share) if p] + ([bound] if low else []))


def _account(report: Report) -> str:
    found = _novelty(report)
    if not found["copies_found"]:
        return (
            f"no passage of {LONG} characters stands in the training text, the longest has"
            f" {found['longest_copy']:,}."
        )
    return (
        f"{found['copies_found']:,} of {LONG} characters or more stand in the training text, the"
        f" longest has {found['longest_copy']:,}; {found['copied_share']:.2%} of all characters."
    )


def _usual(report: Report) -> str:
    """Held-out text against the same training text."""
    found = _novelty(report)
    return (
        f"In held-out text {found['copied_share_heldout']:.2%} of the characters stand in such"
        f" passages, and the longest has {found['longest_copy_heldout']:,}."
    )


def _leaning(report: Report) -> str:
    p = _novelty(report).get("permutation_p")
    if p is None or p > HARDLY_CHANCE or spaces_with_copying(report):
        return ""
    return (
        f"Short passages favour training text over held-out text (p = {p:.2g}), as any model does"
        " that has learned words and names from it."
    )


def _variety(report: Report) -> str:
    quality = report["features"]["verbatim"]["quality"]
    own, usual = (quality.get(n, {}).get("value") for n in ("self_bleu", "self_bleu_heldout"))
    if own is None or usual is None:
        return ""
    return f"Self-BLEU {own:.2f}, held-out text {usual:.2f}: higher repeats itself more."
