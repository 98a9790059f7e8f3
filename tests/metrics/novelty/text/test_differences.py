from hypothesis import given
from hypothesis import strategies as st

from novum.metrics.novelty.text.differences import Piece, differences

TEXTS = st.text("aB \nx", max_size=40)


@given(TEXTS, TEXTS)
def test_pieces_are_the_texts_and_the_same_on_both_sides(own, source):
    found = differences(own, source)
    assert "".join(p.text for p in found.own) == own
    assert "".join(p.text for p in found.source) == source
    same = [[p.text.lower().replace("\n", " ") for p in side if p.same] for side in found[:2]]
    assert same[0] == same[1]
    assert found.identity == sum(map(len, same[0])) / max(len(own), len(source), 1)


def test_a_word_replaced():
    found = differences("the quick brown fox jumps", "the quick red fox jumps")
    assert found.edits >= 1 and found.identity > 0.75
    assert found.own[0] == Piece("the quick ", True) and found.source[-1].text.endswith("fox jumps")


def test_case_and_kinds_of_space_are_the_same():
    assert differences("The\nQuick", "the quick") == (
        [Piece("The\nQuick", True)],
        [Piece("the quick", True)],
        1.0,
        0,
    )


def test_long_passages_take_little_time():
    words = [f"word{i * 7919}" for i in range(20_000)]
    own = " ".join(w if i % 9 else "other" for i, w in enumerate(words))
    found = differences(own.upper(), " ".join(words))
    assert 0.7 < found.identity < 1 and found.edits > 1500


def test_what_has_nothing_in_common():
    found = differences("a" * 2000, "b" * 1000)
    assert found.identity == 0 and found.edits == 1
