"""Charts as SVG text and pictures as data URIs, for pages that load nothing.

Colours are classes of the page's style, so that a chart suits light and dark screens alike.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import Image

from novum.report.formatting import interval, number, plain, shorten
from novum.report.model import Estimate
from novum.report.pictures import Pixels

WIDTH = 480  # of a chart, in the pixels of its own text
THUMBNAIL = 128  # pixels of the longer side at most
SMALL = 64  # up to here a picture is stored exactly and shown with hard pixels
MOST_DOTS = 3000  # drawn of one scatter
BINS = 40
TAIL = 0.5  # per cent of the values, at either end, that an axis may leave out


class Axis(NamedTuple):
    """Maps [low, high] to the pixels [start, end]."""

    label: str
    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[tuple[float, str]]

    def at(self, values: Any) -> Any:
        """Pixels of values; those beyond the axis are drawn on its edge."""
        share = (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def make_axis(
    label: str, low: float, high: float, start: float, end: float, share: bool = False
) -> Axis:
    """An axis with about five round ticks."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    near = 1e-9 * (high - low)
    steps = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    ticks = [0.0 if abs(t) < near else float(t) for t in steps if low - near <= t <= high + near]
    return Axis(label, low, high, start, end, [(t, _tick(t, share)) for t in ticks])


def _tick(value: float, share: bool) -> str:
    if share:
        return f"{100 * value:.6g}%"
    return EngFormatter(sep="")(value) if abs(value) >= 10_000 else f"{value:.6g}"


def _log_axis(label: str, most: float, start: float, end: float) -> Axis:
    """Axis of counts given as log10; empty bins are below 1."""
    high = np.log10(max(most, 9)) + 0.1
    ticks = [(power, f"{10**power:,}") for power in range(int(high) + 1)]
    return Axis(label, -0.3, high, start, end, ticks)


def scatter_chart(
    points: Mapping[str, np.ndarray],
    marks: Sequence[tuple[str, np.ndarray]],
    x_label: str,
    y_label: str,
) -> Markup:
    """Points (n, 2) by class, and rings of a class around marked ones (k, 2); no NaNs."""
    points = {name: at[~np.isnan(at).any(1)] for name, at in points.items()}
    marks = [(name, at[~np.isnan(at).any(1)]) for name, at in marks]
    every = np.concatenate([*points.values(), *(at for _, at in marks)])
    y = make_axis(y_label, *_limits(every[:, 1]), 318, 12)
    x = make_axis(x_label, *_limits(every[:, 0]), room_beside(y), WIDTH - 12)
    dots = [
        f'<circle class="{name} dot" cx="{a:.1f}" cy="{b:.1f}" r="2.2"/>'
        for name, at in points.items()
        for a, b in zip(x.at(at[:, 0]), y.at(at[:, 1]), strict=True)
    ]
    rings = [
        f'<circle class="{name} ring" cx="{a:.1f}" cy="{b:.1f}" r="5"/>'
        for name, at in marks
        for a, b in zip(x.at(at[:, 0]), y.at(at[:, 1]), strict=True)
    ]
    return svg(364, f"{y_label} against {x_label}", frame(x, y), *dots, *rings)


