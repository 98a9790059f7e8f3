"""Two or more reports side by side."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from novum.report.compare import (
    best,
    comparison_page,
    comparison_rows,
    comparison_table,
    mismatches,
    read_reports,
)
from novum.report.model import Estimate, Finding, Report, SetSummary, Space, Verdict
from tests.report.pages import read
from tests.report.reports import contents, report
from tests.report.test_image_page import HOSTILE


def around(value: float) -> Estimate:
    return Estimate(value, value - 1, value + 1)


def pair() -> dict[str, Report]:
    """The second is better by every metric, beyond the interval where there is one."""
    first, second = report(), report()
    second.features["pixels"].quality |= {
        "frechet_distance": Estimate(6.0),
        "kernel_distance": Estimate(0.01, 0.0, 0.02),
        "precision": Estimate(0.75),
    }
    return {"runs/a": first, "runs/b": second}


def printed(reports: dict[str, Report]) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(comparison_table(reports))
    text = console.file.getvalue()
    text.encode("utf-8")
    return text


def test_rows_hold_every_metric_of_any_report():
    reports = pair()
    reports["runs/b"].features["clip"] = Space({"vendi_score": Estimate(3.0)})
    rows = comparison_rows(reports)
    assert [group for group, _, _ in rows] == ["quality"] * 5 + ["novelty"] * 7
    assert rows["quality", "vendi_score", "clip"] == [None, Estimate(3.0)]
    first, second = rows["quality", "frechet_distance", "pixels"]
    assert (first.value, second.value) == (12.345, 6.0)


@pytest.mark.parametrize(
    ("metric", "row", "first"),
    [
        ("precision", [Estimate(0.5), Estimate(0.6)], 1),
        ("frechet_distance", [Estimate(5.0), Estimate(6.0)], 0),
        ("memorization_informed_frechet_distance", [Estimate(5.0), Estimate(6.0)], 0),
        ("precision", [Estimate(0.5), Estimate(0.5)], None),
        ("precision", [Estimate(0.5), None, Estimate(None)], None),
        ("closer_to_train", [Estimate(0.4), Estimate(0.6)], None),
        ("unheard_of", [Estimate(0.4), Estimate(0.6)], None),
        (
            "kernel_distance",
            [Estimate(1, 0, 2), Estimate(3, 2, 4)],
            None,
        ),
        (
            "kernel_distance",
            [Estimate(1, 0, 2), Estimate(4, 3, 5)],
            0,
        ),
        ("kernel_distance", [around(1), around(3)], None),
        ("kernel_distance", [around(1), around(4)], 0),
        ("kernel_distance", [around(1), Estimate(1.5)], None),
    ],
)
def test_best_is_beyond_the_intervals_of_the_others(metric, row, first):
    assert best(metric, row) == first


def test_table_marks_the_best():
    lines = printed(pair()).splitlines()
    (frechet,) = [line for line in lines if "frechet_distance" in line]
    assert "12.35 " in frechet and "6 *" in frechet
    (kernel,) = [line for line in lines if "kernel_distance" in line]
    assert "0.01 (0 to 0.02) *" in kernel
    (share,) = [line for line in lines if "closer_to_train" in line]
    assert "*" not in share


def test_names_are_no_markup():
    first, second = pair().values()
    text = printed({"[red]a[/red]": first, "[/]\udcff": second})
    assert "[red]a[/red]" in text and "\\udcff" in text


def test_mismatches_are_told():
    reports = pair()
    assert mismatches(reports) == []
    other = reports["runs/b"]
    other.samples.n = 5000
    other.train.fingerprint = "another"
    reports["runs/a"].features["pixels"].extractor = "pixels/32"
    other.features["pixels"].extractor = "pixels/64"
    other.verdict = Verdict(Finding.COPYING, "Copying found")
    told = mismatches(reports)
    assert len(told) == 4
    assert "numbers of samples" in told[0] and "training data" in told[1]
    assert "pixels stands for different extractors" in told[2] and "runs/b copies" in told[3]


def test_a_set_that_one_report_does_not_know_is_no_mismatch():
    reports = pair()
    reports["runs/a"].train = SetSummary()
    reports["runs/a"].heldout = None
    assert mismatches(reports) == []


@pytest.mark.parametrize(("kind", "seen"), [("image", "images"), ("text", "characters")])
def test_page_shows_all_side_by_side(kind, seen):
    reports = pair()
    for i, found in enumerate(reports.values(), 1):
        found.kind = kind
        found.history = [
            {
                "tokens_seen" if kind == "text" else "images_seen": n,
                "quality/frechet_distance/pixels": i * n,
            }
            for n in (100, 200)
        ]
    found = read(comparison_page(reports))
    assert found.sections == [
        "A · runs/a: No copying found in 1,000 samples",
        "A · runs/a: Quality is not rated",
        "B · runs/b: No copying found in 1,000 samples",
        "B · runs/b: Quality is not rated",
        "Quality",
        "Novelty",
        *["Novelty, value and typicality in pixels"] * (kind == "image"),
        "Side by side",
        "During training",
        "Settings and cost",
    ]
    assert len([a for a in found.all("span") if a.get("class") == "best"]) == 3
    assert len(found.all("polyline")) == 2
    assert f"training {seen} seen" in found.text


def test_texts_and_images_are_told_apart():
    reports = pair()
    reports["runs/b"].kind = "text"
    assert mismatches(reports)[0] == "Texts and images: no figure is of both."


def test_page_escapes_names():
    first, second = pair().values()
    second.features[HOSTILE] = second.features.pop("pixels")
    second.samples.path = HOSTILE
    text = read(comparison_page({"a": first, HOSTILE: second})).text
    assert "<script>alert(1)</script>.png" in text


def test_reports_are_read_by_the_name_of_their_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(contents(verdict=name)))
    paths = [tmp_path / name / "report.json" for name in ("a", "b")]
    found = read_reports(paths)
    assert list(found) == [str(path.parent) for path in paths]
    assert [r.verdict.sentences for r in found.values()] == [("a",), ("b",)]
    with pytest.raises(ValueError, match="given twice"):
        read_reports([paths[0], paths[0]])
    with pytest.raises(ValueError, match="1 reports to compare: give at least 2"):
        read_reports(paths[:1])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read .No such file or directory."),
        ("{", "cannot be read .it is not JSON."),
        ("\udcff", "cannot be read .it is not JSON."),
        ("[1]", "is not a report"),
        ('{"schema": 1}', "is not a report"),
        ('{"schema": 3, "verdict": "", "features": {}}', "schema 3"),
        ('{"schema": 2, "verdict": "", "features": {}}', "finding has another shape"),
    ],
)
def test_what_is_no_report_is_told_in_one_line(tmp_path, content, reason):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(contents()))
    if content is not None:
        bad.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=reason) as error:
        read_reports([good, bad])
    assert str(bad) in str(error.value) and "\n" not in str(error.value)


def test_a_file_of_another_name_goes_by_that(tmp_path):
    for name in ("x.json", "y.json"):
        Path(tmp_path, name).write_text(json.dumps(contents()))
    assert list(read_reports([tmp_path / "x.json", tmp_path / "y.json"]))[0].endswith("x.json")
