"""What innocent text shares with training text, and what is held to be beyond it."""

import sysconfig
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from novum.metrics.novelty.text import TextReferences, judge_text
from novum.metrics.novelty.text.chance import (
    EXCESS_ERROR,
    FACT_ERROR,
    LEAST,
    Null,
    are_facts,
    excess_p,
    fact_threshold,
    joined_nulls,
    model_threshold,
)
from tests.metrics.novelty.text.markov import documents

NONE = np.zeros(0, np.int64)


def null_of(scores, tokens: int, items=NONE, groups=NONE, apart=None) -> Null:
    scores = np.sort(np.array(scores, float))[::-1]
    apart = scores if apart is None else np.sort(np.array(apart, float))[::-1]
    return Null(scores, apart, tokens, np.array(items), np.array(groups))


@pytest.mark.parametrize("index", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("rate", [0.3, 3, 30])
@pytest.mark.parametrize("ratio", [0.02, 0.2, 1.0])
def test_facts_about_passages_with_a_heavy_tail(index, rate, ratio):
    """A Poisson number of Pareto scores: at most 1% of innocent samples exceed the threshold."""
    random = np.random.default_rng([int(10 * index), int(10 * rate), int(100 * ratio)])
    tokens, runs, alarms = 300_000, 1000, 0

    def drawn(expected):
        return LEAST * (1 + random.pareto(1 / index, random.poisson(expected)))

    for _ in range(runs):
        threshold = fact_threshold(null_of(drawn(rate), tokens), int(ratio * tokens))
        alarms += bool((drawn(rate * ratio) >= threshold).any())
    assert alarms <= binom.ppf(0.999, runs, 2 * FACT_ERROR)


def test_a_fact_takes_more_in_text_that_repeats_itself():
    alike = [fact_threshold(null_of(x, 300_000), 5000) for x in ([], [20], [20, 500], [500] * 30)]
    assert alike == sorted(alike)
    assert alike[0] == model_threshold(5000) + 12  # nothing known: what n-gram models reach
    assert alike[-1] > 500


def test_a_repeated_passage_is_not_excused_by_itself():
    repeats = null_of([400.0], 300_000, [7, 3], [0, 0])
    assert fact_threshold(repeats, 5000) > 60
    scores = np.array([50.0, 50.0, 20.0])
    assert are_facts(scores, np.array([7, 8, 7]), repeats, 5000).tolist() == [True, False, False]


def test_nulls_are_joined_with_their_groups():
    joined = joined_nulls([null_of([9.0, 2], 10, [4, 5], [0, 1]), null_of([5.0], 20, [6], [0])])
    assert joined.scores.tolist() == [9, 5, 2] and joined.tokens == 30
    assert joined.without(5).tolist() == [9, 5]
    assert joined.without(6).tolist() == [9, 2]


def test_passages_that_come_together_count_once():
    nothing = null_of([], 200_000)
    least = model_threshold(5000)

    def p_of(units: list[int]) -> float:
        count = len(units)
        scores, items = np.full(count, 60.0), np.arange(count)
        return excess_p(scores, items, np.array(units), 5000, nothing, least)

    assert p_of([1, 2]) <= EXCESS_ERROR < p_of([1, 1])
    assert p_of([1] * 4) <= EXCESS_ERROR  # so many do not come together


@pytest.mark.slow
def test_fresh_source_code_raises_no_alarm(request):
    """Of the standard library, whose files have licences and whole functions in common."""
    splits = 12 if request.config.getoption("--long") else 1
    folder = Path(sysconfig.get_path("stdlib"))
    modules = [p for part in ("", "asyncio", "email", "http") for p in (folder / part).glob("*.py")]
    texts = [path.read_text(encoding="utf-8", errors="replace")[:20_000] for path in modules]
    texts = [text for text in sorted(texts) if len(text) > 2000]
    alarms = judged = 0
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(texts))
        train, heldout, fresh = (
            [texts[i] for i in part] for part in np.split(order, [len(order) * 7 // 10, -30])
        )
        references = TextReferences(documents(train, "t"), documents(heldout, "h"))
        for sample in fresh:
            found = judge_text(references, [sample])
            alarms += bool(found.novelty["folded"]["facts_found"])
            alarms += found.judgement.excess_p <= EXCESS_ERROR
            judged += 1
    print(f"\n{alarms} alarms in {judged} samples")
    assert alarms <= binom.ppf(0.999, judged, 0.01)
