"""A choice of what to leave out of a history that is too long."""

import math


def most_crowded(times: list[int]) -> int:
    """The inner time whose neighbours are closest together on a log scale."""
    logs = [math.log(max(t, 1)) for t in times]
    return times[min(range(1, len(times) - 1), key=lambda i: logs[i + 1] - logs[i - 1])]
