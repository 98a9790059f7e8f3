import pytest

from novum.core.vocabulary import Vocabulary
from novum.datamodules.sources.corpus import TextSource
from novum.evaluation.text_records import copy_records, evidence, figures, novel_ngrams
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
        SetSummary("<out>.txt", len(judged.text), fingerprint="f"),
        SetSummary("train", len(train), fingerprint="t"),
        heldout and SetSummary("held", len(heldout), fingerprint="h"),
        figures(judged),
        "text",
        passages=copy_records(judged, train),
        text_evidence=evidence(judged),
        novel_ngrams=novel_ngrams(judged),
    )
    report.verdict = text_verdict(report)
    return report


def test_copies_are_shown_beside_their_sources(sets):
    train, heldout = sets
    known = train.text()
    planted = plant(chain(9000, seed=3), known[:30_000], [90] * 30, seed=4)
    texts = [planted.text, known[29_700:], " ".join(known[2000:2300].lower().split())]
    report = report_of(train, heldout, texts)
    assert report.verdict.tone == "copying"
    page = read(text_page(report, texts, train))
    assert page.text.count(HOSTILE) == 3  # in the sample, and beside its source
    assert "<name>.txt" in page.text and "All passages" in page.sections
    marks = [attributes["class"] for attributes in page.all("mark")]
    assert "copied verbatim" in marks and {"copied folded", "copied near"} & set(marks)
    assert page.sections[1:4] == ["Passages beside their sources", "Novelty", "New n-grams"]


def test_what_differs_is_marked(sets):
    train, heldout = sets
    passage = train.text(5000, 5400)
    altered = "".join("e" if i % 40 == 9 else c for i, c in enumerate(passage))
    texts = [chain(5000, seed=3) + altered + chain(5000, seed=4)]
    report = report_of(train, heldout, texts)
    assert [p.kind for p in report.passages] == ["near"]
    assert 0.9 < report.passages[0].identity < 1 and report.passages[0].edits >= 8
    page = read(text_page(report, texts, train))
    assert len(page.all("del")) >= 16
    assert "% the same" in page.text


def test_few_copies_are_listed_but_are_no_finding(sets):
    train, heldout = sets
    known = train.text()[:30_000]
    for length in range(14, 30):  # the least that is listed
        texts = [plant(chain(9000, seed=3), known, [length], seed=4).text]
        report = report_of(train, heldout, texts)
        if report.passages:
            break
    assert report.verdict.text.startswith("Passages of training text, but no more than chance")
    assert len(report.passages) >= 1 and report.verdict.tone == "doubtful"


def test_no_copies(sets):
    texts = [chain(9000, seed=3)]
    report = report_of(*sets, texts)
    assert report.verdict.tone == "clear"
    assert (
        "No passage stands in the training text, altered or not"
        in read(text_page(report, texts, sets[0])).text
    )


def test_very_long_copies_and_samples_are_cut(sets):
    train, _ = sets
    texts = [train.text(1000, 29_000)]
    page = read(text_page(report_of(train, None, texts), texts, train))
    assert "27,400 more characters" in page.text and "8,000 more characters are not" in page.text
    assert report_of(train, None, texts).verdict.tone == "copying"  # facts need no held-out text


def test_bytes_and_unknown_characters(sets):
    vocabulary = Vocabulary()
    text = "Ünïcödé, naïve. " * 40
    train, heldout = (TextSource.of(t, "t", vocabulary) for t in (text, "other " * 50))
    texts = ["é" + text[:300], "a lone one"]
    references = TextReferences(train, heldout)
    judged = judge_text(references, texts)
    assert judged.text == "".join(texts) and judged.novelty["verbatim"]["longest_copy"] == 300
    assert copy_records(judged, references.train) == []  # one phrase has little information
