"""Carlini's distance: how near is a sample to a training item, for how dense the data is there?"""

from torch import Tensor

from novum.metrics.checks import check_features, check_same_width
from novum.metrics.neighbours import distinct_rows, knn


def calibrated_distance(train: Tensor, fake: Tensor, n: int = 50, alpha: float = 0.5) -> Tensor:
    """Distance to the nearest training row over alpha times the mean to the n nearest, (m,).

    Carlini et al., 2023 (2301.13188) call a sample below 1 a copy, in pixels. Differs from theirs:
    equal rows count once, or copies of a repeated row would pass. No held-out data is in it, so
    what share of fresh samples it flags is not known.
    """
    for name, x in {"train": train, "fake": fake}.items():
        check_features(x, name, at_least=1)
    check_same_width(train=train, fake=fake)
    first, _ = distinct_rows(train)
    distances = knn(fake, train[first], min(n, len(first))).distances
    return (distances[:, 0] / (alpha * distances.mean(1))).nan_to_num(0)
