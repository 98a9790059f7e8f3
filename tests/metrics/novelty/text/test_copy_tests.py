"""What is claimed of chance, over many seeds."""

import numpy as np
import pytest

from novum.metrics.novelty.permutation import permutation_test_from_matches
from novum.metrics.novelty.text import match
from novum.metrics.novelty.text.copy_tests import Side, passage_centres, pooled_matches
from novum.metrics.novelty.text.index import Words, build_index
from novum.metrics.novelty.text.judging import Queries, judge_reading, prepare
from tests.metrics.novelty.text.markov import VOCABULARY, chain, ngram_model, plant, source

ITEM = 1000


def judge(train: str, heldout: str, text: str, name: str = "verbatim"):
    reference = prepare(name, source(train), source(heldout, "heldout.txt"))
    return judge_reading(reference, Queries.of([VOCABULARY.encode(text)], VOCABULARY))


def passages(n: int, seed: int) -> list[str]:
    text = chain(n * ITEM, seed)
    return [text[i : i + ITEM] for i in range(0, len(text), ITEM)]


def p_value(train: list[str], heldout: list[str], text: str, seed: int) -> float:
    queries = Words(VOCABULARY.encode(text))
    sides = []
    for part in (train, heldout):
        index = build_index(VOCABULARY.encode("".join(part)))
        sides.append(Side(index, match(index, queries.tokens)))
    centres = passage_centres(np.array([len(text)]))
    matches = pooled_matches(*sides, queries, centres, seed)
    return permutation_test_from_matches(matches, permutations=99, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("written", ["fresh", "copied from both", "one phrase repeated"])
def test_p_values_are_uniform_or_larger_if_labels_are_chance(written):
    """Whatever the generator did, and though training text is four times held-out text."""
    pool = passages(40, seed=1)
    phrase = pool[7][100:160]
    text = {
        "fresh": chain(10_000, seed=2),
        "copied from both": plant(chain(5000, seed=3), "".join(pool), [120] * 40, seed=4).text,
        "one phrase repeated": (phrase + "|") * 150,
    }[written]
    p = []
    for seed in range(100):
        order = np.random.default_rng(seed).permutation(40)
        train, heldout = ([pool[i] for i in part] for part in (order[:32], order[32:]))
        p.append(p_value(train, heldout, text, seed))
    for level in (0.05, 0.1, 0.3):
        assert np.mean(np.array(p) <= level) <= level + 2.6 * (level * (1 - level) / len(p)) ** 0.5


def test_copies_of_training_text_are_named_and_proved():
    train, heldout = chain(40_000, seed=1), chain(40_000, seed=2)
    planted = plant(chain(30_000, seed=3), train, [50] * 10 + [200] * 30, seed=4)
    found = judge(train, heldout, planted.text)
    starts = found.copies.start.tolist()
    assert starts == [start for start, _, _ in planted.copies]
    assert found.novelty["copies_flagged"] == 40
    assert found.novelty["permutation_p"] <= 0.01
    assert 0 < found.novelty["copy_rate"]["low"] <= found.novelty["copy_rate"]["value"]
    assert found.novelty["drawn_to_training"] > 0


def test_one_long_copy_is_many_thousands_of_characters_not_one_case():
    train, heldout = chain(60_000, seed=1), chain(20_000, seed=2)
    found = judge(train, heldout, train[5000:45_000])
    assert found.copies.length.tolist() == [40_000]
    assert found.novelty["copies_flagged"] == 1 and found.novelty["drawn_to_training"] > 0.5


def test_no_false_alarm_on_heldout_text_itself():
    train, heldout = chain(60_000, seed=1), chain(20_000, seed=2)
    for text in (heldout, heldout[5000:]):
        found = judge(train, heldout, text)
        assert found.novelty["copies_flagged"] == 0 and found.novelty["drawn_to_training"] == 0
        assert found.novelty["permutation_p"] > 0.05


@pytest.mark.slow
def test_no_false_alarm_on_a_model_of_other_text():
    """Held-out text has phrases in common with training text, and so have the samples."""
    phrases = [chain(70, seed=900 + i) for i in range(12)]

    def author(seed: int) -> str:
        random = np.random.default_rng(seed)
        body = chain(30_000, seed)
        return "".join(body[i : i + 1000] + random.choice(phrases) for i in range(0, 30_000, 1000))

    alarms = 0
    for seed in range(10):
        train, heldout = author(4 * seed) + author(4 * seed + 1), author(4 * seed + 2)
        text = ngram_model(author(4 * seed + 3), 12, 20_000, seed)
        novelty = judge(train, heldout, text).novelty
        assert novelty["copies_found"] > 0
        alarms += novelty["copies_flagged"] > 0 or novelty["drawn_to_training"] > 0
    assert alarms <= 2


def test_copies_that_heldout_text_has_too_are_none():
    train, heldout = chain(30_000, seed=1), chain(30_000, seed=2)
    shared = "".join(chain(100, seed=50 + i) + "|" for i in range(30))
    found = judge(train + shared, shared + heldout, chain(5000, seed=3) + "#" + shared)
    assert found.common.all() and (found.q == 1).all()


def test_copies_in_other_case_and_spacing_are_near_copies():
    train, heldout = chain(30_000, seed=1), chain(30_000, seed=2)
    pieces = [train[i : i + 200] for i in range(1000, 29_000, 1500)]
    text = "|".join(" ".join(piece.lower().split()) for piece in pieces)
    assert judge(train, heldout, text).novelty["copied_share"] < 0.5
    found = judge(train, heldout, text, "folded")
    assert found.novelty["copied_share"] > 0.9
    for start, length, place, source_length in zip(*found.copies, found.source_length, strict=True):
        fold = [
            "".join(x.lower().split())
            for x in (text[start : start + length], train[place : place + source_length])
        ]
        assert fold[0] == fold[1]


def test_without_heldout_text_nothing_is_named():
    reference = prepare("verbatim", source(chain(5000, seed=1)), None)
    text = VOCABULARY.encode(chain(5000, seed=1)[:500])
    found = judge_reading(reference, Queries.of([text], VOCABULARY))
    assert found.novelty["copied_share"] == 1 and "copies_flagged" not in found.novelty
    assert (found.q == 1).all()


def test_passage_centres_lie_in_their_texts():
    assert passage_centres(np.array([250, 260, 460])).tolist() == [50, 150, 225, 255, 310, 410]


def test_no_copy_goes_across_texts_or_unknown_characters():
    train = chain(5000, seed=1)
    reference = prepare("verbatim", source(train), None)
    halves = [train[1000:1060], train[1060:1120], train[2000:2060] + "Ω" + train[2061:2121]]
    texts = [VOCABULARY.encode(text) for text in halves]
    found = judge_reading(reference, Queries.of(texts, VOCABULARY))
    assert found.copies.start.tolist() == [0, 60, 120, 181]
    assert found.copies.length.tolist() == [60] * 4
    assert found.novel[0] == 1 / 241  # the unknown character is new
