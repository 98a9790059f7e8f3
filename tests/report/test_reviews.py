"""A person's word on named pairs is kept, found again, and changes no figure."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from novum.core.errors import InputError
from novum.report import reviews
from novum.report.exhibits import FactPair
from novum.report.image_page import Exhibits, page
from novum.report.model import Copy, Fact, Provenance, Reviewed
from novum.report.reviews import REVIEWS, decide, pair_of_images, pair_of_texts, read_reviews
from novum.report.schema import dump, parse
from tests.report.pages import read
from tests.report.reports import report
from tests.report.test_image_page import images, panel

ONE, TWO = pair_of_images(b"a", b"b"), pair_of_images(b"b", b"a")


def test_decisions_are_kept_and_taken_back(tmp_path):
    assert read_reviews(tmp_path) == {}
    decide(tmp_path, ONE, "confirmed")
    decide(tmp_path, TWO, "rejected")
    assert decide(tmp_path, ONE, "rejected") == {ONE: "rejected", TWO: "rejected"}
    assert decide(tmp_path, ONE, None) == {TWO: "rejected"} == read_reviews(tmp_path)
    assert decide(tmp_path, ONE, None) == {TWO: "rejected"}
    kept = json.loads((tmp_path / REVIEWS).read_text())
    assert kept["schema"] == 1 and kept["pairs"][TWO]["at"].endswith("+00:00")


def test_pairs_are_known_by_both_sides_in_their_order():
    assert ONE != TWO and pair_of_texts("a", "b") == pair_of_images(b"a", b"b")
    assert pair_of_texts("\udcff", "é")


def test_decisions_made_at_once_are_all_kept(tmp_path):
    pairs = [pair_of_images(bytes([i]), b"x") for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pair: decide(tmp_path, pair, "confirmed"), pairs))
    assert set(read_reviews(tmp_path)) == set(pairs)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"pairs": [1]}', '{"pairs": {"x": {"decision": "confirmed"}}}',
     f'{{"pairs": {{"{ONE}": "confirmed"}}}}',
     f'{{"pairs": {{"{ONE}": {{"decision": "maybe"}}}}}}'],
)  # fmt: skip
def test_a_file_of_another_shape_is_an_error_and_stays(tmp_path, text):
    (tmp_path / REVIEWS).write_text(text)
    with pytest.raises(InputError, match="move it away"):
        read_reviews(tmp_path)
    with pytest.raises(InputError, match="move it away"):
        decide(tmp_path, ONE, "confirmed")
    assert (tmp_path / REVIEWS).read_text() == text


def test_there_is_an_end_to_reviews(tmp_path, monkeypatch):
    monkeypatch.setattr(reviews, "MOST_PAIRS", 1)
    decide(tmp_path, ONE, "confirmed")
    decide(tmp_path, ONE, "rejected")  # the same pair again
    with pytest.raises(InputError, match="which is the most"):
        decide(tmp_path, TWO, "confirmed")


def judged(*reviewed: Reviewed):
    found = report(copies=[])
    found.copies = [Copy("a.png", 7, 0.01), Copy("b.png", 8, 0.02)]
    found.facts = [Fact("identical", "a.png", 7)]
    found.reviewed = list(reviewed)
    return found


def test_a_page_shows_what_a_person_said_and_no_figure_changes():
    pictures = Exhibits(
        facts=[FactPair("identical", images(1)[0], images(1)[0], "a.png", 7)], panels=[panel()]
    )
    words = [Reviewed("a.png", 7, "confirmed"), Reviewed("b.png", 8, "rejected")]
    before, after = read(page(judged(), pictures)), read(page(judged(*words), pictures))
    assert "This page cannot keep what you think of a pair" in before.text
    assert "1 confirmed and 1 rejected" in after.text
    assert "confirmed by a person" in after.text and "by a person" not in before.text
    own, other = dump(judged()), dump(judged(*words))
    assert other.pop("reviewed") == [
        {"sample": "a.png", "train": 7, "decision": "confirmed"},
        {"sample": "b.png", "train": 8, "decision": "rejected"},
    ]
    assert own == other
    assert parse(dump(judged(*words))).reviewed == words


def test_a_redacted_page_says_nothing_of_pictures():
    found = judged()
    found.made_by = Provenance("0", "0", redacted=True)
    assert "Review" not in read(page(found)).sections
