"""Charts put values where they belong, and pictures keep their bytes."""

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from novum.report.figures import (
    difference,
    few,
    histogram_chart,
    interval_chart,
    line_chart,
    make_axis,
    picture,
    scatter_chart,
    share_bar,
    shorten,
)
from novum.report.model import Estimate


def elements(svg: str, tag: str, kind: str = "") -> list[dict[str, str]]:
    """Attributes of the elements of a chart; it must be well-formed XML."""
    found = [e for e in ET.fromstring(svg).iter() if e.tag == tag]
    return [e.attrib for e in found if kind in e.attrib.get("class", "")]


def texts(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ET.fromstring(svg).iter() if e.tag == "text"]


def test_axis_maps_ends_to_ends_and_keeps_what_lies_beyond():
    axis = make_axis("x", 10, 20, 100, 300)
    assert axis.at(10) == 100 and axis.at(20) == 300 and axis.at(15) == 200
    assert axis.at(np.inf) == 300 and axis.at(-np.inf) == 100
    assert [text for _, text in axis.ticks] == ["10", "12", "14", "16", "18", "20"]


@pytest.mark.parametrize(
    ("low", "high", "share", "some"),
    [
        (0, 1, True, "40%"),
        (0.45, 0.55, True, "47.5%"),
        (0, 640_000, False, "200k"),
        (-1e-7, 1e-7, False, "0"),
        (3, 3, False, "3"),
    ],
)
def test_ticks_are_round(low, high, share, some):
    ticks = [text for _, text in make_axis("x", low, high, 0, 1, share).ticks]
    assert some in ticks
    assert len(set(ticks)) == len(ticks) <= 7


def test_scatter_draws_every_point_and_clips_the_infinite():
    usual = np.stack([np.linspace(0, 1, 11), np.linspace(0, 1, 11)], 1)
    odd = np.array([[0.5, np.inf], [np.nan, 0.5]])
    svg = scatter_chart({"mass": usual, "alarm": odd}, [("c0", usual[:2])], "newer", "better")
    assert len(elements(svg, "circle", "mass")) == 11
    (shown,) = elements(svg, "circle", "alarm")  # the NaN is left out
    top = min(float(e["cy"]) for e in elements(svg, "circle"))
    assert float(shown["cy"]) == top
    assert len(elements(svg, "circle", "ring")) == 2
    assert {"newer", "better"} <= set(texts(svg))
    first, last = elements(svg, "circle", "mass")[0], elements(svg, "circle", "mass")[-1]
    assert float(first["cx"]) < float(last["cx"]) and float(first["cy"]) > float(last["cy"])


def test_histogram_counts_everything_but_nans():
    values = np.r_[np.zeros(30), np.ones(10), np.inf, np.nan]
    svg = histogram_chart({"train": values, "heldout": np.ones(20)}, "distance")
    area = elements(svg, "polyline", "c0")[0]["points"].split()
    heights = [float(p.split(",")[1]) for p in area]
    floor = max(heights)
    left, right = floor - heights[0], floor - heights[-1]
    assert left == pytest.approx(30 / 11 * right, rel=0.02)  # the infinite one is in the last bin
    assert "samples" in texts(svg) and "distance" in texts(svg)


def test_log_histogram_shows_a_single_copy():
    svg = histogram_chart(
        {"a": np.r_[np.full(1000, 0.1), 5.0], "b": np.full(9, 0.1)}, "x", log=True
    )
    heights = [float(p.split(",")[1]) for p in elements(svg, "polyline", "c0")[0]["points"].split()]
    assert heights[-1] < max(heights) - 5
    assert {"1", "10", "100", "1,000"} <= set(texts(svg))


def test_histogram_marks_a_threshold_only_where_it_can():
    values = np.linspace(0, 1, 50)
    drawn, beyond = (histogram_chart({"a": values}, "x", mark=mark) for mark in (0.5, np.inf))
    (line,) = elements(drawn, "line", "fair")
    assert 240 < float(line["x1"]) < 280
    assert not elements(beyond, "line", "fair")


