"""Figures and names as people read them."""

import math

import pytest

from novum.report.figures import clean
from novum.report.formatting import columns, cost_facts, interval, listed, number
from novum.report.model import Cost, Estimate


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
    assert interval(Estimate(0.15, 0.1, 0.2), share=True) == "10.0% to 20.0%"
    assert interval(Estimate(None, low=0.1)) == "at least 0.1"
    assert interval(Estimate(None, high=0.2)) == "at most 0.2"
    assert interval(Estimate(1)) == ""


def test_clean_spells_out_what_cannot_be_shown():
    assert clean("a\udcff\x00\tb") == "a\\udcff\\x00\\tb"
    assert clean("<b>\"'&") == "&lt;b&gt;&#34;&#39;&amp;"
    assert clean("Fréchet\n3×3") == "Fréchet\n3×3"


def test_cost_in_units():
    cost = Cost(3.21, 2**30, characters_per_second=12_000.4)
    assert cost_facts(cost) == {
        "Time": "3.2 s",
        "Peak memory": "1,024 MiB",
        "Speed": "12,000 characters/s",
    }
    assert cost_facts(Cost(119.7))["Time"] == "2 min 0 s"


def test_records_become_columns_of_all_their_keys():
    assert columns([{"set": "a", "n": "1"}, {"set": "b", "images_seen": "2"}]) == (
        ["Set", "Images", "Images seen"],
        [["a", "1", ""], ["b", "", "2"]],
    )


def test_words_are_joined():
    assert [listed(["a"]), listed("ab"), listed("abc")] == ["a", "a and b", "a, b and c"]
