"""Boden's chart: each term is the figure that it is said to be, and everybody can read it."""

import io

import pytest
from PIL import Image

from novum.report.boden import (
    boden_view,
    chart_of_history,
    chart_of_report,
    chart_of_reports,
    colour,
    draw_boden,
)
from novum.report.compare import comparison_page
from novum.report.image_page import page
from novum.report.model import Estimate, Gate, Report, SetSummary, Space
from tests.report.pages import read
from tests.report.reports import NO_COPIES, report

WORDS = {0.3: "far more unusual", 0.7: "more unusual", 1.0: "as held-out data",
         1.5: "more of the same", 3.0: "far more of the same"}  # fmt: skip


def images(rate=0.02, precision=0.6, density=0.5, floor=0.8, gate=True) -> Report:
    space = Space(
        {"precision": Estimate(precision, max(precision - 0.1, 0), min(precision + 0.1, 1)),
         "density": Estimate(density)},
        {"copy_rate": Estimate(rate, min(rate / 2, 1), min(2 * rate, 1))},
        floor={"precision": Estimate(floor), "density": Estimate(1.25)} if floor else {},
    )  # fmt: skip
    found = Report(SetSummary(n=100), SetSummary(n=100), SetSummary(n=100), {"pixels": space})
    if gate:
        found.gate = Gate(**NO_COPIES | {"copy_rate": Estimate(0.05, 0.04, 0.07)})
    return found


def texts(rate=0.1, novel=0.7) -> Report:
    verbatim = Space(
        {"self_bleu": Estimate(0.3), "self_bleu_heldout": Estimate(0.2)},
        {"novel_10grams": Estimate(novel), "novel_10grams_heldout": Estimate(0.6)},
    )
    folded = Space(novelty={"copy_rate": Estimate(rate, 0.05, 0.2)})
    return Report(features={"verbatim": verbatim, "folded": folded}, kind="text")


def test_terms_of_images():
    chart = chart_of_report(images())
    (place,) = chart.places
    assert place.novelty == Estimate(0.95, pytest.approx(0.93), 0.96)  # of all spaces
    assert place.value == Estimate(0.6, 0.5, pytest.approx(0.7))
    assert place.typicality == 0.5 / 1.25
    (heldout,) = chart.heldout
    assert (heldout.novelty.value, heldout.value.value, heldout.typicality) == (1, 0.8, 1)
    assert chart_of_report(images(gate=False)).places[0].novelty.value == pytest.approx(0.98)


def test_terms_of_text():
    chart = chart_of_report(texts())
    (place,), (heldout,) = chart.places, chart.heldout
    assert place.novelty == Estimate(0.9, 0.8, 0.95)
    assert place.value.value == pytest.approx(0.3) and heldout.value.value == pytest.approx(0.4)
    assert place.typicality == pytest.approx(1.5)
    assert chart.terms.value == "value: share of 10-grams that training text has too"


def test_no_chart_without_its_figures():
    assert chart_of_report(Report()) is None
    without = images(gate=False)
    del without.features["pixels"].novelty["copy_rate"]
    assert chart_of_report(without) is None
    unknown = images()
    unknown.features["pixels"].quality["precision"] = Estimate(None)
    assert chart_of_report(unknown) is None
    for strange in (float("inf"), float("nan"), 1e308, -2.0):
        assert chart_of_report(images(precision=strange)) is None
        assert chart_of_report(images(rate=strange, gate=False)) is None
        assert chart_of_report(images(floor=strange)).heldout == []
    assert chart_of_reports({"a": images(), "b": texts()}) is None
    assert "Novelty, value and" not in page(Report())


def test_no_floor_no_diamond():
    chart = chart_of_report(images(floor=None))
    assert chart.heldout == [] and chart.places[0].typicality is None
    view = boden_view(chart, "all samples")
    assert view.names == ["typicality unknown"] and "diamond" not in view.chart


def history(n=3):
    def row(i: int) -> dict[str, float]:
        figures = {
            "quality/precision": 0.2 * (i + 1),
            "quality/precision_low": 0.2 * i,
            "quality/precision_high": 0.3 * (i + 1),
            "quality/density": 1.0,
            "novelty/copy_rate": 0.1 * i,
            "novelty/copy_rate_low": 0.0,
            "novelty/copy_rate_high": 0.1 * i + 0.1,
        }
        shares = {f"{tag}/pixels": min(value, 1.0) for tag, value in figures.items()}
        return {"images_seen": 1000.0 * (i + 1), **shares}

    return [row(i) for i in range(n)]


def test_a_run_is_a_path():
    floors = {"pixels": {"precision": Estimate(0.9), "density": Estimate(0.5)}}
    chart = chart_of_history(history(), floors, False)
    assert chart.path and [place.name for place in chart.places] == ["1,000", "2,000", "3,000"]
    assert chart.places[2].novelty == Estimate(0.8, pytest.approx(0.7), 1.0)
    assert chart.places[1].value == Estimate(0.4, 0.2, 0.6)
    assert chart.places[0].typicality == 2 and len(chart.heldout) == 1
    view = boden_view(chart, "each evaluation")
    assert view.chart.count("<polyline") == 1 and "follows training" in view.lead
    assert not chart_of_history(history(1), floors, False).path
    broken = [*history(2), {"images_seen": 9.0, "quality/precision/pixels": 0.5}]
    assert len(chart_of_history(broken, floors, False).places) == 2
    diverged = [*history(2), history(3)[2] | {"quality/precision/pixels": float("nan")}]
    assert len(chart_of_history(diverged, floors, False).places) == 2


@pytest.mark.parametrize(("typicality", "words"), WORDS.items())
def test_colours_in_words(typicality, words):
    assert colour(typicality)[2] == words


def test_page_has_the_chart_and_the_same_as_a_table():
    found = read(page(images()))
    assert "Novelty, value and typicality in pixels" in found.sections
    for figure in ("95.0% (93.0% to 96.0%)", "60.0% (50.0% to 70.0%)", "0.4: far more unusual"):
        assert figure in found.text
    (chart,) = (svg for svg in found.all("svg")
                if (svg.get("aria-label") or "").startswith("Value against novelty: "))  # fmt: skip
    assert "held-out data, 100.0%, 80.0%, 1" in chart["aria-label"]
    many = images()
    many.history = history(40)
    assert read(page(many)).text.count("40,000") >= 2  # in the chart and in the table


def test_comparison_has_a_point_for_each_report():
    made = comparison_page({"a": images(), "b": images(precision=0.3)})
    chart = made[made.index('aria-label="Value against novelty') :]
    chart = chart[: chart.index("</svg>")]
    assert chart.count("spot") == 2 and ">A</text>" in chart and ">B</text>" in chart
    assert chart.count("diamond") == 1  # the same held-out data
    other = comparison_page({"a": images(), "b": images(floor=0.7), "c": images()})
    assert ">held-out data of A and C</text>" in other and ">held-out data of B</text>" in other
    assert "Novelty, value and" not in comparison_page({"a": texts(), "b": report()})


@pytest.mark.parametrize(
    "chart",
    [
        chart_of_report(images()),
        chart_of_report(texts()),
        chart_of_report(images(rate=1.0, precision=0.0, density=0.0, floor=None, gate=False)),
        chart_of_history(history(), {}, False),
    ],
)
def test_picture(chart):
    with Image.open(io.BytesIO(draw_boden(chart))) as picture:
        assert picture.format == "PNG" and picture.width > 400
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10
