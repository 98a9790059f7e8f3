import numpy as np

from novum.core.vocabulary import Vocabulary
from novum.metrics.novelty.text.folding import fold


def test_case_and_white_space_are_forgotten_and_places_kept():
    text = "The  Cat\n\tsat.\n"
    vocabulary = Vocabulary.of_text(text + text.lower() + " ")
    folded = fold(vocabulary.encode(text), vocabulary)
    assert vocabulary.decode(folded.tokens) == "the cat sat. "
    assert folded.origin.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 14, len(text)]


def test_other_alphabets_have_case_too():
    text = "ÀÉ Ωω ß İ"
    vocabulary = Vocabulary.of_text(text + "àéω")
    folded = fold(vocabulary.encode(text), vocabulary)
    assert vocabulary.decode(folded.tokens) == "àé ωω ß İ"  # ß and İ fold to two characters


def test_a_letter_whose_small_form_is_unknown_stays():
    vocabulary = Vocabulary.of_text("AB b")
    assert vocabulary.decode(fold(vocabulary.encode("AB"), vocabulary).tokens) == "Ab"


def test_of_bytes_ascii_alone_is_folded():
    vocabulary = Vocabulary()
    tokens = np.frombuffer("É \n A".encode(), np.uint8)
    assert fold(tokens, vocabulary).tokens.tobytes() == "É a".encode()


def test_text_without_white_space():
    vocabulary = Vocabulary.of_text("Aa")
    assert vocabulary.decode(fold(vocabulary.encode("aA"), vocabulary).tokens) == "aa"


def test_blocks_make_no_difference(monkeypatch):
    text = "a  B \n\n c\t\t\tD e   " * 20
    vocabulary = Vocabulary.of_text(text + text.lower())
    whole = fold(vocabulary.encode(text), vocabulary)
    monkeypatch.setattr("novum.metrics.novelty.text.folding.BLOCK", 7)
    for a, b in zip(whole, fold(vocabulary.encode(text), vocabulary), strict=True):
        assert a.tolist() == b.tolist()
