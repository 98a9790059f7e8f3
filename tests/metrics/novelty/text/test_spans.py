import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from novum.metrics.novelty.text import (
    build_index,
    copied,
    copied_spans,
    first_places,
    match,
    novel_ngrams,
)
from tests.metrics.novelty.text.markov import VOCABULARY, chain, plant


def found_in(train: str, text: str):
    return match(build_index(VOCABULARY.encode(train)), VOCABULARY.encode(text))


def copies_in(train: str, text: str) -> list[tuple[int, int, int]]:
    """Start, length and place of each."""
    start, length = copied_spans(found_in(train, text))
    index = build_index(VOCABULARY.encode(train))
    places = first_places(index, VOCABULARY.encode(text), start, length)
    return list(zip(start.tolist(), length.tolist(), places.tolist(), strict=True))


def test_planted_copies_are_found_where_they_are():
    train = chain(60_000, seed=1)
    for seed in range(5):
        lengths = np.random.default_rng(seed).integers(50, 400, 40).tolist() + [50, 51, 5000]
        planted = plant(chain(20_000, seed=10 + seed), train, lengths, seed)
        assert copies_in(train, planted.text) == planted.copies


def test_copies_that_touch_keep_their_own_offsets():
    train = chain(30_000, seed=1)
    pieces = [(1000, 50), (20_000, 50), (5000, 120), (9000, 50)]
    text = "".join(train[at : at + length] for at, length in pieces)
    spans = copied_spans(found_in(train, text))
    assert spans.start.tolist() == [0, 50, 100, 220]
    assert spans.length.tolist() == [50, 50, 120, 50]


def test_copies_do_not_overlap_and_stay_long():
    train = chain(5000, seed=3)
    parts = [train[i : i + 80] for i in range(0, 3000, 37)]
    found = found_in(train, "".join(parts))
    spans = copied_spans(found)
    assert (spans.start[1:] >= spans.stop[:-1]).all() and (spans.length >= 50).all()
    text = "".join(parts)
    for start, length, place in copies_in(train, text):
        assert text[start : start + length] == train[place : place + length]


def test_fresh_text_has_no_copies():
    found = found_in(chain(60_000, seed=1), chain(60_000, seed=2))
    assert not len(copied_spans(found).start) and not copied(found).any()


def test_copied_marks_what_the_spans_cover():
    train = chain(20_000, seed=1)
    planted = plant(chain(5000, seed=2), train, [60, 90, 50], seed=0)
    expected = np.zeros(len(planted.text), bool)
    for start, length, _ in planted.copies:
        expected[start : start + length] = True
    assert (copied(found_in(train, planted.text)) == expected).all()


@given(st.text("ab ", min_size=1, max_size=40), st.text("ab ", min_size=1, max_size=40))
def test_new_ngrams_are_those_of_the_sets(train, text):
    found = found_in(train, text)
    novel = novel_ngrams(found, np.full(len(text), len(text)))
    for n, share in enumerate(novel, 1):
        grams = [text[i : i + n] for i in range(len(text) - n + 1)]
        if grams:
            assert share == sum(gram not in train for gram in grams) / len(grams)
        else:
            assert np.isnan(share)
