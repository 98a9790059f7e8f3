import math

import pytest

from novum.metrics.novelty.text import distinct_n, documents, self_bleu

TEXTS = (
    "the cat sat on the mat and the cat sat",
    "the dog sat on the mat and it barked",
    "a bird flew over the house and the cat sat on it",
    "no word here is like the others at all",
)


def test_documents_are_whole_passages_of_words_and_marks():
    assert documents(["Yes, it is. No!", "a b"], words=3) == [["Yes", ",", "it"], ["is", ".", "No"]]
    assert len(documents(["a b c d"], words=1, most=2)) == 2


def test_distinct_n():
    found = [["a", "b", "a", "b"], ["a", "b"]]
    assert distinct_n(found, 1) == 2 / 6
    assert distinct_n(found, 2) == 2 / 4  # ab, ba of ab, ba, ab, ab
    assert math.isnan(distinct_n(found, 9))


def test_self_bleu_is_that_of_nltk():
    # nltk 3.10: sentence_bleu(others, one, smoothing_function=SmoothingFunction().method1), mean
    of_nltk = 0.3873328809966523
    assert self_bleu([text.split() for text in TEXTS]) == pytest.approx(of_nltk, rel=1e-12)


def test_the_same_over_and_over_scores_one_and_nothing_in_common_about_none():
    assert self_bleu([["a", "b", "c", "d", "e"]] * 3) == pytest.approx(1)
    assert self_bleu([list("abcde"), list("fghij")]) < 0.05
    assert math.isnan(self_bleu([["alone"]]))
