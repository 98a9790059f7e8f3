"""Who knows training text by heart is found out, and who does not is not."""

import random

import pytest

from novum.core.byte_pairs import BytePairs
from novum.core.vocabulary import Vocabulary
from novum.datamodules.sources.corpus import TextSource
from novum.evaluation.text_extraction import compared, draw_prompts, recited


def words(seed: int, n: int = 4000) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefgh", k=rng.randint(2, 7))) for _ in range(n))


TRAIN, HELDOUT = TextSource.of(words(0)), TextSource.of(words(1))


class Parrot:
    """Goes on as the text does if it has been shown `needs` characters of it, in one of `n`."""

    tokens_seen = 0

    def __init__(self, needs: int, always: bool = True) -> None:
        self.needs, self.always, self.asked = needs, always, []

    def sample_text(self, n, length, *, temperature=1.0, prime="", seed=None):
        self.asked.append((n, length, temperature, len(prime)))
        at = TRAIN.text().find(prime)
        known = len(prime) >= self.needs and at >= 0 and (self.always or n > 1)
        found = TRAIN.text(at + len(prime), at + len(prime) + length) if known else "?" * length
        return ["?" * length] * (n - 1) + [found]


def prompts(source: TextSource, vocabulary: Vocabulary | None = None, n: int = 50):
    return draw_prompts(source, n, 100, 30, 0, vocabulary or source.vocabulary)


def test_prompts_are_all_over_the_text_and_do_not_overlap():
    found = prompts(TRAIN)
    assert len(found) == 50
    for prompt in found:
        whole = TRAIN.text(prompt.offset - 100, prompt.offset + 30)
        assert prompt.prefix + prompt.suffix == whole
    offsets = [prompt.offset for prompt in found]
    assert all(b - a >= 130 for a, b in zip(offsets, offsets[1:], strict=False))
    assert offsets[0] < len(TRAIN) / 25 and offsets[-1] > len(TRAIN) * 24 / 25
    assert prompts(TRAIN) == found
    assert draw_prompts(TRAIN, 50, 100, 30, 1, TRAIN.vocabulary) != found
    assert len(prompts(TextSource.of(words(0)[:1000]))) == 1000 // (100 + 30 + 64)


def test_a_suffix_begins_where_a_token_does():
    pairs = BytePairs.of_texts([TRAIN.text()], 400)
    found = prompts(TRAIN, pairs)
    assert len(found) > 40
    for prompt in found:
        whole = pairs.encode(prompt.prefix + prompt.suffix).tolist()
        assert whole[len(pairs.encode(prompt.prefix)) :] == pairs.encode(prompt.suffix).tolist()


@pytest.mark.parametrize("needs, expected", [(10, [50, 50]), (50, [0, 50]), (101, [0, 0])])
def test_a_parrot_is_heard_from_the_prefix_that_it_needs(needs, expected):
    parrot = Parrot(needs)
    for prefix, hits in zip((20, 100), expected, strict=True):
        assert sum(recited(parrot, prompts(TRAIN), prefix, 0, 1.0, 0)) == hits
        assert sum(recited(parrot, prompts(HELDOUT), prefix, 0, 1.0, 0)) == 0
    assert set(parrot.asked) == {(1, 30, 0.0, 20), (1, 30, 0.0, 100)}


def test_one_of_many_samples_is_enough():
    parrot = Parrot(10, always=False)
    assert sum(recited(parrot, prompts(TRAIN), 50, 0, 1.0, 0)) == 0
    assert sum(recited(parrot, prompts(TRAIN), 50, 4, 0.7, 0)) == 50
    assert parrot.asked[-1] == (4, 30, 0.7, 50)


def test_shares_have_intervals_and_a_test():
    row = compared(50, 0, [True] * 3 + [False] * 7, [False] * 10)
    assert row.train.value == 0.3 and row.heldout.value == 0
    assert (row.train.low, row.train.high) == pytest.approx((0.0667, 0.6525), abs=1e-4)
    assert row.heldout.high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert row.p == pytest.approx(10 * 9 * 8 / (20 * 19 * 18))  # all three among the first ten


def test_too_short_a_text_is_told():
    with pytest.raises(ValueError, match="a text of 200 characters is too short for prompts of"):
        prompts(TextSource.of(words(0)[:200]))
