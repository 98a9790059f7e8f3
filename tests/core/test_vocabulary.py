"""Text to tokens and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from novum.core.vocabulary import UNKNOWN, Decoder, Vocabulary


@given(st.text(st.characters(exclude_characters=UNKNOWN)))
def test_characters_come_back(text):
    vocabulary = Vocabulary.of_text(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert len(vocabulary) == 1 + len(set(text))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_come_back(text):
    vocabulary = Vocabulary()
    tokens = vocabulary.encode(text)
    assert vocabulary.decode(tokens) == text
    assert vocabulary.sizes()[tokens].sum(0).tolist() == [len(text), len(text.encode())]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_sizes_of_characters(text):
    vocabulary = Vocabulary.of_text(text)
    sizes = vocabulary.sizes()[vocabulary.encode(text)]
    assert sizes.sum(0).tolist() == [len(text), len(text.encode())]


def test_order_is_that_of_code_points_and_unknown_comes_first():
    vocabulary = Vocabulary.of_text("hello")
    assert vocabulary.alphabet == UNKNOWN + "ehlo"
    assert vocabulary.encode("hex").tolist() == [2, 1, 0]
    assert vocabulary.unknown("hexa x") == "xa "
    assert vocabulary == Vocabulary("ehlo")


def test_as_many_bytes_a_token_as_needed():
    assert Vocabulary().dtype == Vocabulary.of_text("abc").dtype == np.uint8
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    assert Vocabulary.of_text(many).encode(many).dtype == np.uint16


def test_more_characters_than_tokens_keep_the_frequent_ones():
    counts = np.ones(0x110000, np.int64)
    counts[ord("z")] = 9
    vocabulary = Vocabulary.of(counts)
    assert len(vocabulary) == 65_536
    assert "z" in vocabulary.alphabet


def test_a_character_cut_in_two_is_no_crash():
    vocabulary = Vocabulary()
    assert vocabulary.decode(vocabulary.encode("né")[:-1]) == "n" + UNKNOWN


def test_a_character_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        Vocabulary("aa")


@given(st.text(max_size=50), st.integers(1, 7))
def test_blocks_decode_as_the_whole(text, size):
    text = text.replace("\0", "")
    data = text.encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    decode = Decoder("utf-8", "here")
    parts = [decode(data[i : i + size]) for i in range(0, len(data), size)]
    assert "".join(parts) + decode(b"", final=True) == text


def test_bad_byte_is_found_over_blocks():
    decode = Decoder("utf-8", "notes.txt")
    decode("aé".encode()[:2])
    with pytest.raises(ValueError, match=r"notes.txt is not utf-8 text: byte 0xc3 at offset 1;"):
        decode(b"zzz")
    cut_off = Decoder("utf-8", "notes.txt")
    cut_off("aé".encode()[:2])
    with pytest.raises(ValueError, match="offset 1;"):
        cut_off(b"", final=True)


def test_binary_and_unknown_encoding_are_told():
    with pytest.raises(ValueError, match="x.png is a binary file"):
        Decoder("utf-8", "x.png")(b"ab\0c")
    with pytest.raises(ValueError, match="unknown encoding 'utf8000'"):
        Decoder("utf8000", "x")
