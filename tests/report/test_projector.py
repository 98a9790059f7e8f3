"""The Projector finds its points, their pictures and their names."""

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector import ProjectorConfig

from novum.report.projector import choose_points, principal, sprite, write_projector


def images(n: int, height: int = 6, width: int = 4) -> np.ndarray:
    """Each of one gray value: its number."""
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, height, width, 3))


def write(folder, n: int = 5, **facts) -> ProjectorConfig:
    features = {"pixels": np.arange(n * 3.0).reshape(n, 3), "odd/name\udcff": np.ones((n, 2))}
    write_projector(folder, features, images(n), facts or {"set": ["train"] * n, "row": range(n)})
    config = (folder / "projector_config.pbtxt").read_text()
    return text_format.Parse(config, ProjectorConfig())


def test_every_file_is_where_the_config_says(tmp_path):
    config = write(tmp_path / "new" / "run")
    folder = tmp_path / "new" / "run"
    assert [space.tensor_name for space in config.embeddings] == ["pixels", "odd/name\\udcff"]
    for space, width in zip(config.embeddings, (3, 2), strict=True):
        assert np.loadtxt(folder / space.tensor_path, delimiter="\t").shape == (5, width)
        assert (folder / space.metadata_path).read_text().splitlines()[0] == "set\trow"
        assert tuple(space.sprite.single_image_dim) == (4, 6)
        with Image.open(folder / space.sprite.image_path) as sheet:
            assert sheet.size == (3 * 4, 2 * 6)


def test_narrow_features_are_written_as_they_are(tmp_path):
    config = write(tmp_path)
    values = np.loadtxt(tmp_path / config.embeddings[0].tensor_path, delimiter="\t")
    assert np.array_equal(values, np.arange(15.0).reshape(5, 3))


def test_metadata_has_one_line_for_each_point(tmp_path):
    names = ["tab\there", "line\nbreak", "\udcff", "", "é"]
    write(tmp_path, name=names, q=[0.12345678, 1.0, 0.0, 0.5, 0.25])
    lines = (tmp_path / "projector" / "metadata.tsv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6
    assert lines[0] == "name\tq"
    assert lines[1] == "tab\\there\t0.1235"
    assert lines[2] == "line\\nbreak\t1"
    assert lines[3] == "\\udcff\t0"


def read_back(entry: str) -> str:
    """The text of a cell, by the rule that stands above `_entry`."""
    text = entry.removeprefix("\\") if entry[:2] in ("\\=", "\\+", "\\-", "\\@") else entry
    return "" if text == "\\empty" else text.encode("latin-1", "backslashreplace").decode(
        "unicode_escape"
    )  # fmt: skip


HOSTILE = ["a\tb", "a\\tb", "a\nb", "a\r\nb", "=1+1", "\\=1", "@x", "-1", "", " ", " a ", "\x1b[2J",
           "a\u2028b", "\\empty", "\\\\", "é", "\x85", "<b>"]  # fmt: skip


@pytest.mark.parametrize("columns", [1, 2])
def test_a_name_is_one_cell_and_can_be_told_from_any_other(tmp_path, columns):
    facts = {"name": HOSTILE} | ({"a\tb": range(len(HOSTILE))} if columns == 2 else {})
    write(tmp_path, len(HOSTILE), **facts)
    text = (tmp_path / "projector" / "metadata.tsv").read_bytes().decode()
    rows = [line.split("\t") for line in text.split("\n") if line.strip()][columns - 1 :]
    assert [len(row) for row in rows] == [columns] * len(HOSTILE)
    assert [read_back(row[0]) for row in rows] == HOSTILE
    assert not any(row[0].startswith(("=", "+", "-", "@")) for row in rows)


def test_one_column_has_no_heading(tmp_path):
    write(tmp_path, name=list("abcde"))
    text = (tmp_path / "projector" / "metadata.tsv").read_text()
    assert text.splitlines() == list("abcde")


def test_sprite_holds_the_pictures_row_by_row():
    sheet, (width, height) = sprite(images(5))
    pixels = np.asarray(sheet)[height // 2 :: height, width // 2 :: width, 0]
    assert pixels.tolist() == [[0, 1, 2], [3, 4, 255]]


def test_large_pictures_become_thumbnails_of_one_size():
    sheet, cell = sprite(images(4, 300, 200))
    assert cell == (32, 48)
    assert sheet.size == (64, 96)


def test_wide_features_are_turned_not_distorted():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 1000))
    kept = principal(features)
    assert kept.shape == (20, 20)
    before = np.linalg.norm(features[0] - features[1])
    assert np.linalg.norm(kept[0] - kept[1]) == pytest.approx(before, rel=1e-4)
    assert np.array_equal(kept, principal(features))


def test_rows_are_shared_out_and_the_named_ones_are_in():
    sizes = {"samples": 1000, "train": 50, "heldout": 1000}
    rows = choose_points(sizes, {"samples": [999, 7, 7], "train": range(50)}, at_most=90)
    assert [len(r) for r in rows.values()] == [30, 30, 30]
    assert {7, 999} <= set(rows["samples"].tolist())
    assert all(len(set(r.tolist())) == 30 for r in rows.values())
    again = choose_points(sizes, {"samples": [999, 7, 7], "train": range(50)}, at_most=90)
    assert all(np.array_equal(rows[k], again[k]) for k in rows)


def test_small_sets_are_shown_whole():
    rows = choose_points({"samples": 3, "train": 4}, {})
    assert rows["samples"].tolist() == [0, 1, 2] and rows["train"].tolist() == [0, 1, 2, 3]


def test_unequal_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="give as many of each"):
        write_projector(tmp_path, {"pixels": np.ones((3, 2))}, images(4), {"row": range(3)})
