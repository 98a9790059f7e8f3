"""Exhibits of single images: neighbours, exemplars, distributions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from novum.report.figures import difference, few, histogram_chart, scatter_chart
from novum.report.formatting import number
from novum.report.model import Report
from novum.report.pictures import Pixels

Reviews = Mapping[tuple[object, object], str]  # decisions by names of sample and source
NOBODY: Reviews = {}
FACTS = {"identical": "identical", "near_identical": "nearly identical"}


class NoveltyPanel(NamedTuple):
    """Samples beside their neighbours in one feature space; k of each, in any order."""

    space: str
    samples: Pixels  # uint8 (k, h, w, 3)
    train: Pixels  # nearest training images
    train_distance: Sequence[float]
    heldout: Pixels | None = None
    heldout_distance: Sequence[float] | None = None
    aligned: Pixels | None = None  # training images brought onto the samples, of their size
    q: Sequence[float | None] | None = None  # of the copy test
    copies: Sequence[bool] | None = None  # flagged by it
    transform: Sequence[str | None] | None = None  # how a training image was altered
    sample_names: Sequence[object] | None = None  # paths or row numbers
    train_names: Sequence[object] | None = None
    sample_outline: np.ndarray | None = None  # (k, 4, 2) corners of the part that both show: x and
    train_outline: np.ndarray | None = None  # y in shares of the sides, which may lie outside
    facts: Sequence[str | None] | None = None  # identical or near_identical, if it is a fact


class FactPair(NamedTuple):
    """A sample that is identical, or nearly so, to a training image."""

    kind: str
    sample: np.ndarray  # uint8 (h, w, 3)
    train: np.ndarray
    sample_name: object
    train_name: object


class Exemplars(NamedTuple):
    """Some samples of one sort."""

    title: str
    rows: np.ndarray  # (k,) among the m plotted
    images: Pixels  # uint8 (k, h, w, 3)
    names: Sequence[object]  # k paths or row numbers


class Scatter(NamedTuple):
    """Quality against novelty of m samples; larger is more of both."""

    space: str
    novelty: np.ndarray  # (m,)
    quality: np.ndarray  # (m,)
    copies: np.ndarray  # (m,) bool
    exemplars: Sequence[Exemplars] = ()
    novelty_label: str = "novelty: distance to the nearest training image"
    quality_label: str = "quality: realism"


class Margins(NamedTuple):
    """Margins by which each sample's nearest item, training or held-out, is the nearest."""

    margin: np.ndarray  # (m,)
    side: np.ndarray  # (m,) 1 where the item was trained on, -1 where it is held out, else 0
    odds: float = 1.0  # training items for each held-out one
    threshold: float | None = None  # the smallest of a sample that is named as a copy


class Distributions(NamedTuple):
    """Distances of all m samples to their nearest images in one feature space."""

    space: str
    train_distance: np.ndarray  # (m,)
    heldout_distance: np.ndarray | None = None
    margins: Margins | None = None


def exemplar_rows(
    novelty: np.ndarray, quality: np.ndarray, copies: np.ndarray, each: int = 6
) -> dict[str, np.ndarray]:
    """Rows of the most novel, most typical and most copied samples, by the title they go under.

    The most novel are of the better half: what is far from everything may be just broken.
    """
    good = np.flatnonzero(quality >= np.nanmedian(quality))
    novel = good[np.argsort(-novelty[good], kind="stable")]
    typical = np.argsort(_off_centre(novelty) + _off_centre(quality), kind="stable")
    suspects = np.flatnonzero(copies) if copies.any() else np.arange(len(novelty))
    copied = suspects[np.argsort(novelty[suspects], kind="stable")]
    title = "Most copied" if copies.any() else "Nearest to training images"
    found = {"Most novel of the better half": novel, "Most typical": typical, title: copied}
    return {title: rows[:each] for title, rows in found.items()}


