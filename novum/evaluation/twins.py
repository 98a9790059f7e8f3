"""Comparison of twins, two models that learned from the two halves of one set.

What is looked at is chosen without knowing which half an item is in, and both twins are asked the
same, so that under "learning makes no difference" all that remains is the deal, which was chance.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core.errors import NotComputable
from novum.core.protocols import seen
from novum.datamodules.halves import HALVES, Deal
from novum.evaluation.inside import loss_name
from novum.metrics.novelty.twin_test import FEWEST_UNITS, TwinTest, twin_test
from novum.report.model import Estimate, Finding, Verdict
from novum.report.twin_page import (
    LIKELIHOOD,
    LISTED,
    NAMED,
    REPRODUCTION,
    SHOWN,
    Cell,
    Twin,
    TwinEvidence,
    TwinItem,
    TwinReport,
)

ERROR = 0.01  # of all tests together, to find memorisation where there is none

Models = Mapping[str, Any]


def describe_twins(
    models: Models, folders: Mapping[str, Path], ids: Mapping[str, str | None], data: Any
) -> list[Twin]:
    """Name the two runs."""
    return [
        Twin(half, str(folders[half]), ids[half], seen(models[half]), len(side), side.fingerprint)
        for half, side in halves_of(data).items()
    ]


def halves_of(data: Any) -> dict[str, Any]:
    """Both halves, of the DataModule of either twin."""
    sides = (data.train_reference(), data.heldout_reference())
    return dict(zip(HALVES, sides if data.half == "a" else sides[::-1], strict=True))


def scored_by(models: Models) -> str:
    """Name of the loss of single items that both models have.

    Raises:
        NotComputable: If they have none.
    """
    if not all(callable(getattr(model, "item_losses", None)) for model in models.values()):
        raise NotComputable(f"{type(models['a']).__name__} has no loss of single items")
    return loss_name(models["a"])


class Tested(NamedTuple):
    """A test, and what is needed to name the items that it ranks."""

    evidence: TwinEvidence
    found: TwinTest
    figures: Mapping[str, NDArray[np.float64]]  # of both twins, of each row
    rows: NDArray[np.int64]  # items that were looked at
    name: Callable[[int], str]  # of an item
    passages: Callable[[int], tuple[str | None, str | None]] | None = None  # of an item of text


def collect(
    report: TwinReport, tests: Sequence[tuple[str, Callable[[], Tested]]]
) -> dict[str, list[int]]:
    """Add tests to a report, and the verdict; return the items that are shown, of each test."""
    shown: dict[str, list[int]] = {}
    for kind, test in tests:
        try:
            tested = test()
        except NotComputable as error:
            report.missing.append(f"{kind}: not computed: {error}")
            continue
        order = np.lexsort((-tested.found.score, tested.found.q))[:LISTED]
        tested.evidence.ranked = [_ranked(int(number), tested) for number in order]
        report.evidence[kind] = tested.evidence
        shown[kind] = tested.rows[tested.found.item[order[:SHOWN]]].tolist()
    report.verdict = twin_verdict(report)
    return shown


def _ranked(number: int, tested: Tested) -> TwinItem:
    """Record of a unit's item."""
    row = int(tested.found.item[number])
    assert tested.evidence.in_a is not None
    own, other = HALVES if tested.evidence.in_a[row] else HALVES[::-1]
    item = int(tested.rows[row])
    return TwinItem(
        tested.name(item),
        own,
        float(tested.found.score[number]),
        float(tested.found.q[number]),
        float(tested.figures[own][row]),
        float(tested.figures[other][row]),
        *(tested.passages(item) if tested.passages else (None, None)),
    )


def describe_deal(deal: Deal) -> dict[str, Any]:
    """Plain facts about a deal."""
    mine = deal.in_a
    return {
        "kind": deal.kind,
        "units": len(deal.sizes),
        "units_in_a": int(mine.sum()),
        "size_of_a": int(deal.sizes[mine].sum()),
        "size_of_b": int(deal.sizes[~mine].sum()),
        "equal_kept_together": deal.together,
    }


