import pytest
import torch

from novum.metrics.checks import check_features, check_same_width


def test_too_few_rows_are_named_with_the_limit():
    with pytest.raises(ValueError, match="fake has 3 samples, this metric needs at least 4"):
        check_features(torch.zeros(3, 2), "fake", at_least=4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_rows_that_are_not_finite_are_counted(bad):
    x = torch.zeros(10, 2)
    x[3] = bad
    with pytest.raises(ValueError, match="real has NaN or infinite values in 1 of 10 rows"):
        check_features(x, "real")


def test_shape_is_checked():
    with pytest.raises(ValueError, match=r"must be an \(n, d\) tensor, got \(3,\)"):
        check_features(torch.zeros(3), "real")


def test_empty_sets_are_refused():
    with pytest.raises(ValueError, match="0 samples"):
        check_features(torch.zeros(0, 2), "real")


def test_widths_must_agree():
    with pytest.raises(ValueError, match="real has d = 2, fake has d = 3"):
        check_same_width(real=torch.zeros(1, 2), fake=torch.zeros(1, 3))
