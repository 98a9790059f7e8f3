"""One judgement of features whose answers are known."""

import pytest
import torch

from novum.core.errors import NotComputable
from novum.datamodules.sources.image_sources import ImageArray
from novum.evaluation import space
from novum.evaluation.space import judge, quality_floor
from novum.metrics.features import extract_features, load_extractor
from novum.metrics.functional import Moments, frechet_distance_from_features, precision_recall
from novum.metrics.functional.frechet import WIDEST
from novum.metrics.functional.intervals import wilson_interval
from novum.metrics.record import FeatureSets, Measure, Metric
from novum.metrics.registry import computable
from novum.metrics.subsets import equal_sizes
from novum.report.model import Estimate


def gaussian(n: int, seed: int, d: int = 4) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def features(train, heldout, fake) -> FeatureSets:
    return FeatureSets(train, heldout, fake, Moments().update(train))


def test_values_are_those_of_the_functions():
    train, heldout, fake = gaussian(300, 0), gaussian(200, 1), gaussian(100, 2)
    found = judge(features(train, heldout, fake))
    distance = frechet_distance_from_features(train, fake)
    estimate = found.quality["frechet_distance"]
    assert estimate.value == pytest.approx(distance)
    assert estimate.low < distance < estimate.high
    precision, recall = precision_recall(*equal_sizes(train, fake))
    assert found.quality["precision"] == Estimate(*wilson_interval(round(100 * precision), 100))
    assert found.quality["precision"].value == precision
    assert found.quality["recall"] == Estimate(recall)
    assert None not in vars(found.quality["kernel_distance"]).values()
    share = found.novelty["closer_to_train"]
    assert share.low < 0.5 < share.high
    assert abs(found.novelty["data_copying_ct"].value) < 3
    assert found.missing == []
    assert found.copying.rate.low == 0 and not found.copying.test.flagged.any()
    assert 0 < found.novelty["permutation_p"].value <= 1
    assert set(found.realism.rows.tolist()) == set(range(100))
    assert len(found.neighbours.train_row) == 100


def test_without_heldout_features():
    found = judge(features(gaussian(50, 0), None, gaussian(30, 2)))
    assert set(found.novelty) == {"authenticity"}
    assert found.neighbours.heldout_row is None


@pytest.mark.parametrize("n", range(2, 7))
def test_each_metric_says_how_many_it_needs(n):
    found = judge(features(gaussian(20, 0), gaussian(20, 1), gaussian(n, 2)))
    figures = found.quality | found.novelty
    for measure in computable(features(gaussian(20, 0), None, gaussian(n, 2))):
        if measure.names == ("frechet_distance_infinity",):
            continue  # says itself: four times as many as dimensions
        known = n >= measure.at_least
        assert all((figures[name].value is not None) == known for name in measure.names)
        reason = f"needs at least {measure.at_least} of each, there are {n} samples and 20"
        assert any(reason in line for line in found.missing) != known
    assert found.novelty["data_copying_ct"] == Estimate(None)  # 20 in a cell


def test_wide_features_have_no_covariance():
    sets = [gaussian(10, seed, WIDEST + 1) for seed in range(3)]
    found = judge(FeatureSets(*sets))
    assert found.quality["frechet_distance"] == Estimate(None)
    assert found.quality["precision"].value is not None
    assert "8,193 dimensions are too many" in found.missing[0]


def test_features_that_are_not_finite_are_refused():
    fake = gaussian(30, 2)
    fake[3, 1] = torch.nan
    with pytest.raises(ValueError, match="fake features has NaN or infinite values in 1 of 30"):
        judge(features(gaussian(50, 0), None, fake))


def test_equal_sizes_draws_at_random():
    many, few = torch.arange(100.0)[:, None], torch.zeros(10, 1)
    chosen, same = equal_sizes(many, few)
    assert len(chosen) == len(same) == 10
    assert chosen.max() > 10  # not the first rows, which may all be of one class
    assert torch.equal(chosen, equal_sizes(many, few)[0])
    assert torch.equal(chosen, equal_sizes(few, many)[1])


def planted(monkeypatch, error: Exception) -> None:
    """One metric more, which raises that."""

    def broken(sets):
        raise error

    measure = Measure((Metric("broken", "Broken"),), broken)
    monkeypatch.setattr(space, "computable", lambda sets: [measure])


def test_a_metric_that_is_not_defined_says_why(monkeypatch):
    planted(monkeypatch, NotComputable("all images are alike"))
    found = judge(features(gaussian(50, 0), None, gaussian(30, 2)))
    assert found.quality["broken"] == Estimate(None)
    assert found.missing == ["broken: all images are alike"]


@pytest.mark.parametrize("error", [TypeError("bug"), RuntimeError("bug"), ValueError("bug")])
def test_a_bug_in_a_metric_is_not_taken_for_that(monkeypatch, error):
    planted(monkeypatch, error)
    with pytest.raises(type(error), match="bug"):
        judge(features(gaussian(50, 0), None, gaussian(30, 2)))


def test_ranks_share_out_the_floor(monkeypatch):
    """Each figure is computed by one of two ranks; one rank computes them all."""
    sets = features(gaussian(120, 0), gaussian(80, 1), gaussian(60, 2))
    whole = quality_floor(sets)
    assert {"frechet_distance", "precision", "recall", "coverage"} <= set(whole)
    own = []
    for rank in (0, 1):
        monkeypatch.setattr("novum.core.distributed.world_size", lambda: 2)
        monkeypatch.setattr("novum.core.distributed.rank", lambda rank=rank: rank)
        monkeypatch.setattr("novum.core.distributed.all_gather_objects", lambda mine, _: [mine])
        own.append(quality_floor(sets))
    assert not set(own[0]) & set(own[1]) and own[0] | own[1] == whole


def test_the_floor_of_some_metrics_alone():
    sets = features(gaussian(120, 0), gaussian(80, 1), gaussian(60, 2))
    assert set(quality_floor(sets, metrics=("precision",))) == {"precision", "recall"}
    assert quality_floor(sets._replace(heldout=None)) == {}


def test_the_floor_is_computed_once_for_the_same_images(monkeypatch):
    images = [(gaussian(n, seed, 64) * 40 + 128).clamp(0, 255) for seed, n in enumerate((90, 60))]
    train, heldout = (ImageArray(x.to(torch.uint8).view(-1, 1, 8, 8)) for x in images)
    extractor, counted = load_extractor("pixels"), []

    def counting(*args):
        counted.append(args)
        return quality_floor(*args)

    monkeypatch.setattr(space, "quality_floor", counting)

    def floor(n: int, others: ImageArray = heldout) -> dict[str, Estimate]:
        of = [extract_features(extractor, x, progress=False) for x in (train, others, heldout[:n])]
        return space.reference_floor(train, others, extractor, features(*of))

    first, again = floor(50), floor(50)
    assert first == again and len(counted) == 1
    assert first["frechet_distance"].low < first["frechet_distance"].value
    assert set(first) == set(quality_floor(*counted[0])) and first["recall"].low is None
    floor(40)  # of another number of samples
    other = floor(50, ImageArray(heldout.images[:55]))  # of other held-out images
    assert len(counted) == 3 and other != first
