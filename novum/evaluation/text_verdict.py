"""The verdict on texts: which passages are copied, and is that more than chance gives?"""

from novum.evaluation.text_records import NAMED
from novum.metrics.novelty.text import LONG
from novum.report.model import Finding, Passage, Report, Space, Verdict

HARDLY_CHANCE = 0.01  # p-value below which samples are said to favour training data
ANOTHER_KIND = 0.01  # p-value below which held-out text is said to differ from training text


def text_verdict(report: Report) -> Verdict:
    """Return the verdict that the figures and copies of a report support."""
    remarks = tuple(filter(None, (_leaning(report), _variety(report))))
    if report.heldout is None:
        reason = (
            "without held-out text it cannot be distinguished from what any such text has in"
            f" common. {_account(report)}"
        )
        return Verdict(Finding.CANNOT_JUDGE, "Copying was not judged", (reason,), remarks=remarks)
    copied = spaces_with_copying(report)
    if copied:
        finding, headline, found = Finding.COPYING, "Copying found", f"{_named(report)}."
    elif _value(report, "copies_found"):
        finding, found = Finding.TOO_LITTLE_EVIDENCE, _account(report)
        headline = "Verbatim passages, but no more than chance may give"
    else:
        finding, headline, found = Finding.NONE_FOUND, "No copying found", _account(report)
    caveat = _heldout_caveat(report)
    return Verdict(
        finding,
        headline,
        (found, _usual(report)),
        (caveat,) if caveat else (),
        bool(caveat),
        remarks=remarks,
        spaces=copied,
    )


def spaces_with_copying(report: Report) -> tuple[str, ...]:
    """Readings in which passages are named as copies, or some are though none can be named."""
    return tuple(
        name
        for name, space in report.features.items()
        if _positive(space, "copies_flagged")
        or (_positive(space, "drawn_to_training") and adjusted_p(report, name) <= HARDLY_CHANCE)
    )


def _positive(space: Space, metric: str) -> bool:
    estimate = space.novelty.get(metric)
    return estimate is not None and bool(estimate.value)


def adjusted_p(report: Report, name: str) -> float:
    """p-value of the permutation test of a reading, by Bonferroni for all that have one."""
    found = {r: space.novelty.get("permutation_p") for r, space in report.features.items()}
    known = {r: p.value for r, p in found.items() if p is not None and p.value is not None}
    return min(1.0, known[name] * len(known)) if name in known else 1.0


def _value(report: Report, metric: str) -> float:
    """A figure of the verbatim reading; 0 if unknown."""
    estimate = report.features["verbatim"].novelty.get(metric)
    return 0.0 if estimate is None or estimate.value is None else estimate.value


def _named(report: Report) -> str:
    """Count the copied passages by kind, and give the bound that names none."""
    flagged = [c for c in report.passages if c.q <= NAMED]
    parts = []
    if flagged:  # not kept in training
        parts.append(_passages(flagged))
    elif _value(report, "copies_flagged"):
        count = int(_value(report, "copies_flagged"))
        parts.append(f"{count:,} passages named as copies of training text")
    if at_least := _value(report, "drawn_to_training"):
        parts.append(
            f"at least {at_least:.2%} of the passages owe their words to it (95% confidence)"
        )
    share = _value(report, "copied_share")
    return f"{'; '.join(parts)}; {share:.2%} of all characters stand word for word in such passages"


def _passages(flagged: list[Passage]) -> str:
    near = sum(c.kind == "near" for c in flagged)
    counts = [(len(flagged) - near, "word for word"), (near, "but for case and space")]
    many = " and ".join(f"{n:,} passage{'s' * (n > 1)} {how}" for n, how in counts if n)
    longest = max(c.length for c in flagged)
    return f"{many} named as copies of training text, the longest of {longest:,} characters"


def _account(report: Report) -> str:
    found, longest = _value(report, "copies_found"), int(_value(report, "longest_copy"))
    if not found:
        return (
            f"no passage of {LONG} characters stands in the training text, the longest has"
            f" {longest:,}."
        )
    return (
        f"{int(found):,} of {LONG} characters or more stand in the training text, the longest has"
        f" {longest:,}; {_value(report, 'copied_share'):.2%} of all characters."
    )


def _usual(report: Report) -> str:
    """Held-out text against the same training text."""
    return (
        f"In held-out text {_value(report, 'copied_share_heldout'):.2%} of the characters stand in"
        f" such passages, and the longest has {int(_value(report, 'longest_copy_heldout')):,}."
    )


def _heldout_caveat(report: Report) -> str:
    p = report.heldout and report.heldout.exchangeability_p
    if p is None or p > ANOTHER_KIND:
        return ""
    return (
        f"Held-out text differs in kind from training text (p = {p:.2g}), so what is chance is not"
        " calibrated: put passages from all over the text aside before training."
    )


def _leaning(report: Report) -> str:
    estimate = report.features["verbatim"].novelty.get("permutation_p")
    p = estimate and estimate.value
    if p is None or p > HARDLY_CHANCE or spaces_with_copying(report):
        return ""
    return (
        f"Short passages favour training text over held-out text (p = {p:.2g}), as any model does"
        " that has learned words and names from it."
    )


def _variety(report: Report) -> str:
    quality = report.features["verbatim"].quality
    known = [quality[n].value for n in ("self_bleu", "self_bleu_heldout") if n in quality]
    if len(known) < 2 or known[0] is None or known[1] is None:
        return ""
    return f"Self-BLEU {known[0]:.2f}, held-out text {known[1]:.2f}: higher repeats itself more."
