"""Any registered metric as a callback."""

import pytest
import torch

from novum.callbacks import SetMetrics
from novum.metrics.functional import (
    Moments,
    clipped_density_coverage,
    frechet_distance_from_features,
)
from novum.metrics.neighbours import neighbour_distances
from tests.evaluation.test_space import gaussian


class Known:
    """Stands in for the evaluation of a trainer."""

    train, fake = gaussian(200, 0), gaussian(200, 1)
    device = torch.device("cpu")

    def reference(self, name, split):
        return self.train if split == "train" else gaussian(100, 2)

    def features(self, name, n):
        return self.fake[:n]

    def reference_moments(self, name, split):
        return Moments().update(self.train)

    def reference_neighbour_distances(self, name, split, n):
        return neighbour_distances(self.train, 5)


def test_metrics_by_name_with_their_intervals():
    known, callback = Known(), SetMetrics(("clipped_coverage", "frechet_distance", "authenticity"))
    space = callback._space(known, "pixels")
    assert set(space.quality) == {"clipped_coverage", "frechet_distance"}
    assert set(space.novelty) == {"authenticity"}
    found = clipped_density_coverage(known.train, known.fake)
    assert space.quality["clipped_coverage"].value == pytest.approx(found.coverage)
    distance = space.quality["frechet_distance"]
    assert distance.value == pytest.approx(frechet_distance_from_features(known.train, known.fake))
    assert distance.low < distance.value < distance.high


def test_a_metric_that_is_not_defined_is_left_out_of_the_log():
    callback = SetMetrics(("data_copying_ct",), num_samples=10)
    assert callback._space(Known(), "pixels").novelty["data_copying_ct"].value is None


def test_a_wrong_name_is_an_error_at_once():
    with pytest.raises(
        ValueError, match="no metric 'clipped_densty': did you mean clipped_density?"
    ):
        SetMetrics(("clipped_densty",))