def _limits(values: np.ndarray, tail: float = TAIL) -> tuple[float, float]:
    """From the lowest to the highest usual value, with some air."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = np.percentile(finite, [tail, 100 - tail])
    air = 0.04 * (high - low) or 0.1 * abs(low) or 0.5
    return float(low - air), float(high + air)


def room_beside(y: Axis) -> float:
    """Pixels to the left of a chart, for what stands beside its vertical axis."""
    return max(54, 26 + 7.5 * max(len(text) for _, text in y.ticks))


def few(rows: np.ndarray, at_most: int = MOST_DOTS) -> np.ndarray:
    """All rows, or a random choice that is the same every time."""
    if len(rows) <= at_most:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, at_most, replace=False))


def histogram_chart(
    series: Mapping[str, np.ndarray],
    x_label: str,
    *,
    log: bool = False,
    weights: Sequence[float] = (1, 1),
    mark: float | None = None,
    counted: str = "samples",
) -> Markup:
    """Counts of one or two sets of values; infinite values count at the edge, NaNs nowhere."""
    known = [values[~np.isnan(values)] for values in series.values()]
    low, high = _histogram_limits(np.concatenate(known))
    edges = np.linspace(low, high, BINS + 1)
    counts = [
        weight * np.histogram(np.clip(values, low, high), edges)[0]
        for values, weight in zip(known, weights, strict=False)
    ]
    most = max(float(count.max()) for count in counts)
    label = counted + (" (log scale)" if log else "")
    y = _log_axis(label, most, 208, 10) if log else make_axis(label, 0, max(most, 1), 208, 10)
    x = make_axis(x_label, low, high, room_beside(y), WIDTH - 12)
    heights = [np.log10(np.maximum(count, 10**y.low)) if log else count for count in counts]
    curves = [_steps(x.at(edges), y.at(h), y.start, i) for i, h in enumerate(heights)]
    if mark is not None and low <= mark <= high:
        at = f"{x.at(mark):.1f}"
        curves.append(f'<line class="fair" x1="{at}" x2="{at}" y1="{y.end}" y2="{y.start}"/>')
    return svg(254, f"Histogram of {x_label}: {', '.join(series)}", frame(x, y), *curves)


def _histogram_limits(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(np.percentile(finite, 100 - TAIL))
    low = 0.0 if 0 <= low < 0.3 * high else low
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _steps(edges: np.ndarray, heights: np.ndarray, floor: float, i: int) -> str:
    """Draw the first as an area and the others as lines, so that they differ without colours."""
    corners = " ".join(
        f"{a:.1f},{h:.1f} {b:.1f},{h:.1f}"
        for a, b, h in zip(edges[:-1], edges[1:], heights, strict=True)
    )
    line = f'<polyline class="c{i} curve{" dash" if i else ""}" points="{corners}"/>'
    closed = f"{edges[0]:.1f},{floor} {corners} {edges[-1]:.1f},{floor}"
    return line if i else f'<polygon class="c{i} area" points="{closed}"/>{line}'


def interval_chart(
    rows: Mapping[str, Estimate],
    x_label: str,
    *,
    limits: tuple[float, float],
    fair: float | None = None,
    share: bool = False,
    width: int = WIDTH,
) -> Markup:
    """A dot and a whisker per row, and a line where `fair` is: a test judges, not a chart."""
    x = make_axis(x_label, *limits, 22, width - 22, share)
    floor = 8 + 38 * len(rows)
    parts = [frame(x, Axis("", 0, 1, floor, 4, ()))]
    if fair is not None:
        at = x.at(fair)
        parts.append(f'<line class="fair" x1="{at:.1f}" x2="{at:.1f}" y1="4" y2="{floor}"/>')
    for i, (name, estimate) in enumerate(rows.items()):
        parts.append(_interval_row(x, name, estimate, 38 * i + 22, i, share, width))
    return svg(floor + 44, f"{x_label}: {', '.join(rows)}", *parts, width=width)


def _ends(estimate: Estimate) -> tuple[float, float, float] | None:
    """Low end, value and high end; an end that is unknown is the value."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None:
        return None
    return value if low is None else low, value, value if high is None else high


def _interval_row(
    x: Axis, name: str, estimate: Estimate, y: float, i: int, share: bool, width: int
) -> str:
    ends, known = interval(estimate, share), _ends(estimate)
    figure = number(estimate.value, share) + (f" ({ends})" if ends and width == WIDTH else "")
    room = int((width - 44) / 7.7) - len(figure) - 2
    label = (
        f'<text class="name" x="{x.start}" y="{y - 3}">{clean(shorten(name, room))}</text>'
        f'<text x="{x.end}" y="{y - 3}" text-anchor="end">{clean(figure)}</text>'
    )
    if known is None:
        return label
    (a, at, b), y = (x.at(end) for end in known), y + 8
    return (
        f'{label}<line class="c{i % 6} whisker" x1="{a:.1f}" x2="{b:.1f}" y1="{y}" y2="{y}"/>'
        f'<circle class="c{i % 6} dot" cx="{at:.1f}" cy="{y}" r="5"/>'
    )


