import numpy as np

from novum.metrics.novelty.text.shift_test import exchangeability_test
from tests.metrics.novelty.text.markov import VOCABULARY, chain

WORLDS = [VOCABULARY.encode(chain(40_000, seed=world, world=world)) for world in range(4)]


def of_subjects(random, n):
    """Documents of 200 to 1000 tokens, each of one of four subjects; neighbours are alike."""
    parts = []
    while sum(map(len, parts)) < n:
        start, length = random.integers(30_000), random.integers(200, 1000)
        parts.append(WORLDS[random.integers(4)][start : start + length])
    return np.concatenate(parts)[:n]


def test_false_alarms_are_as_many_as_stated():
    # 150 texts of changing subjects; a right test exceeds either bound 1 time in 1000, and the seed
    # is fixed
    random = np.random.default_rng(0)
    found = []
    for _ in range(150):
        text = of_subjects(random, 8_000)
        found.append(exchangeability_test(text[:6_500], text[6_500:]).p)
    found = np.array(found)
    assert (found <= 0.01).sum() <= 6  # 1.5 are expected
    assert (found <= 0.1).sum() <= 27  # 15 are expected


def test_text_of_another_kind_is_told():
    random = np.random.default_rng(1)
    other = VOCABULARY.encode(chain(40_000, seed=1, world=9))
    found = []
    for _ in range(20):
        at = random.integers(30_000)
        found.append(exchangeability_test(of_subjects(random, 16_000), other[at : at + 4_000]).p)
    assert np.mean(np.array(found) <= 0.01) >= 0.95


def test_uneven_sizes_and_what_is_reported():
    random = np.random.default_rng(2)
    text = of_subjects(random, 60_000)
    found = exchangeability_test(text[:59_000], text[59_000:])
    assert 0 < found.p <= 1 and 0 < found.usual_distance < found.distance * 3 < 3
    again = exchangeability_test(text[:59_000].astype(np.uint16), text[59_000:].astype(np.uint16))
    assert again == found


def test_little_text_is_not_judged():
    assert exchangeability_test(WORLDS[0][:3], WORLDS[0][:5]) is None
    assert exchangeability_test(WORLDS[0][:100], WORLDS[0][:1]) is None
