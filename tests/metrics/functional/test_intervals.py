import pytest
from scipy.stats import binom, binomtest

from novum.metrics.functional import (
    clopper_pearson_interval,
    normal_interval,
    wilson_interval,
)

METHODS = [(wilson_interval, "wilson"), (clopper_pearson_interval, "exact")]


@pytest.mark.parametrize(("interval", "method"), METHODS)
@pytest.mark.parametrize("successes", [0, 1, 17, 49, 50])
def test_equals_scipys(interval, method, successes):
    theirs = binomtest(successes, 50).proportion_ci(0.9, method)
    ours = interval(successes, 50, 0.9)
    assert ours.value == successes / 50
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5])
def test_clopper_pearson_never_covers_too_little(p):
    intervals = [clopper_pearson_interval(s, 40) for s in range(41)]
    covered = sum(binom.pmf(s, 40, p) for s, i in enumerate(intervals) if i.low <= p <= i.high)
    assert covered >= 0.95


def test_normal_interval():
    assert normal_interval(1.0, 2.0) == pytest.approx((1, 1 - 3.919928, 1 + 3.919928))


@pytest.mark.parametrize(("successes", "trials"), [(3, 2), (-1, 2), (0, 0)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match="not a share"):
        wilson_interval(successes, trials)
