"""A metric is one file: its record stands beside its function, and all else takes it from there."""

import pytest

from novum.metrics.record import FeatureSets
from novum.metrics.registry import computable, describe, measures, metrics
from tests.evaluation.test_space import gaussian


def test_names_are_unique_and_every_metric_is_explained():
    names = [name for measure in measures() for name in measure.names]
    assert len(names) == len(set(names)) > 40
    for metric in metrics().values():
        assert metric.title and (metric.meaning or metric.name.endswith("_heldout"))
        assert metric.direction is None or metric.better.startswith(metric.direction)


def test_a_function_gives_a_value_for_each_of_its_metrics():
    sets = FeatureSets(
        gaussian(300, 0), gaussian(300, 1), gaussian(300, 2), logits=gaussian(300, 3)
    )
    for measure in computable(sets):
        if "frechet_distance" not in measure.names[0]:  # these take moments, too
            assert len(measure.compute(sets)) == len(measure.metrics), measure.names


@pytest.mark.parametrize("without", ["heldout", "logits"])
def test_what_a_metric_needs_decides_whether_it_is_computed(without):
    sets = FeatureSets(*(gaussian(9, seed) for seed in range(3)), logits=gaussian(9, 3))
    names = {m.names for m in computable(sets)} - {
        m.names for m in computable(sets._replace(**{without: None}))
    }
    expected = {"heldout": {("data_copying_ct",), ("fld_gap",)}, "logits": {("inception_score",)}}
    assert names == expected[without]


def test_an_unknown_metric_goes_by_its_name():
    assert describe("surprise_index").title == "Surprise index"
