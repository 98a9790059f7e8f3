"""The verdict on texts: which passages are copied, and is that more than chance gives?"""

from collections.abc import Iterator

from novum.evaluation.inside import inside_remark
from novum.metrics.novelty.text.chance import EXCESS_ERROR
from novum.metrics.novelty.text.near_copies import STEP
from novum.metrics.novelty.text.texts import NAMED
from novum.report.formatting import counted
from novum.report.model import Estimate, Finding, Passage, Recall, Report, Verdict

HARDLY_CHANCE = 0.01  # p-value below which samples are said to favour training data
ANOTHER_KIND = 0.01  # p-value below which held-out text is said to differ from training text
SHARED = 0.02  # share of held-out text in training text from which the verdict says so
MOSTLY = 0.5  # share from which held-out text tells nothing
SEEN, UNSEEN = 0.8, 0.5  # recall from which alterations count as seen, and below which as missed
LOOK = "look at the passages below, then train with more data, fewer repeats of it or fewer steps"


def text_verdict(report: Report) -> Verdict:
    """Return the verdict that the facts, figures and passages of a report support."""
    finding, headline, details, todo = _finding(report)
    caveats = tuple(_caveats(report))
    return Verdict(
        finding,
        headline,
        tuple(filter(None, details)),
        caveats,
        bool(caveats),
        remarks=tuple(
            filter(None, (_leaning(report, finding), _variety(report), inside_remark(report)))
        ),
        spaces=("folded",) if finding is Finding.COPYING else (),
        next=f"Next: {todo}.",
    )


def _finding(report: Report) -> tuple[Finding, str, tuple[str, ...], str]:
    """The finding, its headline, sentences that continue it, and what to do next."""
    facts = [p for p in report.passages if p.fact]
    named = [p for p in report.passages if not p.fact and p.q <= NAMED]
    rest = (_shares(report), *_power(report), _common(report), _figures(report, facts, named))
    if report.heldout is None and not facts:
        reason = (
            "without held-out text passages cannot be distinguished from what any such text has in"
            " common."
        )
        todo = "put text aside before training, and give it as --heldout"
        details = (reason, f"In common: {_account(report)}")
        return Finding.CANNOT_JUDGE, "Copying was not judged", details, todo
    if facts or _in_excess(report) or _is_drawn(report):
        details = (f"{_copying(report, facts, named)}.", *rest)
        return Finding.COPYING, "Copying found", details, LOOK
    if (_value(report, "copied_share_heldout") or 0.0) >= MOSTLY:
        reason = "most of the held-out text stands in training text, and hides copies of that."
        todo = "hold out text that was not trained on"
        return Finding.CANNOT_JUDGE, "Copying was not judged", (reason, *rest), todo
    if any(p.is_copy for p in report.passages):
        headline = "Passages of training text, but no more than chance may give"
        todo = "look at the passages below; judge more samples, against more held-out text"
        return Finding.TOO_LITTLE_EVIDENCE, headline, (_account(report), *rest), todo
    todo = "nothing, as far as these copies go"
    return Finding.NONE_FOUND, "No copying found", (_account(report), *rest), todo


def _in_excess(report: Report) -> bool:
    p = report.text_evidence and report.text_evidence.excess_p
    return p is not None and p <= EXCESS_ERROR


def _is_drawn(report: Report) -> bool:
    """Are some windows owed to training though none can be named?"""
    p = _value(report, "permutation_p")
    return bool(_value(report, "drawn_to_training")) and p is not None and p <= HARDLY_CHANCE


def _value(report: Report, metric: str, reading: str = "folded") -> float | None:
    space = report.features.get(reading)
    estimate = space and space.novelty.get(metric)
    return estimate.value if estimate else None


def _copying(report: Report, facts: list[Passage], named: list[Passage]) -> str:
    parts = []
    if facts:
        has = "has" if len(facts) == 1 else "each have"
        parts.append(
            f"{_passages(facts)} {has} more in common with training text than chance gives a text"
            " of this size"
        )
    if named:
        also = "more " if facts else ""
        parts.append(f"{also}{_passages(named)} named as copies of training text")
    if not facts and _in_excess(report):
        parts.append("passages in common with training text are more than held-out text explains")
    if at_least := _value(report, "drawn_to_training"):
        parts.append(
            f"at least {at_least:.2%} of the windows of {2 * STEP} letters owe their words to"
            " training text (95% confidence)"
        )
    return "; ".join(parts)


