"""A report in a notebook, on one screen, and in the comment on a pull request."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from novum.report.criteria import check_report, parse_requirement
from novum.report.junit import junit
from novum.report.markdown import escaped, markdown
from novum.report.model import Estimate, Fact, Finding, Report, Verdict
from novum.report.short_answer import short_answer
from tests.report.reports import report

EVIL = "a|b<img src=x>[x](https://evil.example)`c`@team\n# d.png"


def test_a_notebook_shows_the_page_in_a_frame(monkeypatch):
    shown = []
    display = ModuleType("IPython.display")
    display.__dict__.update(HTML=lambda text: text, display=shown.append)
    for name, module in {"ipykernel": ModuleType("k"), "IPython.display": display}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    Report(page='<p title="a">').show()
    assert len(shown) == 1 and 'srcdoc="&lt;p title=&quot;a&quot;&gt;" sandbox' in shown[0]


def test_a_report_without_a_page_shows_nothing_but_its_words(capsys):
    assert Report()._repr_html_() is None
    Report().show()
    assert capsys.readouterr().out.startswith("Copying was not judged")


@pytest.mark.parametrize("width", [60, 76])
def test_the_short_answer_has_five_figures_and_fits(width):
    found = report()
    space = found.features["pixels"]
    space.quality |= {name: Estimate(0.5) for name in ("frechet_distance", "precision", "recall")}
    space.quality["coverage"], space.novelty["closer_to_train"] = Estimate(0.9), Estimate(0.6)
    space.floor = {"precision": Estimate(0.7)}
    found.verdict = replace(found.verdict, next="Next: " + "word " * 40)
    lines = short_answer(found, width).splitlines()
    table = [line for line in lines if line.startswith("  ")]
    assert len(table) == 6 and max(map(len, lines)) <= width
    assert "70.0%" in next(line for line in table if "precision" in line)
    assert "50.0%" in next(line for line in table if "closer_to_train" in line)


def test_names_mean_nothing_in_a_comment():
    found = report()
    found.facts = [Fact("identical", EVIL, EVIL)]
    text = markdown(found, output=Path("out"))
    (row,) = (line for line in text.splitlines() if line.startswith("| a"))
    assert row.count("|") == 5 and "<" not in row and "](" not in row and "@" not in row
    assert escaped("a_b|c") == "a&#95;b&#124;c"


def test_control_characters_make_no_broken_xml():
    found = report()
    found.verdict = Verdict(Finding.COPYING, "Copying\x1b[31m found", ("<&\x00>",))
    text = junit(found, check_report(found, [Finding.COPYING], []))
    from xml.etree import ElementTree

    (failure,) = ElementTree.fromstring(text.encode()).iter("failure")
    assert "\\x1b" in str(failure.text)


@pytest.mark.parametrize(
    ("text", "passed"),
    [("precision>=0.5", True), ("precision>50%", False), ("precision/pixels<=0.5", True),
     ("precision/local<1", False), ("facts<1", True), ("density>0", False)],
)  # fmt: skip
def test_a_figure_is_held_to_its_limit(text, passed):
    found = report()
    found.features["pixels"].quality["precision"] = Estimate(0.5)
    found.features["pixels"].quality.pop("density", None)
    (check,) = check_report(found, [], [parse_requirement(text)])
    assert check.passed == passed and check.exit_code == 5