@pytest.mark.parametrize("values", [np.array([]), np.full(5, np.nan), np.full(5, 2.0), np.zeros(1)])
def test_charts_of_next_to_nothing(values):
    histogram_chart({"a": values, "b": values}, "x")
    histogram_chart({"a": values, "b": values}, "x", log=True)
    scatter_chart({"a": np.stack([values, values], 1)}, [], "x", "y")
    line_chart({"a": np.empty((0, 2))}, "x", "y")


def test_intervals_lie_around_their_values():
    rows = {"a": Estimate(0.5, 0.4, 0.6), "b": Estimate(None)}
    svg = interval_chart(rows, "share", limits=(0.0, 1.0), fair=0.5, share=True)
    (whisker,) = elements(svg, "line", "whisker")
    (dot,) = elements(svg, "circle")
    (fair,) = elements(svg, "line", "fair")
    assert float(whisker["x1"]) < float(dot["cx"]) < float(whisker["x2"])
    assert dot["cx"] == fair["x1"]
    assert "50.0% (40.0% to 60.0%)" in texts(svg) and "–" in texts(svg)


def test_lines_go_through_all_points():
    points = np.array([[100.0, 5.0], [200.0, 1.0]])
    svg = line_chart({"A": points, "B": np.empty((0, 2)), "C": points + 1}, "images", "distance")
    assert len(elements(svg, "circle", "c0")) == len(elements(svg, "circle", "c2")) == 2
    assert not elements(svg, "circle", "c1")


def ticks(svg):
    """Of the vertical axis: where its labels begin and what they say."""
    every = [e for e in ET.fromstring(svg).iter("text")]
    found = [e for e in every if e.get("text-anchor") == "end"]
    return {e.text: float(e.get("x")) - 7.5 * len(e.text) for e in found}


@pytest.mark.parametrize(
    ("value", "share", "lowest", "highest"),
    [(0.0, True, "0%", "50%"), (1.0, True, "90%", "100%"), (0.0, False, "0", "0.5"),
     (-3.0, False, "-3.3", "-2.7")],
)  # fmt: skip
def test_a_constant_stays_within_what_its_metric_can_be(value, share, lowest, highest):
    found = list(ticks(line_chart({"A": np.array([[1.0, value]] * 3)}, "x", "y", share)))
    assert float(lowest.strip("%")) <= float(found[0].strip("%"))
    assert float(found[-1].strip("%")) <= float(highest.strip("%"))


def test_long_ticks_leave_room_for_the_name_of_their_axis():
    points = np.array([[100.0, 0.99931], [200.0, 0.99942]])
    assert min(ticks(line_chart({"A": points}, "x", "y", share=True)).values()) > 18


def test_bar_is_as_long_as_its_share():
    svg = share_bar(Estimate(0.31, 0.26, 0.34))
    assert elements(svg, "rect", "c0")[0]["width"] == "31.0"
    assert share_bar(Estimate(None)) == ""


def decoded(tag: str) -> Image.Image:
    kind, data = re.search(r'src="data:image/(\w+);base64,([^"]+)"', tag).groups()
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format.lower() == kind
    return image


def test_small_pictures_are_exact_and_large_ones_thumbnails():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (28, 32, 3), dtype=np.uint8)
    tag = picture(small, 'a "name"')
    assert np.array_equal(np.asarray(decoded(tag)), small)
    assert 'class="px"' in tag and "&#34;name&#34;" in tag
    large = picture(rng.integers(0, 256, (600, 300, 3), dtype=np.uint8), "x")
    assert decoded(large).size == (64, 128)
    assert 'class="px"' not in large


def test_difference_does_not_wrap_around():
    a, b = np.full((1, 1, 3), 10, np.uint8), np.full((1, 1, 3), 250, np.uint8)
    assert difference(a, b)[0, 0].tolist() == difference(b, a)[0, 0].tolist() == [240] * 3


def test_few_are_the_same_every_time():
    rows = np.arange(100)
    assert few(rows, 100) is rows
    assert few(rows, 10).tolist() == few(rows, 10).tolist()
    assert len(set(few(rows, 10).tolist())) == 10


def test_long_names_keep_their_end():
    assert shorten("checkpoint:/a/b/best.ckpt", 11) == "…/best.ckpt"
    assert shorten("pixels", 11) == "pixels"
