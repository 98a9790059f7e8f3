"""The verdict's error rates and what it finds, over null runs with fixed seeds.

`pytest --long` makes 1,000 runs of each situation, as docs/measurements.md has them; without it
there are fewer. A count is held against the 99.9% point of the binomial of the stated rate.
"""

import numpy as np
import pytest
from scipy.stats import binom

from novum.evaluation.gate import needed_heldout, needed_items
from novum.report.model import Finding
from tests.evaluation.worlds import INNOCENT, judge

SIZES = ((200, 200, 200), (60, 600, 200), (600, 60, 200))


@pytest.fixture
def runs(request) -> int:
    return 1000 if request.config.getoption("--long") else 25


def at_most(rate: float, runs: int) -> int:
    return int(binom.ppf(0.999, runs, rate))


@pytest.mark.slow
@pytest.mark.parametrize("kind", INNOCENT)
def test_generators_that_copy_nothing_are_not_convicted(kind, runs):
    """Verdicts of copying 1%, lower bounds above 0 5%, no judgement 4% of reports, at most."""
    found = [judge(seed, kind, *SIZES[seed % 3]) for seed in range(runs)]
    convicted = sum(f.finding is Finding.COPYING for f in found)
    bounds = sum(f.report.gate.copy_rate.low > 0 for f in found)
    unjudged = sum(f.finding is Finding.CANNOT_JUDGE for f in found)
    print(f"\n{kind}: {convicted} convicted, {bounds} bounds, {unjudged} unjudged of {runs}")
    assert convicted <= at_most(0.01, runs)
    assert bounds <= at_most(0.05, runs)
    assert unjudged <= at_most(0.04, runs)


@pytest.mark.slow
@pytest.mark.parametrize(("t", "h", "copies"), [(400, 400, 11), (1000, 200, 41), (1000, 100, 77)])
def test_few_copied_items_are_found(t, h, copies):
    """The numbers that three spaces need at 1:1, 5:1 and 10:1."""
    found = [judge(seed, "fresh", t, h, 400, copies=copies) for seed in range(10)]
    assert all(f.finding in (Finding.COPYING, Finding.LEANING) for f in found)
    assert sum(f.finding is Finding.COPYING for f in found) >= 9


@pytest.mark.slow
def test_named_items_are_wrong_in_a_tenth_at_most(runs):
    """Over the union of three spaces, one q."""
    found = [judge(seed, "fresh", 300, 300, 300, copies=20) for seed in range(min(runs, 100))]
    shares = [f.test.flagged[20:].sum().item() / max(f.test.flagged.sum().item(), 1) for f in found]
    assert np.mean(shares) <= 0.1 + 3 * np.std(shares) / len(shares) ** 0.5
    assert sum(f.test.flagged[:20].sum().item() for f in found) >= 0.9 * 20 * len(found)


@pytest.mark.slow
def test_copy_rates_cover_the_truth(runs):
    """10% are copies: outside the interval in 5% of reports at most."""
    found = [judge(s, "fresh", 200, 200, 200, copies=20, spaces=1) for s in range(min(runs, 200))]
    rates = [f.report.gate.copy_rate for f in found]
    missed = sum(not rate.low <= 0.1 <= rate.high for rate in rates)
    assert missed <= at_most(0.05, len(rates))


def test_held_out_images_needed():
    """With so many of them, and not with fewer, that number of copied items is what is needed."""
    for copies in (9, 20, 61):
        heldout = needed_heldout(1000, copies)
        assert needed_items(1000, heldout) == copies < needed_items(1000, round(0.9 * heldout))


def test_copied_items_needed():
    """(1/2)^9 < .003, (5/6)^32 < .003, (10/11)^61 < .003."""
    assert [needed_items(100, 100), needed_items(500, 100), needed_items(1000, 100)] == [9, 32, 61]
