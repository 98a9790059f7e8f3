"""Figures and names as people read them."""

import math

import pytest

from novum.report.document import clean, interval, number, spent, table


@pytest.mark.parametrize(
    ("value", "share", "shown"),
    [
        (0.12345678, False, "0.1235"),
        (253.5, False, "253.5"),
        (1783.6, False, "1,784"),
        (12345678, False, "12,345,678"),
        (1.5e9, False, "1.5e+09"),
        (0.4843, True, "48.4%"),
        (0, False, "0"),
        (None, True, "–"),
        (math.nan, False, "–"),
        (math.inf, True, "–"),
        ("words", False, "words"),
        (True, False, "True"),
    ],
)
def test_number(value, share, shown):
    assert number(value, share) == shown


def test_interval_with_one_end_says_so():
    assert interval({"low": 0.1, "high": 0.2}, share=True) == "10.0% to 20.0%"
    assert interval({"low": 0.1}) == "at least 0.1"
    assert interval({"high": 0.2, "low": None}) == "at most 0.2"
    assert interval({"value": 1}) == ""


def test_clean_spells_out_what_cannot_be_shown():
    assert clean("a\udcff\x00\tb") == "a\\udcff\\x00\\tb"
    assert clean("<b>\"'&") == "&lt;b&gt;&quot;&#x27;&amp;"
    assert clean("Fréchet\n3×3") == "Fréchet\n3×3"


def test_cost_in_units():
    assert spent({"seconds": 3.21, "peak_rss_bytes": 2**30, "tokens": 12, "x": None}) == {
        "Time": "3.2 s",
        "Peak memory": "1,024 MiB",
        "tokens": "12",
    }
    assert spent({"seconds": 119.7})["Time"] == "2 min 0 s"


def test_table_names_its_rows_and_columns():
    html = table(["a", "b"], [["x", "1"]], numbers=1)
    assert '<th scope="col">a</th><th class="n" scope="col">b</th>' in html
    assert '<th scope="row">x</th><td class="n">1</td>' in html
