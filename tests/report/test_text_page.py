import numpy as np
import pytest

from novum.core.vocabulary import Vocabulary
from novum.datamodules.sources.corpus import TextSource
from novum.evaluation.text_records import copy_records, figures, novel_ngrams
from novum.evaluation.text_verdict import text_verdict
from novum.metrics.novelty.text import TextReferences, judge_text
from novum.report.model import Report, SetSummary
from novum.report.text_page import text_page
from tests.metrics.novelty.text.markov import VOCABULARY, chain, plant
from tests.report.pages import read

HOSTILE = '<script>alert("x")</script>&amp;</pre></mark>' * 3


@pytest.fixture(scope="module")
def sets():
    vocabulary = Vocabulary.of_text(VOCABULARY.alphabet + HOSTILE)
    texts = chain(30_000, seed=1) + HOSTILE, chain(20_000, seed=2)
    return [TextSource.of(text, "<name>.txt", vocabulary) for text in texts]


def report_of(train, heldout, texts):
    judged = judge_text(TextReferences(train, heldout), texts)
    report = Report(
        SetSummary("<out>.txt", len(judged.queries.tokens), fingerprint="f"),
        SetSummary("train", len(train), fingerprint="t"),
        heldout and SetSummary("held", len(heldout), fingerprint="h"),
        figures(judged),
        "text",
        passages=copy_records(judged, texts, train),
        novel_ngrams=novel_ngrams(judged),
    )
    report.verdict = text_verdict(report)
    return report


def test_copies_are_shown_beside_their_sources(sets):
    train, heldout = sets
    known = train.text()
    planted = plant(chain(9000, seed=3), known[:30_000], [90] * 30, seed=4)
    texts = [planted.text, HOSTILE, " ".join(known[2000:2300].lower().split())]
    report = report_of(train, heldout, texts)
    assert report.verdict.tone == "copying"
    page = read(text_page(report, texts, train))
    assert page.text.count(HOSTILE) == 3  # in the sample, and beside its source
    assert "<name>.txt" in page.text and "Near-copies" in page.text
    marks = [attributes["class"] for attributes in page.all("mark")]
    assert {"copied verbatim", "copied near"} == set(marks)
    assert page.sections[1:4] == ["Novelty", "Copies beside their sources", "New n-grams"]


def test_few_copies_are_told_but_are_no_finding(sets):
    train, heldout = sets
    texts = [plant(chain(9000, seed=3), train.text()[:30_000], [90] * 2, seed=4).text]
    report = report_of(train, heldout, texts)
    assert report.verdict.text.startswith(
        "Verbatim passages, but no more than chance may give: 2 of"
    )
    assert report.verdict.tone == "doubtful"


def test_no_copies(sets):
    texts = [chain(9000, seed=3)]
    report = report_of(*sets, texts)
    assert report.verdict.tone == "clear"
    assert "No passage of 50 characters was copied." in read(text_page(report, texts, sets[0])).text


def test_very_long_copies_and_samples_are_cut(sets):
    train, _ = sets
    texts = [train.text(1000, 29_000)]
    page = read(text_page(report_of(train, None, texts), texts, train))
    assert "27,400 more characters" in page.text and "8,000 more characters are not" in page.text
    assert report_of(train, None, texts).verdict.tone == "unjudged"


def test_bytes_and_unknown_characters(sets):
    vocabulary = Vocabulary()
    text = "Ünïcödé, naïve. " * 40
    train, heldout = (TextSource.of(t, "t", vocabulary) for t in (text, "other " * 50))
    texts = ["é" + text[:100], "a lone one"]
    judged = judge_text(TextReferences(train, heldout), texts)
    copies = copy_records(judged, texts, train)
    assert np.unique([c.length for c in copies]).tolist() == [len(text[:100].encode())]
