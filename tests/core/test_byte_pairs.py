"""Byte pairs: text comes back, merges are the most frequent, and no list of merges is trusted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from novum.core.byte_pairs import BYTE_NAMES, BytePairs, new_vocabulary, vocabulary_of
from novum.core.vocabulary import Vocabulary

TEXT = "the cat sat on the mat, and the rat sat on the cat; né naïve 漢字 \n" * 20
LEARNT = BytePairs.of_texts([TEXT], 300)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_comes_back(text):
    tokens = LEARNT.encode(text)
    assert LEARNT.decode(tokens) == text
    assert LEARNT.sizes()[tokens].sum(0).tolist() == [len(text), len(text.encode())]


def test_bytes_come_first_and_have_their_own_numbers():
    """Names are those of GPT-2: a blank is Ġ, a line's end Ċ."""
    assert len(BYTE_NAMES) == len(set(BYTE_NAMES)) == 256
    assert (BYTE_NAMES[32], BYTE_NAMES[10], BYTE_NAMES[65]) == ("Ġ", "Ċ", "A")
    none = BytePairs("")
    assert len(none) == 256
    assert none.encode("né\n").tolist() == list("né\n".encode())


def test_merges_are_the_most_frequent_pairs_in_order():
    """Sennrich et al.'s example: er stands 9 times, lo 7 times and low as often."""
    text = " ".join(["low"] * 5 + ["lowest"] * 2 + ["newer"] * 6 + ["wider"] * 3)
    found = BytePairs.of_texts([text], 260)
    assert found.merges.splitlines()[:3] == ["e r", "l o", "lo w"]
    assert len(found) == 260
    assert found.decode([258, 256]) == "lower"
    assert found.encode("lower").tolist() == [258, 256]


def test_fewer_tokens_where_there_is_no_pair_left():
    assert len(BytePairs.of_texts(["ab ab"], 5000)) == 257


def test_the_same_merges_in_every_process():
    blocks = [TEXT[:700], TEXT[700:]]
    assert BytePairs.of_texts(blocks, 320).merges == BytePairs.of_texts(blocks, 320).merges


def test_rebuilt_from_its_merges():
    again = new_vocabulary(None, LEARNT.merges)
    assert again == LEARNT and again.encode(TEXT).tolist() == LEARNT.encode(TEXT).tolist()
    assert again.encode(TEXT).dtype == np.uint16
    assert LEARNT != Vocabulary() and LEARNT != BytePairs("") and Vocabulary() != LEARNT
    assert vocabulary_of({"alphabet": None, "merges": LEARNT.merges}) == LEARNT
    assert vocabulary_of({"alphabet": None}) == Vocabulary()
    assert vocabulary_of({"alphabet": "abc"}) == Vocabulary("abc")
    assert vocabulary_of({}) is None


def test_a_character_cut_in_two_and_half_a_surrogate_are_no_crash():
    assert BytePairs("").decode([*"né".encode()[:-1]]) == "n\ufffd"
    assert LEARNT.decode(LEARNT.encode("a\udcffb")) == "a?b"


@pytest.mark.parametrize("merges", ["t", "t h e", "th e", "t  h", "t h\n\nh e", "漢 t", "\ud800 t"])
def test_a_list_that_is_none_is_refused(merges):
    with pytest.raises(ValueError, match="line . of the merges is"):
        BytePairs(merges)


@pytest.mark.parametrize("size", [0, 256, 70_000])
def test_sizes_that_cannot_be(size):
    with pytest.raises(ValueError, match=f"bpe_tokens is {size}: it must be from 257"):
        BytePairs.of_texts([TEXT], size)


def test_a_list_longer_than_a_checkpoint_keeps_is_refused(monkeypatch):
    monkeypatch.setattr("novum.core.byte_pairs.MOST_MERGES", 100)
    with pytest.raises(ValueError, match=r"bpe_tokens is 300: the list .* give fewer"):
        BytePairs.of_texts([TEXT], 300)
