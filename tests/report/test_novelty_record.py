"""What evaluations leave for the Novelty tab is read as it was written, whatever else is there."""

import json

import numpy as np
import pytest

from novum.report import novelty_record
from novum.report.model import Estimate
from novum.report.novelty_record import (
    FOLDER,
    TIMELINE,
    Evaluation,
    ImageRow,
    Rows,
    add_line,
    picture_path,
    read_rows,
    read_timeline,
    write_evaluation,
    write_picture,
)
from tests.tensorboard.made_runs import png

ROWS = Rows([4, 4], [ImageRow(0, "t.png", "pixels", q=0.5, realism=float("nan"))])
PICTURE = png(np.zeros((4, 16, 3), np.uint8))


def test_evaluations_are_read_as_they_were_written(tmp_path):
    figures = {"quality/precision/pixels": Estimate(0.5, 0.4, float("inf"))}
    one = Evaluation(20, "image", "images", "copying", "Copying found", copy_rate=Estimate(0.1))
    write_evaluation(tmp_path, one, ROWS, PICTURE)
    write_evaluation(tmp_path, Evaluation(10, figures=figures))
    first, second = read_timeline(tmp_path)
    assert second == one and first.figures["quality/precision/pixels"] == Estimate(0.5, 0.4)
    (row,) = read_rows(tmp_path, 20).images
    assert row == ImageRow(0, "t.png", "pixels", q=0.5)  # NaN is unknown
    assert picture_path(tmp_path, 20, "rows").read_bytes() == PICTURE
    assert read_rows(tmp_path, 10) == Rows() and picture_path(tmp_path, 10, "rows") is None


def test_a_second_evaluation_of_a_step_replaces_the_first(tmp_path):
    write_evaluation(tmp_path, Evaluation(5, headline="a"), ROWS, b"\xff\xd8\xff\xe0 a JPEG")
    write_evaluation(tmp_path, Evaluation(5, headline="b"), ROWS, PICTURE)
    assert [e.headline for e in read_timeline(tmp_path)] == ["b"]
    assert len(list((tmp_path / FOLDER).glob("*.rows.*"))) == 2  # rows, and one picture
    write_evaluation(tmp_path, Evaluation(5, headline="c", redacted=True))
    assert not list((tmp_path / FOLDER).glob("*.rows.*"))


def test_lines_of_one_step_add_up_and_the_onset_outlives_them(tmp_path):
    add_line(tmp_path, {"step": 7, "unit": "images"})
    add_line(tmp_path, {"step": 7, "onset": "By 7 images"})
    write_evaluation(tmp_path, Evaluation(7, headline="x", unit="images"))
    (found,) = read_timeline(tmp_path)
    assert (found.onset, found.headline, found.unit) == ("By 7 images", "x", "images")


@pytest.mark.parametrize(
    "line",
    ['{"step": 9, "head', "[1]", '{"step": -1}', '{"step": true}', '{"step": 9, "facts": "many"}',
     '{"headline": "no step"}', "[" * 9000, '{"step": 9, "figures": {"a": {"low": {}}}}', "\0"],
)  # fmt: skip
def test_a_line_that_is_none_is_passed_over(tmp_path, line):
    add_line(tmp_path, {"step": 1})
    with (tmp_path / FOLDER / TIMELINE).open("a") as file:
        file.write(f"\n{line}")  # cut off, perhaps
    add_line(tmp_path, {"step": 2})
    assert [e.step for e in read_timeline(tmp_path)] == [1, 2]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"images": 3}', '{"images": [{"sample": 1}]}'])
def test_rows_of_another_shape_are_none(tmp_path, text):
    write_evaluation(tmp_path, Evaluation(1), ROWS)
    next((tmp_path / FOLDER).glob("*.json")).write_text(text)
    assert read_rows(tmp_path, 1) == Rows()


def test_rows_of_text_survive_any_characters(tmp_path):
    name = "\udcff \u2028 </script>.png"
    write_evaluation(tmp_path, Evaluation(1), Rows([4, 4], [ImageRow(name, 0, "pixels")]))
    assert read_rows(tmp_path, 1).images[0].sample == name


def test_pictures_are_thinned_where_they_stand_closest(tmp_path, monkeypatch):
    monkeypatch.setattr(novelty_record, "MOST_PICTURES", 4)
    for step in (1, 10, 100, 110, 1000, 10_000):
        write_picture(tmp_path, step, "grid", PICTURE)
        write_picture(tmp_path, step, "rows", PICTURE)
    kept = sorted(int(p.name.split(".")[0]) for p in (tmp_path / FOLDER).glob("*.grid.png"))
    assert kept[0] == 1 and kept[-1] == 10_000 and len(kept) == 4 and {100, 110} - set(kept)


def test_what_is_written_is_json(tmp_path):
    write_evaluation(tmp_path, Evaluation(1, figures={"a": Estimate(float("nan"))}), ROWS)
    for line in (tmp_path / FOLDER / TIMELINE).read_text().split():
        assert "NaN" not in line
    json.loads((tmp_path / FOLDER / TIMELINE).read_text(), parse_constant=pytest.fail)
