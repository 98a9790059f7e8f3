"""Passages, altered or not, and what is claimed of chance."""

import numpy as np
import pytest

from novum.core.vocabulary import code_points
from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text import TextReferences, judge_text, near_copies
from novum.metrics.novelty.text.normal_form import fold, normalise
from novum.metrics.novelty.text.planted_edits import (
    ALTERATIONS,
    NAMES_REPLACED,
    UNTUNED,
    WORD,
    lookalikes,
)
from novum.metrics.novelty.text.text_power import EVERY, text_power
from tests.metrics.novelty.text.markov import chain, ngram_model
from tests.metrics.novelty.text.words import author

TRAIN, HELDOUT = author(220_000, seed=1), author(60_000, seed=2)


@pytest.fixture(scope="module")
def references():
    return TextReferences(TextSource.of(TRAIN), TextSource.of(HELDOUT))


def overlapping(copies, start: int, stop: int, place: int, length: int):
    return [
        c
        for c in copies
        if c.start < stop
        and c.start + c.length > start
        and c.place < place + length
        and c.place + c.source_length > place
    ]


@pytest.mark.parametrize("name", [name for name in ALTERATIONS if "names" not in name])
def test_an_altered_passage_is_named_with_its_source(references, name):
    chance = np.random.default_rng(sum(map(ord, name)))
    words = list(dict.fromkeys(WORD.findall(TRAIN)))
    fresh = author(12_000, seed=3)
    text, spans = "", []
    for i in range(6):
        place = int(chance.integers(len(TRAIN) - 300))
        altered = ALTERATIONS[name](TRAIN[place : place + 300], chance, words)
        text += fresh[i * 2000 : (i + 1) * 2000] + "\n"
        spans.append((len(text), len(text) + len(altered), place))
        text += altered + "\n"
    found = judge_text(references, [text])
    named = [overlapping(found.copies, *span, 300) for span in spans]
    assert all(any(c.is_fact or c.q <= 0.1 for c in copies) for copies in named)
    assert sum(any(c.is_fact for c in copies) for copies in named) >= 5
    assert all(any(overlapping([c], *s, 300) for s in spans) for c in found.copies)


def test_farther_pieces_count_as_much_but_not_at_the_ends():
    """Each has paid for its place in the window."""
    places = (330, 0, 350, 20, 340, 60)
    runs = [near_copies._Run(40 * i, p, 12, 10.5, 10.5, 1, False) for i, p in enumerate(places)]
    assert near_copies._densest(runs, [10.5] * 6) == (0, 6)
    assert near_copies._densest(runs, [1.0, 10.5, 20.0, 10.5, 10.5, 9.5]) == (1, 5)


@pytest.mark.parametrize("alter", [str.upper, lambda t: t.replace("\n", "\r\n"), lambda t: t])
def test_all_of_it_copied(references, alter):
    found = judge_text(references, [alter(TRAIN[1000:21_000])])
    assert found.novelty["folded"]["copied_share"] > 0.99
    assert found.novelty["folded"]["drawn_to_training"] > 0.3
    assert found.copies[0].is_fact and found.copies[0].length > 19_000


def test_one_passage_once_is_a_fact(references):
    text = author(20_000, seed=3)
    found = judge_text(references, [text[:9000] + TRAIN[5000:5300] + text[9000:]])
    assert [c.is_fact for c in found.copies] == [True]
    copy = found.copies[0]
    assert copy.kind == "verbatim" and copy.edits == 0
    assert abs(copy.start - 9000) <= 3 and abs(copy.place - 5000) <= 3


def test_one_passage_again_and_again_is_named_each_time(references):
    found = judge_text(references, ["\n".join([TRAIN[5000:5300]] * 20)])
    assert found.novelty["folded"]["copied_share"] > 0.98
    assert all(c.is_fact and c.place < 5300 for c in found.copies)
    assert max(c.length for c in found.copies) < 1000


def test_unknown_characters_are_no_wall(references):
    passage = TRAIN[7000:7400]
    changed = "".join(c + ("\u0416" if i % 60 == 0 else "") for i, c in enumerate(passage))
    found = judge_text(references, [changed])
    assert found.copies[0].is_fact and found.copies[0].length > 350


def test_fresh_text_and_ngram_models_raise_no_alarm(references):
    texts = [author(30_000, seed=4), HELDOUT[:30_000]]
    texts += [ngram_model(TRAIN, order, 30_000, order) for order in (4, 6, 8)]
    for text in texts:
        found = judge_text(references, [text])
        folded = found.novelty["folded"]
        assert folded["facts_found"] == folded["copies_flagged"] == 0
        assert folded["drawn_to_training"] == 0


def test_what_heldout_text_has_too_is_no_copy():
    shared = author(400, seed=77)
    references = TextReferences(
        TextSource.of(TRAIN[:60_000] + shared), TextSource.of(HELDOUT + shared)
    )
    found = judge_text(references, [author(5000, seed=3) + shared])
    assert [c.common for c in found.copies] == [True] and not found.copies[0].is_fact
    assert found.judgement.heldout_shared > 0.004


