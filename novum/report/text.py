"""What a report of texts says: its verdict, and its copies one by one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from novum.datamodules.text import TextSource
from novum.metrics.novelty.text import LONG, JudgedTexts
from novum.report.evaluation import Report
from novum.report.verdict import HARDLY_CHANCE, spaces_with_copying

ANOTHER_KIND = 0.01  # p-value below which held-out text is said to differ from training text
NAMED = 0.1  # false discovery rate of the copies that a verdict counts


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
    return sorted(records, key=lambda r: (r["q"] > NAMED, kind(r) != "verbatim", -r["length"]))


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
    elif spaces_with_copying(report):
        said = f"Copying found: {_named(report)}. {_usual(report)}"
    elif _novelty(report)["copies_found"]:
        said = (
            f"Verbatim passages, but no more than chance may give: {_account(report)}"
            f" {_usual(report)}"
        )
    else:
        said = f"No copying found: {_account(report)} {_usual(report)}"
    return " ".join(
        part for part in (said, _doubt(report), _leaning(report), _variety(report)) if part
    )


def _novelty(report: Report, name: str = "verbatim") -> dict[str, Any]:
    return report["features"][name]["novelty"]


def _named(report: Report) -> str:
    """How many passages are copies, of which kind, and what is certain without naming any."""
    found = _novelty(report)
    flagged = [c for c in report.get("copies", ()) if c["q"] <= NAMED]  # not kept in training
    near = sum(kind(c) == "near" for c in flagged)
    counts = [(len(flagged) - near, "word for word"), (near, "but for case and space")]
    parts = []
    if not flagged and found["copies_flagged"]:
        parts.append(f"{int(found['copies_flagged']):,} passages named as copies of training text")
    if flagged:
        many = " and ".join(f"{n:,} passage{'s' * (n > 1)} {how}" for n, how in counts if n)
        longest = max(c["length"] for c in flagged)
        parts.append(
            f"{many} named as copies of training text, the longest of {longest:,} characters"
        )
    if found["copies_at_least"]:
        parts.append(
            f"at least {found['copies_at_least']:.2%} of the passages owe their words to it"
            " (95% confidence)"
        )
    share = f"{found['copied_share']:.2%} of all characters stand word for word in such passages"
    return f"{'; '.join(parts)}; {share}"


def _account(report: Report) -> str:
    found = _novelty(report)
    if not found["copies_found"]:
        return (
            f"no passage of {LONG} characters stands in the training text, the longest has"
            f" {int(found['longest_copy']):,}."
        )
    return (
        f"{int(found['copies_found']):,} of {LONG} characters or more stand in the training text,"
        f" the longest has {int(found['longest_copy']):,}; {found['copied_share']:.2%} of all"
        " characters."
    )


def _usual(report: Report) -> str:
    """Held-out text against the same training text."""
    found = _novelty(report)
    return (
        f"In held-out text {found['copied_share_heldout']:.2%} of the characters stand in such"
        f" passages, and the longest has {int(found['longest_copy_heldout']):,}."
    )


def _doubt(report: Report) -> str:
    p = (report.get("heldout") or {}).get("exchangeability_p")
    if p is None or p > ANOTHER_KIND:
        return ""
    return (
        f"Held-out text differs in kind from training text (p = {p:.2g}), so what is chance is not"
        " calibrated: put passages from all over the text aside before training."
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
