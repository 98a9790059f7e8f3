"""The table and the scalars of one report."""

import io

import pytest
from rich.console import Console

from novum.report.model import Estimate
from novum.report.table import metric_table, metric_tables, scalars, spaces_of_tags
from tests.report.reports import report

TAGS = {
    "quality/frechet_distance/pixels": 12.345,
    "quality/kernel_distance/pixels": 0.1,
    "quality/kernel_distance_low/pixels": 0.05,
    "quality/kernel_distance_high/pixels": 0.15,
    "quality/precision/pixels": 0.5,
    "novelty/copy_rate/pixels": 0.0,
    "novelty/copy_rate_low/pixels": 0.0,
    "novelty/copy_rate_high/pixels": 0.004,
    "novelty/drawn_to_training/pixels": 0.0,
    "novelty/copies_flagged/pixels": 0,
    "novelty/permutation_p/pixels": 0.5,
    "novelty/closer_to_train/pixels": 0.5,
    "novelty/closer_to_train_low/pixels": 0.45,
    "novelty/closer_to_train_high/pixels": 0.55,
    "novelty/authenticity/pixels": 0.6,
}


def test_scalars_carry_the_tags_of_a_run():
    assert scalars(report().features) == TAGS


def test_tags_become_figures_again():
    extra = {"health/diversity": 1.0, "quality/low/checkpoint:runs/a/b.ckpt": 2.0}
    features = spaces_of_tags(TAGS | extra)
    assert features["checkpoint:runs/a/b.ckpt"].quality == {"low": Estimate(2.0)}
    assert features["pixels"].quality["kernel_distance"] == Estimate(0.1, 0.05, 0.15)
    del features["checkpoint:runs/a/b.ckpt"]
    assert scalars(features) == TAGS


def test_table_shows_intervals_and_gaps():
    console = Console(file=io.StringIO(), width=110)
    console.print(metric_table(report()))
    text = console.file.getvalue()
    assert "1,000 samples, 1,000 training and 1,000 held-out images" in text
    assert "0.1 (0.05 to 0.15)" in text
    assert "density" in text and " - " in text


@pytest.mark.parametrize("width", [60, 76, 110])
def test_tables_fit_a_terminal_of_few_columns(width):
    """Every line has its right border, and no name or figure is cut."""
    found = report()
    found.features["efficientnet_lite0"] = found.features["pixels"]
    found.features["checkpoint:runs/a/b.ckpt"] = found.features["pixels"]
    console = Console(file=io.StringIO(), width=width)
    tables = list(metric_tables(found, width))
    for table in tables:
        console.print(table)
    lines = console.file.getvalue().splitlines()
    assert len(tables) == (1 if width == 110 else len(found.features))
    assert all(len(line) <= width for line in lines)
    assert all(line[-1] in "┓┃┩│┤┘" for line in lines if line[0] in "┏┃┡│├└")
    assert "…" not in "".join(lines) and "kernel_distance" in "".join(lines)