def _off_centre(values: np.ndarray) -> np.ndarray:
    """Distance of each value's rank from the middle."""
    ranks = values.argsort(kind="stable").argsort(kind="stable")
    return np.abs(ranks - (len(values) - 1) / 2)


class ImageView(NamedTuple):
    """A picture with its caption, and a figure if there is one."""

    image: Pixels
    alt: str
    caption: str
    value: str | None = None
    outline: str | None = None  # points of a polygon in a square of side 1


class SuspectView(NamedTuple):
    """One row of a panel: sample, training, held-out, difference."""

    sample: str
    train: str  # empty if the images have no names
    tags: list[str]
    copy: bool
    figures: list[ImageView]


class PanelView(NamedTuple):
    space: str
    lead: str
    rows: list[SuspectView]


def panel_view(panel: NoveltyPanel, reviewed: Reviews = NOBODY) -> PanelView:
    """Return a panel's rows, the most suspicious first, with a person's word on named pairs."""
    sentences = ["Each sample beside the training image nearest to it, most suspicious first."]
    if panel.heldout is not None:
        sentences.append(
            "The held-out image shows how near is near by chance. A copy is much nearer to"
            " training, and so is a natural near-duplicate: named are those with the tag copy."
        )
    if panel.aligned is not None:
        sentences.append(
            "The difference, with its mean in grey levels of 255, is taken after the training image"
            " was brought onto the sample; black is identical. Lines enclose what both show."
        )
    sentences.append("Numbers below neighbours are distances in this space.")
    if panel.q is not None:
        sentences.append(
            "q: expected share of errors among those at least as suspicious, facts aside."
        )
    rows = [_suspect(panel, int(i), reviewed) for i in by_suspicion(panel)]
    return PanelView(panel.space, " ".join(sentences), rows)


def by_suspicion(panel: NoveltyPanel) -> np.ndarray:
    """Rows by q, then by the distance to training in terms of that to held-out images."""
    q = (
        [1.0] * len(panel.samples)
        if panel.q is None
        else [1.0 if v is None else v for v in panel.q]
    )
    usual = np.ones(len(q)) if panel.heldout_distance is None else panel.heldout_distance
    ratio = np.asarray(panel.train_distance) / np.maximum(np.asarray(usual), 1e-12)
    return np.lexsort(np.stack([ratio, np.asarray(q, float)]))


def _suspect(panel: NoveltyPanel, i: int, reviewed: Reviews) -> SuspectView:
    sample = _named("Sample", panel.sample_names, i)
    train = _named("training image", panel.train_names, i)
    figures = [
        ImageView(panel.samples[i], sample, "sample", outline=_outline(panel.sample_outline, i)),
        ImageView(
            panel.train[i],
            f"nearest {train}",
            "training",
            _short(panel.train_distance[i]),
            _outline(panel.train_outline, i),
        ),
    ]
    if panel.heldout is not None and panel.heldout_distance is not None:
        distance = _short(panel.heldout_distance[i])
        figures.append(ImageView(panel.heldout[i], "nearest held-out image", "held-out", distance))
    if panel.aligned is not None:
        apart = difference(panel.samples[i], panel.aligned[i])
        figures.append(
            ImageView(apart, "difference of the two", "difference", _short(float(apart.mean())))
        )
    copy = panel.copies is not None and bool(panel.copies[i])
    fact = panel.facts[i] if panel.facts is not None else None
    q = None if panel.q is None or fact == "identical" else panel.q[i]
    transform = None if panel.transform is None else panel.transform[i]
    tags = ["copy"] if copy else []
    tags += [tag for tag in (fact and FACTS[fact], transform) if tag]
    tags += [] if q is None else [f"q {q:.3g}"]
    if panel.sample_names is not None and panel.train_names is not None:
        word = reviewed.get((panel.sample_names[i], panel.train_names[i]))
        tags += [f"{word} by a person"] if word else []
    return SuspectView(sample, train if panel.train_names is not None else "", tags, copy, figures)


