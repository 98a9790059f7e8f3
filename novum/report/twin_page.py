"""twin.html and twin.json: what each of two twins makes of its own half of the data."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from novum.core.files import write_text
from novum.report.figures import histogram_chart, interval_chart
from novum.report.formatting import interval, number
from novum.report.model import Estimate, Finding, Verdict
from novum.report.pictures import Pixels
from novum.report.rendering import render

SCHEMA = 1
NAMED = 0.1  # false discovery rate of the items that are named
SHOWN = 12  # items on the page
LISTED = 200  # in the file
PASSAGE = 400  # characters that are shown
REPRODUCTION, LIKELIHOOD = "reproduction", "likelihood"
LIMITS = (
    "Each twin learned from half of the data, and less data is remembered better: one model of all"
    " of it copies less than this.",
    "A lower loss says that a twin, of a GAN its discriminator, knows an item better: no proof that"
    " it can reproduce it.",
    "No alarm is no proof: what was not sampled was not seen, and an effect on a few items alone"
    " does not show in a test of all.",
    "Two models give one coin an item: an item is named among many others, never by itself.",
)


@dataclass(frozen=True)
class Twin:
    """One of the two runs: its folder, its id, and what it was trained on."""

    half: str
    folder: str
    id: str | None
    seen: int
    items: int  # images or characters of its half
    fingerprint: str


@dataclass(frozen=True)
class Cell:
    """Figures of the samples of one twin against one half.

    Args:
        share: Of the samples of images those nearest to this half; of text the characters in
            passages of it.
        flagged: Samples named as copies by the copy test, the other half held out; passages beyond
            chance.
        facts: Samples identical to an item of it, or as near as no chance explains; of text
            passages that are facts.
        items: Units that these facts are of.
    """

    twin: str
    half: str
    share: Estimate
    flagged: int
    facts: int
    items: int


@dataclass(frozen=True)
class TwinItem:
    """An item, and what its own twin and the other make of it."""

    name: str
    half: str
    score: float
    q: float
    own: float  # figure of its own twin: a loss, or how surprising the nearest sample is
    other: float
    source: str | None = None  # of text: the passage in training
    passage: str | None = None  # and in the samples of its own twin


@dataclass
class TwinEvidence:
    """One test of leads: of what twins reproduce, or of how well they know items.

    Args:
        measure: Name of the figure.
        items: Looked at.
        units: That these are of.
        differ: Of the units, those in which the twins differ.
        mean: Mean lead of own twins.
        ahead: Share of the units that their own twin is ahead on.
        named: Units of a q of at most NAMED.
        ranked: Items of the units, the most memorised first.
        lead: (n,) Of twin a, and the half that each item is in, for the chart.
    """

    measure: str
    items: int
    units: int
    differ: int
    mean: Estimate
    ahead: Estimate
    p: float
    named: int
    ranked: list[TwinItem] = field(default_factory=list)
    lead: np.ndarray | None = None
    in_a: np.ndarray | None = None


@dataclass
class TwinReport:
    """All of a comparison, and what could not be compared."""

    kind: str  # image or text
    twins: list[Twin]
    dealt: dict[str, Any]
    samples: int
    cells: list[Cell]
    facts_p: float
    seed: int = 0
    evidence: dict[str, TwinEvidence] = field(default_factory=dict)
    verdict: Verdict = Verdict(Finding.CANNOT_JUDGE, "Not compared")
    missing: list[str] = field(default_factory=list)

    def cell(self, twin: str, half: str) -> Cell:
        return next(x for x in self.cells if (x.twin, x.half) == (twin, half))

    def to_json(self) -> str:
        """Plain values; the arrays of charts and all but the first items are left out."""
        evidence = {}
        for name, found in self.evidence.items():
            values = {k: v for k, v in vars(found).items() if k not in ("lead", "in_a", "ranked")}
            values |= {name: asdict(values[name]) for name in ("mean", "ahead")}
            evidence[name] = values | {"ranked": [asdict(x) for x in found.ranked[:LISTED]]}
        content = {
            "schema": SCHEMA,
            "kind": self.kind,
            "finding": self.verdict.finding,
            "verdict": self.verdict.text,
            "twins": [asdict(x) for x in self.twins],
            "dealt": self.dealt,
            "samples": self.samples,
            "seed": self.seed,
            "reproduced": [asdict(x) for x in self.cells],
            "facts_p": self.facts_p,
            "evidence": evidence,
            "not_computed": self.missing,
            "limits": list(LIMITS),
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


class Shown(NamedTuple):
    """Pictures (h, w, 3) of a ranked item: itself, and each twin's nearest sample."""

    item: Pixels | None
    own: Pixels | None
    other: Pixels | None


Pictures = dict[str, list[Shown]]  # of the first items of each kind of evidence