def _figures(report: Report, facts: list[Passage], named: list[Passage]) -> str:
    """Figures behind the words, for those who want them."""
    found, heldout = report.text_evidence, report.heldout
    parts = []
    if facts and found:
        bits = f"{found.fact_bits:.0f} bits or more"
        parts.append(f"a fact has {bits}, or fewer if training text repeats it")
    if named:
        parts.append(f"a named passage has q <= {NAMED:g}")
    if found and found.excess_p is not None:
        parts.append(f"p = {found.excess_p:.2g} of no more passages than held-out text has")
    if (p := _value(report, "permutation_p")) is not None:
        parts.append(f"p = {p:.2g} of no preference for training text")
    if heldout is not None and heldout.exchangeability_p is not None:
        parts.append(f"p = {heldout.exchangeability_p:.2g} of held-out text of the same kind")
    return f"In figures: {'; '.join(parts)}." if parts else ""


def _passages(found: list[Passage]) -> str:
    """`40 passages (38 word for word, 2 altered), the longest of 700 characters,`"""
    kinds = {
        "word for word": sum(p.features == "verbatim" for p in found),
        "but for case, spaces and punctuation": sum(p.features == "folded" for p in found),
        "altered": sum(p.features == "near" for p in found),
    }
    how = ", ".join(f"{n:,} {words}" for words, n in kinds.items() if n)
    longest = max(p.length for p in found)
    return f"{counted(len(found), 'passage')} ({how}; the longest of {longest:,} characters)"


def _account(report: Report) -> str:
    """Text that the samples have in common with training text."""
    own = [p for p in report.passages if p.is_copy]
    longest = int(_value(report, "longest_copy", "verbatim") or 0)
    if not own:
        return (
            "no passage stands in the training text, altered or not, but what chance or set"
            f" phrases give; the longest word for word has {counted(longest, 'character')}."
        )
    return (
        f"{_passages(own)} in common with the training text; the longest word for word has"
        f" {counted(longest, 'character')}."
    )


def _shares(report: Report) -> str:
    """Share of the samples inside passages, beside that of held-out text."""
    share = _value(report, "copied_share") or 0.0
    words = f"{share:.2%} of the characters stand in such passages"
    usual = _value(report, "copied_share_heldout")
    if usual is None:
        return f"{words}."
    longest = int(_value(report, "longest_copy_heldout", "verbatim") or 0)
    return (
        f"{words}; in held-out text {usual:.2%}, and its longest word for word has"
        f" {counted(longest, 'character')}."
    )


def _common(report: Report) -> str:
    counts = {k: sum(p.kind == k for p in report.passages) for k in ("common", "boilerplate")}
    parts = []
    if counts["common"]:
        parts.append(f"{counts['common']:,} that held-out text has too")
    if counts["boilerplate"]:
        parts.append(f"{counts['boilerplate']:,} that ten documents or more share (boilerplate)")
    return f"Not counted as copies: {' and '.join(parts)}." if parts else ""


def _power(report: Report) -> Iterator[str]:
    """Counts of what was planted and found."""
    if not report.power:
        return
    for words, tuned in (
        ("Planted passages of 300 characters", True),
        ("Of alterations that the search was not made for: planted passages", False),
    ):
        found = [r for r in report.power if r.tuned == tuned and (r.recall or 0) >= SEEN]
        if found:
            low = min(r.low or 0 for r in found)
            yield (
                f"{words} were named at a rate of {low:.0%} or more (95% confidence, each) if they"
                f" are {_listed(found)}."
            )
    missed = [r for r in report.power if r.recall is not None and r.recall < UNSEEN]
    if missed:
        yield f"Would mostly not have been named: passages that are {_listed(missed)}."


def _listed(recalls: list[Recall]) -> str:
    words = [r.edit for r in recalls]
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _caveats(report: Report) -> Iterator[str]:
    p = report.heldout and report.heldout.exchangeability_p
    if p is not None and p <= ANOTHER_KIND:
        yield (
            "Held-out text differs in kind from training text, so what is chance is not calibrated:"
            " put passages from all over the text aside before training."
        )
    found = report.text_evidence
    if report.heldout is not None and found is not None and found.heldout_shared >= SHARED:
        yield (
            f"{found.heldout_shared:.1%} of the held-out text stands in training text, word for"
            " word or nearly: it hides copies of that. Take it out of one of them."
        )


def _leaning(report: Report, finding: Finding) -> str:
    p = _value(report, "permutation_p")
    if p is None or p > HARDLY_CHANCE or finding is Finding.COPYING:
        return ""
    return (
        "Short passages favour training text over held-out text, as any model does that has learned"
        " words and names from it."
    )


def _variety(report: Report) -> str:
    space = report.features.get("verbatim")
    quality: dict[str, Estimate] = space.quality if space else {}
    known = [quality[n].value for n in ("self_bleu", "self_bleu_heldout") if n in quality]
    if len(known) < 2 or known[0] is None or known[1] is None:
        return ""
    return (
        f"How much the samples repeat each other (Self-BLEU): {known[0]:.2f}, held-out text"
        f" {known[1]:.2f}."
    )
