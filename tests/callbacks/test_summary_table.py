"""The table that ends a run, in terminals of any width."""

import os
import re

import pytest

from novum.callbacks.summary import print_table

FIGURES = {
    "quality/frechet_distance/efficientnet_lite0": 2249.0,
    "quality/frechet_distance_low/efficientnet_lite0": 2200.0,
    "quality/frechet_distance_high/efficientnet_lite0": 2300.0,
    "novelty/drawn_to_training/efficientnet_lite0": 0.0123,
}


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_names_and_values_are_whole(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(os, "isatty", lambda descriptor: True)
    print_table([(100, FIGURES), (200, FIGURES)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    cells = [re.split("[│┃]", line)[1].strip() for line in lines if line[0] in "│┃"]
    names = "".join(cells)
    assert "…" not in "".join(lines)
    assert all(
        name in names for name in FIGURES if not name.split("/")[1].endswith(("low", "high"))
    )
    assert "2200 to 2300" in re.sub(r"\s+", " ", " ".join(lines))
