"""Losses from inside a model and the items that it knows, for the page and TensorBoard."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image

from novum.report.events import literal
from novum.report.figures import histogram_chart
from novum.report.formatting import number
from novum.report.model import Estimate, KnownItem, Membership, Verdict
from novum.report.pictures import Pixels, captioned_table

OPENING = "From inside"  # of the verdict's sentence
NOTHING = f"{OPENING} nothing can be read"  # where the two sets differ
COLUMNS = 6  # of items in a picture


class Known(NamedTuple):
    """Exhibits beyond report.json: losses (n,) and (m,), and the first items that stand out."""

    train: np.ndarray
    heldout: np.ndarray
    images: Pixels | None = None  # uint8 (k, h, w, 3)
    passages: Sequence[str] = ()


class InsideView(NamedTuple):
    """Section of a page."""

    lead: str
    said: str  # by the verdict
    names: list[str]  # of the curves
    chart: Markup
    rows: list[tuple[str, str, str]]  # test, how often with its interval, p
    images: list[tuple[np.ndarray, str, str]]  # with their names and figures
    passages: list[tuple[str, str, str]]  # likewise
    more: int  # items that are not shown


def inside_view(membership: Membership, known: Known, verdict: Verdict) -> InsideView:
    """The section: what the losses are, the tests, and the items that stand out.

    Where the verdict reads nothing from the losses no item is named.
    """
    said = next((r for r in verdict.remarks if r.startswith(OPENING)), "")
    shown = [] if said.startswith(NOTHING) else membership.known
    images = [] if known.images is None else list(known.images)
    return InsideView(
        f"How well the model knows items, by its {membership.loss}: {membership.train_items:,} that"
        f" it was trained on, and {membership.heldout_items:,} like them that it was not. Lower is"
        " better known. A model that knows an item need not reproduce it, and a model may know more"
        " than it shows here: copying is judged above, by what it makes. The control is a figure"
        " that no model has part in.",
        said,
        *_chart(membership, known),
        _tests(membership),
        [(p, _name(i), _figures(i)) for p, i in zip(images, shown, strict=False)],
        [(t, _name(i), _figures(i)) for t, i in zip(known.passages, shown, strict=False)],
        max(0, len(shown) - len(images) - len(known.passages)),
    )


def _chart(membership: Membership, known: Known) -> tuple[list[str], Markup]:
    """Histograms of both sides, the held-out one scaled to as many items."""
    scale = len(known.train) / len(known.heldout)
    names = ["training", "held-out" if scale == 1 else f"held-out, × {scale:.3g}"]
    series = dict(zip(names, (known.train, known.heldout), strict=True))
    return names, histogram_chart(series, membership.loss, weights=(1, scale), counted="items")


def _tests(membership: Membership) -> list[tuple[str, str, str]]:
    tests = [(membership.loss.capitalize(), membership.auc, number(membership.p))]
    if membership.calibrated_auc is not None:
        by = f"Less that of {membership.calibrated_by}"
        tests.append((by, membership.calibrated_auc, "both: above"))
    control = "Compressed size (control)"
    tests.append((control, membership.control_auc, number(membership.control_p)))
    return [(name, _percent(auc), p) for name, auc, p in tests]


def _percent(auc: Estimate) -> str:
    if auc.value is None or auc.low is None or auc.high is None:
        return ""
    return f"{auc.value:.1%} ({auc.low:.1%} to {auc.high:.1%})"


def _name(item: KnownItem) -> str:
    return f"{item.item}" if item.file is None else f"{item.file}, offset {item.file_offset:,}"


def _figures(item: KnownItem) -> str:
    before = "" if item.reference_loss is None else f", before {item.reference_loss:.3g}"
    return f"{item.loss:.3g}{before}, q {item.q:.2g}"


def losses_picture(membership: Membership, known: Known) -> bytes:
    """Histograms of the losses of both sides, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel=membership.loss, ylabel="share of the items")
    both = np.concatenate([known.train, known.heldout])
    low, high = np.percentile(both, [0.5, 99.5]).tolist()
    edges = np.linspace(low, high + (high == low), 41)
    for name, losses in {"training": known.train, "held-out": known.heldout}.items():
        weights = np.full(len(losses), 1 / len(losses))
        inside = losses.clip(edges[0], edges[-1])
        axes.hist(inside, edges, weights=weights, histtype="step", label=name)
    axes.set_title(f"lower for training in {_percent(membership.auc)}, p = {membership.p:.2g}",
                   fontsize=10)  # fmt: skip
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def known_picture(membership: Membership, known: Known) -> Image.Image:
    """The items that stand out, the surest first, row by row."""
    assert known.images is not None
    captions = [_figures(item) for item in membership.known[: len(known.images)]]
    columns = [known.images[i::COLUMNS] for i in range(min(COLUMNS, len(captions)))]
    each = [captions[i::COLUMNS] for i in range(len(columns))]
    return captioned_table(columns, [""] * len(columns), each)


def known_markdown(membership: Membership, known: Known) -> str:
    """The passages that stand out, the surest first."""
    parts = []
    for item, passage in zip(membership.known, known.passages, strict=False):
        lines = "\n".join(f"    {line}" for line in passage.splitlines())
        parts.append(f"**{literal(_name(item))}**: {_figures(item)}\n\n{lines}")
    return "\n\n".join(parts)