def test_what_many_documents_share_is_boilerplate():
    licence = author(400, seed=77)
    own = [licence * (i < 30) + author(3000, seed=100 + i) for i in range(60)]
    other = TextSource.of_documents([author(3000, seed=200 + i) for i in range(20)], "h")
    references = TextReferences(TextSource.of_documents(own, "t"), other)
    text = author(4000, seed=3) + licence + author(4000, seed=4) + own[5][1000:1800]
    copies = judge_text(references, [text]).copies
    assert sorted(c.documents for c in copies) == [0, 30]
    assert [c.is_fact for c in copies] == [True, False]


def test_documents_that_have_a_passage_are_counted():
    shared = author(700, seed=78)
    own = [shared * (i in (3, 9, 20)) + author(3000, seed=100 + i) for i in range(60)]
    other = TextSource.of_documents([author(3000, seed=200 + i) for i in range(20)], "h")
    references = TextReferences(TextSource.of_documents(own, "t"), other)
    text = author(4000, seed=3) + shared + author(4000, seed=4) + own[5][1000:1800]
    copies = judge_text(references, [text]).copies
    assert [c.sources for c in sorted(copies)] == [3, 1]  # in the order of the text


def test_a_passage_repeated_in_training_is_not_excused():
    known = author(400, seed=77)
    parts = [TRAIN[i * 10_000 : (i + 1) * 10_000] for i in range(20)]
    references = TextReferences(TextSource.of(known.join(parts)), TextSource.of(HELDOUT))
    found = judge_text(references, [author(9000, seed=3) + known + author(9000, seed=4)])
    assert [c.is_fact for c in found.copies] == [True]
    assert found.judgement.train_repeated > 0.02


@pytest.mark.slow
def test_texts_of_low_entropy():
    random = np.random.default_rng(0)
    sizes = 200_000, 30_000, 20_000
    train, heldout, fresh = ("".join(random.choice(list("ACGT"), n)) for n in sizes)
    references = TextReferences(TextSource.of(train), TextSource.of(heldout))
    copies = []
    text = ""
    for i in range(10):
        place = int(random.integers(len(train) - 300))
        passage = list(train[place : place + 300])
        for at in range(int(random.integers(30)), 300, 30):
            passage[at] = "ACGT"["ACGT".index(passage[at]) - 1]
        text += fresh[i * 2000 : (i + 1) * 2000]
        copies.append((len(text), place))
        text += "".join(passage)
    found = judge_text(references, [text])
    hits = [overlapping(found.copies, s, s + 300, place, 300) for s, place in copies]
    assert sum(any(c.is_fact for c in hit) for hit in hits) >= 9
    novelty = judge_text(references, [fresh, "A" * 500, "ACGT" * 200]).novelty["folded"]
    assert novelty["facts_found"] == novelty["copies_flagged"] == 0


def test_short_poems_of_a_script_without_spaces():
    random = np.random.default_rng(0)
    signs = np.array([chr(0x4E00 + i) for i in range(3000)])
    weights = 1 / np.arange(5, 3005)
    lines = ["".join(random.choice(signs, 5, p=weights / weights.sum())) for _ in range(1600)]
    poems = ["，".join(lines[i : i + 4]) + "。\n" for i in range(0, 1600, 4)]
    references = TextReferences(
        TextSource.of_documents(poems[:300], "t"), TextSource.of_documents(poems[300:350], "h")
    )
    text = "".join(poems[i * 9] + poems[350 + i] for i in range(30))
    found = judge_text(references, [text])
    assert len({c.place for c in found.copies if c.q <= 0.1}) == 30
    assert found.judgement.excess_p < 0.002


def test_power_names_what_it_plants(references):
    judgement = judge_text(references, [author(30_000, seed=3)]).judgement
    card = text_power(references, judgement)
    assert list(card) == [name for name in EVERY if name != NAMES_REPLACED]
    for name, recall in card.items():
        assert recall.value >= 0.95 or name in UNTUNED, name
    chained, sentences = (card[name].value for name in UNTUNED)
    assert chained >= 0.7 and sentences >= 0.9


def untuned(text: str, which: int, chance: np.random.Generator | None = None) -> str:
    return [*UNTUNED.values()][which](text, chance or np.random.default_rng(1), ["word", "other"])


def test_letters_that_look_alike_are_one():
    replaced = lookalikes("Case in Point", np.random.default_rng(0), [])
    assert not set(replaced) & set("CaseiPo")
    assert (
        fold(normalise(code_points(replaced))).codes.tobytes().decode("utf-32-le") == "caseinpoint"
    )
    russian = "Съешь же ещё этих мягких французских булок, да выпей чаю"
    folded = [fold(normalise(code_points(x))).codes.tolist() for x in (russian, russian.upper())]
    assert folded[0] == folded[1]
    assert len(set(folded[0])) == len(set(russian.lower()) - set(" ,ёй"))  # none made one
    assert lookalikes("北京", np.random.default_rng(0), []) == "北京"


def test_alterations_that_the_search_was_not_made_for():
    chance = np.random.default_rng(0)
    text = "One of them. Two of them? Three! Four of them; five."
    assert sorted(untuned(text, 1)) == sorted(text)
    assert untuned(text, 1) != text
    assert len({untuned(text * 5, 0, chance) for _ in range(10)}) == 10


def test_a_source_whose_order_is_one(references):
    """A chain of order 1 shares no passages, whatever its letters."""
    sets = (TextSource.of(chain(n, seed)) for n, seed in ((40_000, 1), (20_000, 2)))
    found = judge_text(TextReferences(*sets), [chain(20_000, seed=3)])
    assert found.copies == []