def write_twins(report: TwinReport, pictures: Pictures, folder: Path) -> Path:
    """Write twin.json and twin.html; return the path of the page."""
    write_text(folder / "twin.json", report.to_json())
    write_text(folder / "twin.html", twin_page(report, pictures))
    return folder / "twin.html"


def twin_page(report: TwinReport, pictures: Pictures) -> str:
    """Render the page."""
    return render(
        "twin.html",
        title="Novum: twins compared",
        report=report,
        headings=_headings(report),
        rows=_rows(report),
        shares_chart=_shares(report),
        sections=[_section(kind, found, pictures.get(kind, ()))
                  for kind, found in report.evidence.items()],
        records=[_record(twin, report) for twin in report.twins],
        limits=LIMITS,
    )  # fmt: skip


def _headings(report: TwinReport) -> list[str]:
    share, flagged = "Nearest item is of it", "Flagged as copies"
    if report.kind == "text":
        share, flagged = "Characters in its passages", "Passages beyond chance"
    return ["Samples of", "against half", share, flagged, "Facts", "Of its units"]


def _rows(report: TwinReport) -> list[list[str]]:
    rows = []
    for cell in report.cells:
        ends = interval(cell.share, share=True)
        share = number(cell.share.value, share=True) + (f" ({ends})" if ends else "")
        counts = [f"{n:,}" for n in (cell.flagged, cell.facts, cell.items)]
        own = "its own" if cell.twin == cell.half else "the other's"
        rows.append([f"twin {cell.twin}", f"{cell.half}, {own}", share, *counts])
    return rows


def _shares(report: TwinReport) -> Markup | None:
    """Shares of samples nearest to their twin's own half, beside a fair coin."""
    if report.kind == "text":
        return None
    shares = {f"samples of twin {t.half}": report.cell(t.half, t.half).share for t in report.twins}
    return interval_chart(
        shares, "nearest item is of its own half", limits=(0.0, 1.0), fair=0.5, share=True
    )


class SectionView(NamedTuple):
    title: str
    lead: str
    figures: list[list[str]]
    chart: Markup | None
    names: list[str]
    items: list[dict[str, Any]]
    more: int


def _section(kind: str, found: TwinEvidence, pictures: Sequence[Shown]) -> SectionView:
    reproduces = kind == REPRODUCTION
    title = "What each twin reproduces" if reproduces else "How well each twin knows each item"
    lead = (
        f"For every item the {found.measure} of the twin that learned from it, and of the one that"
        " did not. Which twin learned from an item was a coin: if learning made no difference, its"
        " own twin would be ahead of it as often as the other."
    )
    names = ["items of half a", "items of half b"]
    chart = None
    if found.lead is not None and found.in_a is not None:
        series = dict(zip(names, (found.lead[found.in_a], found.lead[~found.in_a]), strict=True))
        label = f"lead of twin a: {found.measure}"
        chart = histogram_chart(series, label, log=reproduces, counted="items")
    figures = [
        ["Mean lead of own twins", _with_ends(found.mean)],
        [f"Own twin is ahead, of {found.differ:,} units in which twins differ (50% by chance)",
         _with_ends(found.ahead, True)],
        ["p of no difference, halves dealt again", number(found.p)],
        [f"Named at q of {NAMED} or less, of {found.units:,}", f"{found.named:,}"],
    ]  # fmt: skip
    shown = [x for x in found.ranked[:SHOWN] if x.score > 0]
    items = [_item(x, pictures[i] if i < len(pictures) else None) for i, x in enumerate(shown)]
    return SectionView(title, lead, figures, chart, names, items, max(found.named - len(items), 0))


def _with_ends(estimate: Estimate, share: bool = False) -> str:
    ends = interval(estimate, share)
    return number(estimate.value, share) + (f" ({ends})" if ends else "")


def _item(item: TwinItem, pictures: Shown | None) -> dict[str, Any]:
    """Context of one item: of images with pictures, of text with passages."""
    other = "b" if item.half == "a" else "a"
    said = [f"half {item.half}", f"twin {item.half}: {number(item.own)}",
            f"twin {other}: {number(item.other)}"]  # fmt: skip
    seen = pictures or Shown(None, None, None)
    return {
        "name": item.name,
        "named": item.q <= NAMED,
        "tags": f"lead {number(item.score)}, q {number(item.q)}",
        "figures": [x for x in zip(seen, said, strict=True) if x[0] is not None],
        "said": said,
        "source": item.source and item.source[:PASSAGE],
        "passage": item.passage and item.passage[:PASSAGE],
    }


def _record(twin: Twin, report: TwinReport) -> dict[str, str]:
    unit = "characters" if report.kind == "text" else "images"
    return {
        "twin": twin.half,
        "run": twin.folder,
        "id": twin.id or "",
        f"{unit} of its half": f"{twin.items:,}",
        "seen in training": f"{twin.seen:,}",
        "fingerprint": twin.fingerprint[:16],
    }
