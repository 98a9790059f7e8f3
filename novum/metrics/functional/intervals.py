"""Values with an interval."""

from typing import NamedTuple

from novum.core.errors import InputError


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def wilson_interval(successes: float, trials: float, confidence: float = 0.95) -> Interval:
    """Score interval of a share (Wilson, 1927): short, and right on average."""
    from scipy.stats import norm

    p = _share(successes, trials)
    z2 = norm.ppf(0.5 + confidence / 2) ** 2
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = (z2 * p * (1 - p) / trials + (z2 / (2 * trials)) ** 2) ** 0.5 / (1 + z2 / trials)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(p, float(low), float(high))


def clopper_pearson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a share (Clopper & Pearson, 1934): never covers less than it says."""
    from scipy.stats import beta

    p, tail = _share(successes, trials), (1 - confidence) / 2
    failures = trials - successes
    low = 0.0 if successes == 0 else beta.ppf(tail, successes, failures + 1)
    high = 1.0 if failures == 0 else beta.ppf(1 - tail, successes + 1, failures)
    return Interval(p, float(low), float(high))


def normal_interval(value: float, standard_error: float, confidence: float = 0.95) -> Interval:
    """value +- z standard errors."""
    from scipy.stats import norm

    half = float(norm.ppf(0.5 + confidence / 2)) * standard_error
    return Interval(value, value - half, value + half)


def _share(successes: float, trials: float) -> float:
    if not 0 <= successes <= trials or trials == 0:
        raise InputError(f"{successes} successes in {trials} trials: not a share, need 0 <= s <= n")
    return successes / trials