def evidence_of(
    measure: str,
    figures: Mapping[str, NDArray[np.float64]],
    rows: NDArray[np.int64],
    deal: Deal,
    *,
    higher: bool,
    seed: int,
) -> tuple[TwinEvidence, TwinTest]:
    """Test figures of both twins on some items; `higher` says which way an item is better known.

    Raises:
        NotComputable: As `twin_test`.
    """
    lead = figures["a"] - figures["b"]
    lead = lead if higher else -lead
    unit = deal.unit[rows]
    found = twin_test(lead, unit, deal, ranks=not higher, seed=seed)
    evidence = TwinEvidence(
        measure,
        len(rows),
        len(found.item),
        found.differ,
        Estimate(*found.mean),
        Estimate(*found.ahead),
        found.p,
        int((found.q <= NAMED).sum()),
        lead=lead,
        in_a=deal.in_a[unit],
    )
    return evidence, found


def facts_p(cells: Sequence[Cell]) -> float:
    """p-value of as many units that facts are of on the side of the own twin: each is a coin."""
    from scipy.stats import binom

    own = sum(cell.items for cell in cells if cell.twin == cell.half)
    every = sum(cell.items for cell in cells)
    return float(binom(every, 0.5).sf(own - 1)) if every else 1.0


def twin_verdict(report: TwinReport) -> Verdict:
    """Conclude from all tests together, at ERROR."""
    if not report.evidence:
        return Verdict(
            Finding.CANNOT_JUDGE, "The twins cannot be compared", tuple(report.missing[-1:])
        )
    tests = len(report.evidence) + 1
    alarms = {k: e.p * tests <= ERROR for k, e in report.evidence.items()}
    details = (_samples_sentence(report), *(_sentence(*x) for x in report.evidence.items()))
    drawn = alarms.get(REPRODUCTION, False)
    named = report.evidence[REPRODUCTION].named if REPRODUCTION in report.evidence else 0
    if report.facts_p * tests <= ERROR or (drawn and named):
        return Verdict(
            Finding.COPYING,
            "The twins reproduce items of their own halves",
            details,
            next="Twins of half the data copy more than one model of all of it: judge that one with"
            " evaluate.py, and look at the items that are named.",
        )
    if drawn:
        headline = "Each twin's samples are drawn to its own half, but to no item by name"
        return Verdict(Finding.LEANING, headline, details)
    if alarms.get(LIKELIHOOD, False):
        return Verdict(
            Finding.LEANING,
            "Each twin knows its own half better, and reproduces none of it that was seen",
            details[::-1],
        )
    if max(found.differ for found in report.evidence.values()) < FEWEST_UNITS:
        return Verdict(
            Finding.TOO_LITTLE_EVIDENCE,
            "Too little evidence: the twins hardly differ in what they make of any item",
            details,
        )
    return Verdict(Finding.NONE_FOUND, "No memorisation found", details)


def _samples_sentence(report: TwinReport) -> str:
    """Say how many samples copy either half."""
    sides = [[cell for cell in report.cells if (cell.twin == cell.half) == same]
             for same in (True, False)]  # fmt: skip
    (own, other), (facts, of_other) = (
        [sum(getattr(cell, name) for cell in side) for side in sides]
        for name in ("flagged", "facts")
    )
    what = "passages of the samples" if report.kind == "text" else "samples"
    return (
        f"{own:,} {what} are flagged as copies from their twin's own half ({facts:,} facts), and"
        f" {other:,} ({of_other:,}) from the other half, which it never saw."
    )


def _sentence(kind: str, found: TwinEvidence) -> str:
    ahead = f"{found.ahead.value:.1%} ({found.ahead.low:.1%} to {found.ahead.high:.1%})"
    where = "on the units in which twins differ" if kind == REPRODUCTION else "on the units"
    return (
        f"By {found.measure} the own twin is ahead {where} in {ahead}, 50% by chance; p ="
        f" {found.p:.2g}; {found.named:,} of {found.units:,} are named."
    )
