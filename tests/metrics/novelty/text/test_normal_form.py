import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from novum.core.vocabulary import code_points
from novum.metrics.novelty.text import fold, normalise


def text_of(form) -> str:
    return form.codes.astype(np.uint32).tobytes().decode("utf-32-le", "surrogatepass")


def normal(text: str) -> str:
    return text_of(normalise(code_points(text)))


def folded(text: str) -> str:
    return text_of(fold(normalise(code_points(text))))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a\r\nb\rc\u2028d\u2029e\x85f\n", "a\nb\nc\nd\ne\nf\n"),
        ("a\tb\u00a0c\u3000d\u2009e", "a b c d e"),
        ("\ufeffa\u200bb\u00adc\u2060", "abc"),
        ("e\u0301 \u212b \u1112\u1161\u11ab", "é Å 한"),
        ("", ""),
    ],
)
def test_what_no_reader_sees_is_the_same(text, wanted):
    assert normal(text) == wanted


@given(st.text(st.characters(exclude_categories=["Cs", "Cf"]), max_size=30))
def test_canonically_equivalent_texts_have_one_form(text):
    known = {c for c in text if c.isspace() or c in "\v\f\x1c\x1d\x1e\x1f\x85"}
    text = "".join(c for c in text if c not in known)
    for form in ("NFC", "NFD"):
        assert normal(unicodedata.normalize(form, text)) == unicodedata.normalize("NFC", text)


@given(st.text(max_size=30))
def test_places_ascend_and_are_of_the_original(text):
    codes = code_points(text)
    for form in (normalise(codes), fold(normalise(codes))):
        assert len(form.codes) == len(form.origin)
        assert (np.diff(form.origin) >= 0).all()
        if len(form.origin):
            assert 0 <= form.origin.min() and form.origin.max() < len(codes)


def test_places_are_those_of_the_characters():
    text = "\ufeffa\r\nStra\u00dfe e\u0301x"
    form = normalise(code_points(text))
    for character, place in zip(text_of(form), form.origin.tolist(), strict=True):
        assert text[place] == character or (character, text[place]) in {("\n", "\r"), ("é", "e")}
    letters = fold(form)
    assert [text[i] for i in letters.origin] == list("aStraßße") + ["e", "x"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The STRASSE, \u201cstra\u00dfe\u201d \u2014 o'clock!", "thestrassestrasseoclock"),
        ("con-\ntinued ﬁne №5 ½", "continuedfineno512"),
        ("  12  one\n 13: two\n4 3\n", "onetwo3"),
        ("12one", "12one"),
        ("x = 3\n100000000 y", "x3100000000y"),
        ("Ünïcödé ΑΒΓ Жук", "unicodeabγжyk"),
        ("海内存知己，天涯若比邻。", "海内存知己天涯若比邻"),
        ("I like 🍎.", "ilike🍎"),
    ],
)
def test_letters_and_digits_alone(text, wanted):
    assert folded(text) == wanted
