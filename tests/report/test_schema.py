"""report.json is read as it was written, schema 1 too, and nothing else is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novum.evaluation.image_verdict import image_verdict
from novum.report.model import (
    Control,
    Copy,
    Cost,
    Estimate,
    Fact,
    Finding,
    Gate,
    Identical,
    NearIdentical,
    Passage,
    Recall,
    Report,
    SetSummary,
    Space,
    TextEvidence,
    Tone,
    Verdict,
)
from novum.report.schema import Misfit, dump, parse, read_report, write_report
from tests.report.reports import COPIES as COPIED
from tests.report.reports import contents, report

NUMBERS = st.none() | st.floats(-1e9, 1e9) | st.integers(0, 10**9)
COUNTS = st.integers(0, 10**9)
FLOATS = st.floats(-1e9, 1e9)
NAMES = st.text(max_size=8)
ESTIMATES = st.builds(Estimate, NUMBERS, NUMBERS, NUMBERS)
FIGURES = st.dictionaries(NAMES, ESTIMATES, max_size=3)
SETS = st.builds(SetSummary, NAMES, st.integers(0, 10**6), fingerprint=NAMES)
COPIES = st.builds(Copy, NAMES | st.integers(), NAMES | st.integers(), NUMBERS, NUMBERS)
SENTENCES = st.lists(NAMES, max_size=2).map(tuple)
VERDICTS = st.builds(
    Verdict, st.sampled_from(Finding), NAMES, SENTENCES, SENTENCES, st.booleans(), NAMES
)
REPORTS = st.builds(
    Report,
    SETS,
    SETS,
    st.none() | SETS,
    st.dictionaries(
        NAMES, st.builds(Space, FIGURES, FIGURES, st.none() | NAMES, FIGURES), max_size=2
    ),
    verdict=VERDICTS,
    copies=st.none() | st.lists(COPIES, max_size=3),
    power=st.lists(st.builds(Recall, NAMES, NUMBERS, NUMBERS, NUMBERS), max_size=2),
    facts=st.lists(st.builds(Fact, NAMES, NAMES, st.integers(), NUMBERS), max_size=2),
    identical=st.none() | st.builds(Identical, *[COUNTS] * 8, FLOATS, FLOATS),
    near_identical=st.none() | st.builds(NearIdentical, *[COUNTS] * 3, FLOATS),
    gate=st.none() | st.builds(Gate, FLOATS, FLOATS, ESTIMATES, *[COUNTS] * 3, st.lists(NAMES)),
    negative_controls=st.dictionaries(
        NAMES, st.builds(Control, COUNTS, FLOATS, st.lists(ESTIMATES), st.lists(FLOATS)), max_size=2
    ),
    notes=st.lists(NAMES, max_size=2),
    history=st.lists(st.dictionaries(NAMES, NUMBERS, max_size=3), max_size=2),
    cost=st.none() | st.builds(Cost, NUMBERS, NUMBERS),
)


@given(REPORTS)
def test_a_report_is_read_as_it_was_written(found):
    assert parse(json.loads(json.dumps(dump(found)))) == found


def test_passages_of_text_too(tmp_path):
    passage = Passage(5, 70, 60, 61, 0.01, False, 0, 5, "a.py", 7, "near", 80.5, True, 0, 0.9, 3, 2)
    found = Report(kind="text", passages=[passage], text_evidence=TextEvidence(40.0, 30.0))
    write_report(tmp_path / "report.json", found)
    assert read_report(tmp_path / "report.json") == found
    assert json.loads((tmp_path / "report.json").read_text())["copies"][0]["file_offset"] == 7


def test_schema_2_has_all_of_schema_1():
    old = contents(
        verdict="No copying found: x.",
        power=[{"attack": "mirrored", "recall": 0.5, "low": 0.4, "high": 0.6}],
        copies=[{"sample": "a.png", "train": 3, "q": 0.1, "distance": 0.5, "features": "pixels"}],
        notes=["a note"],
        cost={"seconds": 2.0, "peak_rss_bytes": 5.0, "images_per_second": 7.0},
    )
    new = dump(parse(old))
    assert new["schema"] == 2 and new["finding"] == "none_found"
    for key in old.keys() - {"schema", "power"}:
        assert new[key] == old[key], key
    assert new["power"] == [{"edit": "mirrored", "library": "", "tuned": True, **old["power"][0]}]


@pytest.mark.parametrize(
    ("words", "finding", "tone"),
    [
        ("Copying found: 3 of 5.", Finding.COPYING, Tone.COPYING),
        ("Doubtful held-out images: 30% in pixels.", Finding.CANNOT_JUDGE, Tone.DOUBTFUL),
        ("Samples lean on training data: they", Finding.LEANING, Tone.DOUBTFUL),
        ("Verbatim passages, but no more", Finding.TOO_LITTLE_EVIDENCE, Tone.DOUBTFUL),
        ("Copying was not judged. Quality", Finding.CANNOT_JUDGE, Tone.UNJUDGED),
        ("No copying found: x. Held-out text differs in kind from", Finding.NONE_FOUND,
         Tone.DOUBTFUL),
        ("No copying found in 5 samples: x", Finding.NONE_FOUND, Tone.CLEAR),
        ("Something else entirely.", Finding.CANNOT_JUDGE, Tone.UNJUDGED),
    ],
)  # fmt: skip
def test_verdicts_of_schema_1_have_words_alone(words, finding, tone):
    verdict = parse(contents(verdict=words)).verdict
    assert (verdict.finding, verdict.tone) == (finding, tone)
    assert words in f"{verdict.headline}: {verdict.sentences[0]} {verdict.sentences[0]}"


def test_every_verdict_is_one_paragraph_in_the_file():
    found = report(gate=COPIED)
    content = dump(found)
    assert content["verdict"] == image_verdict(found).text
    assert content["finding"] == "copying" and content["conclusion"]["spaces"] == ("pixels",)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"verdict": 3}, "verdict"),
        ({"features": []}, "features"),
        ({"features": {"pixels": {"quality": {"x": "y"}}}}, "quality x"),
        ({"features": {"pixels": {"quality": {"x": {"value": [1]}}}}}, "value"),
        ({"samples": {"n": "many"}}, "n"),
        ({"train": [1]}, "train"),
        ({"cost": {"seconds": "long"}}, "seconds"),
        ({"copies": [{"train": 3}]}, "copies"),
        ({"power": 3}, "power"),
        ({"history": [{"x": True}]}, "history x"),
    ],
)
def test_another_shape_is_named(changes, where):
    with pytest.raises(Misfit, match=where):
        parse(contents(**changes))


def test_figures_that_are_not_finite_are_unknown():
    found = parse(
        contents(
            history=[{"images_seen": 5, "quality/x/pixels": float("inf")}], cost={"seconds": 1e300}
        )
    )
    assert found.history == [{"images_seen": 5, "quality/x/pixels": None}]
    assert found.cost == Cost(None)