def _outline(corners: np.ndarray | None, i: int) -> str | None:
    return None if corners is None else " ".join(f"{x:.4g},{y:.4g}" for x, y in corners[i])


def _named(words: str, names: Sequence[object] | None, i: int) -> str:
    return words if names is None else f"{words} {names[i]}"


def _short(value: float) -> str:
    return number(float(f"{value:.3g}"))


class ExemplarsView(NamedTuple):
    title: str
    items: list[tuple[Pixels, object]]  # images and their names


class ScatterView(NamedTuple):
    space: str
    chart: Markup
    names: list[str]  # of the legend
    classes: list[str]
    drawn: int
    total: int
    exemplars: list[ExemplarsView]


def scatter_view(scatter: Scatter) -> ScatterView:
    """Return a chart of quality against novelty, and exemplars by what marks them in it."""
    at = np.stack([scatter.novelty, scatter.quality], 1)
    points = {"mass": at[few(np.flatnonzero(~scatter.copies))]}
    if scatter.copies.any():
        points["alarm"] = at[few(np.flatnonzero(scatter.copies))]
    marks = [(f"c{i}", at[e.rows]) for i, e in enumerate(scatter.exemplars)]
    return ScatterView(
        scatter.space,
        scatter_chart(points, marks, scatter.novelty_label, scatter.quality_label),
        ["samples", "named as copies"][: len(points)],
        list(points),
        sum(len(p) for p in points.values()),
        len(at),
        [
            ExemplarsView(e.title, list(zip(e.images, e.names, strict=True)))
            for e in scatter.exemplars
        ],
    )


def distributions_lead(report: Report, spaces: Sequence[Distributions]) -> str:
    """Guide to the charts of distances and margins."""
    lead = (
        "How far the samples lie from their nearest images. Copies, where there are any, make a"
        " heap at the left; the last bar counts everything beyond."
    )
    if any(space.margins is not None for space in spaces):
        lead += (
            " The margin says how plainly one image is the nearest. By chance both curves agree;"
            " many copies are a right tail of training alone, and so is a difference between the"
            " two sets. Samples named as copies stand to the right of a dashed line."
        )
    return lead + _unequal(report)


def _unequal(report: Report) -> str:
    """Warn that the larger set is nearer by chance."""
    train, heldout = report.train.n, report.heldout and report.heldout.n
    if not train or not heldout or max(train, heldout) < 1.2 * min(train, heldout):
        return ""
    return (
        f" There are {train:,} training and {heldout:,} held-out images, and the larger set is"
        " nearer by chance: the distances are not corrected for that, the shares above are."
    )


class HistogramView(NamedTuple):
    space: str
    names: list[str]
    chart: Markup


def distribution_views(spaces: Sequence[Distributions]) -> Iterator[HistogramView]:
    """Yield a chart of distances for each feature space, and one of margins where known."""
    for found in spaces:
        distances = {"to the nearest training image": np.asarray(found.train_distance)}
        if found.heldout_distance is not None:
            distances["to the nearest held-out image"] = np.asarray(found.heldout_distance)
        chart = histogram_chart(distances, f"distance in {found.space}")
        yield HistogramView(found.space, list(distances), chart)
        if found.margins is not None:
            yield _margin_histogram(found.space, found.margins)


def _margin_histogram(space: str, found: Margins) -> HistogramView:
    """Histogram in which held-out matches are scaled to what chance gives training."""
    margin, side = np.asarray(found.margin), np.asarray(found.side)
    scale = "" if found.odds == 1 else f", × {found.odds:.3g}"
    series = {
        "nearest is a training image": margin[side > 0],
        f"nearest is a held-out image{scale}": margin[side < 0],
    }
    chart = histogram_chart(
        series, "margin", log=True, weights=(1, found.odds), mark=found.threshold
    )
    return HistogramView(space, list(series), chart)