def line_chart(
    curves: Mapping[str, np.ndarray],
    x_label: str,
    y_label: str,
    share: bool = False,
    dots: bool = True,
) -> Markup:
    """Curves through points (n, 2); a curve without points keeps its colour for another chart."""
    every = np.concatenate(list(curves.values()))
    low, high = _limits(every[:, 1], tail=0)
    if not np.any(every[:, 1] < 0):
        low = max(low, 0.0)
    if share and not np.any(every[:, 1] > 1):
        high = min(high, 1.0)
    y = make_axis(y_label, low, high, 208, 12, share)
    x = make_axis(x_label, 0, every[:, 0].max(initial=1), room_beside(y), WIDTH - 16)
    drawn = []
    for i, at in enumerate(curves.values()):
        corners = list(zip(x.at(at[:, 0]), y.at(at[:, 1]), strict=True))
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
        drawn.append(f'<polyline class="c{i % 6} curve" points="{points}"/>')
        drawn += [
            f'<circle class="c{i % 6} dot" cx="{a:.1f}" cy="{b:.1f}" r="3"/>'
            for a, b in corners
            if dots
        ]
    return svg(254, f"{y_label} against {x_label}", frame(x, y), *drawn)


def share_bar(estimate: Estimate) -> Markup:
    """A bar from 0 to 1 with its interval, for a cell of a table."""
    known = _ends(estimate)
    if known is None:
        return Markup("")
    a, at, b = (100 * float(np.clip(end, 0, 1)) for end in known)
    return Markup(
        '<svg class="bar" viewBox="0 0 100 16" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" y="3" height="10"/>'
        f'<rect class="c0 dot" width="{at:.1f}" y="3" height="10"/>'
        f'<line class="end" x1="{a:.1f}" x2="{b:.1f}" y1="8" y2="8"/></svg>'
    )


def frame(x: Axis, y: Axis) -> str:
    """Grid lines, ticks and the names of both axes; the floor is at y.start."""
    parts = []
    for value, text in x.ticks:
        at = f"{x.at(value):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{y.end}" y2="{y.start}"/>')
        parts.append(f'<text x="{at}" y="{y.start + 16}" text-anchor="middle">{clean(text)}</text>')
    for value, text in y.ticks:
        at = y.at(value)
        parts.append(
            f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(f'<text x="{x.start - 6}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    middle = (y.start + y.end) / 2
    parts.append(
        f'<text class="name" x="{(x.start + x.end) / 2:.1f}" y="{y.start + 36}"'
        f' text-anchor="middle">{clean(x.label)}</text>'
        f'<text class="name" x="12" y="{middle}" text-anchor="middle"'
        f' transform="rotate(-90 12 {middle})">{clean(y.label)}</text>'
    )
    return "".join(parts)


def clean(text: object) -> Markup:
    """Escape any text so that SVG shows it."""
    return escape(plain(text))


def svg(height: float, title: str, *parts: str, width: int = WIDTH) -> Markup:
    """Parts of a chart as a picture that goes by its title."""
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{clean(title)}"'
        f' style="max-width:{1.25 * width:.0f}px">{"".join(parts)}</svg>'
    )


def picture(image: Pixels, alt: str) -> Markup:
    """Thumbnail (h, w, 3) as an <img> that holds its own bytes."""
    small = Image.fromarray(np.ascontiguousarray(image))
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    exact = max(image.shape[:2]) <= SMALL
    buffer = io.BytesIO()
    if exact:
        small.save(buffer, "PNG", optimize=True)
    else:
        small.save(buffer, "JPEG", quality=90, subsampling=0)
    kind = "png" if exact else "jpeg"
    encoded = base64.b64encode(buffer.getvalue()).decode()
    hard = ' class="px"' if exact else ""
    return Markup(
        f'<img{hard} src="data:image/{kind};base64,{encoded}" alt="{clean(alt)}"'
        f' width="{small.width}" height="{small.height}">'
    )


def difference(a: Pixels, b: Pixels) -> Pixels:
    """|a - b| of uint8 pictures: black where they agree."""
    return np.abs(a.astype(np.int16) - b.astype(np.int16)).astype(np.uint8)
