"""What innocent text shares with training text, and what is held to be beyond it."""

import sysconfig
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text import TextReferences, judge_text
from novum.metrics.novelty.text.chance import (
    EXCESS_ERROR,
    FACT_ERROR,
    LEAST,
    Null,
    Repeats,
    are_facts,
    excess_p,
    fact_threshold,
    joined_nulls,
    model_threshold,
    null_of,
)
from novum.metrics.novelty.text.near_copies import Passages


def a_null(scores, tokens: int = 300_000) -> Null:
    scores = np.sort(np.array(scores, float))[::-1]
    return Null(scores, scores, tokens)


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
        threshold = fact_threshold(a_null(drawn(rate), tokens), None, int(ratio * tokens))
        alarms += bool((drawn(rate * ratio) >= threshold).any())
    assert alarms <= binom.ppf(0.999, runs, 2 * FACT_ERROR)


def test_a_fact_takes_more_in_text_that_repeats_itself():
    alike = [fact_threshold(a_null(x), None, 5000) for x in ([], [20], [20, 500], [500] * 30)]
    assert alike == sorted(alike)
    assert alike[0] == model_threshold(5000) + 12  # nothing known: what n-gram models reach
    assert alike[-1] > 500


def passages(*rows: tuple[int, int, int, int, float]) -> Passages:
    """Of start, stop, place, place_stop and score."""
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    zero, no = np.zeros(len(rows), int), np.zeros(len(rows), bool)
    return Passages(*columns, columns[4], zero, no, zero)


def test_a_repeated_passage_is_not_excused_by_itself():
    text = np.random.default_rng(0).integers(1, 27, 20_000).astype(np.uint8)
    text[9000:9100] = text[1000:1100]
    text[15_000:15_100] = text[4000:4100]
    letters = "".join(chr(ord("a") + token - 1) for token in text.tolist())
    pool = TextReferences(TextSource.of(letters), None).pool
    repeated = passages((1000, 1100, 9000, 9100, 400.0), (4000, 4100, 15_000, 15_100, 300.0))
    null = null_of(repeated, pool, 300_000, 0)
    assert null.scores.tolist() == [400, 300]
    assert null.repeats is not None and null.repeats.without(9050, 9150).tolist() == [300]
    limits = [fact_threshold(n, None, 5000) for n in (null, a_null([300.0]), a_null([]))]
    assert limits == sorted(limits, reverse=True)
    score = (limits[0] + limits[1]) / 2
    found = passages((0, 100, 9000, 9100, score), (200, 300, 7000, 7100, score))
    assert are_facts(found, null, None, 5000).tolist() == [True, False]


def test_nulls_are_joined_with_their_repeats():
    def part(score: list[float], passage: list[int], at: int) -> Null:
        place = at + 100 * np.arange(2 * len(score)).reshape(-1, 2)
        repeats = Repeats(np.array(score), np.array(passage), place, place + 50)
        best = np.sort(np.array(score))[::-1]
        return Null(best, best[:1], 10, repeats)

    joined = joined_nulls([part([9.0, 2.0, 3.0], [0, 1, 0], 0), part([5.0], [0], 10_000)])
    assert joined.scores.tolist() == [9, 5, 3, 2] and joined.tokens == 20
    assert joined.apart.tolist() == [9, 5]
    assert joined.repeats is not None
    assert joined.repeats.without(10_120, 10_130).tolist() == [9, 3, 2]
    assert joined.repeats.without(410, 420).tolist() == [5, 2]


def test_passages_that_come_together_count_once():
    nothing = a_null([], 200_000)
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
        references = TextReferences(
            TextSource.of_documents(train, "t"), TextSource.of_documents(heldout, "h")
        )
        for sample in fresh:
            found = judge_text(references, [sample])
            alarms += bool(found.novelty["folded"]["facts_found"])
            alarms += found.judgement.excess_p <= EXCESS_ERROR
            judged += 1
    print(f"\n{alarms} alarms in {judged} samples")
    assert alarms <= binom.ppf(0.999, judged, 0.01)
