import math

import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric

from novum.metrics.functional import inception_score, vendi_score


def test_inception_score_is_torch_fidelitys(normal):
    logits = 3 * normal(505, 12)
    theirs = isc_features_to_metric(logits, splits=7, rng_seed=2020)
    ours = inception_score(logits, splits=7)
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert ours.std == pytest.approx(theirs["inception_score_std"], rel=1e-9)


def test_inception_score_of_sure_and_even_classes():
    logits = torch.eye(4).repeat(25, 1) * 1e4  # probabilities of exactly 0 and 1
    assert inception_score(logits, splits=1).mean == pytest.approx(4, rel=1e-12)
    assert inception_score(torch.zeros(100, 4)).mean == pytest.approx(1, rel=1e-12)


def test_inception_score_needs_a_sample_per_split(normal):
    with pytest.raises(ValueError, match="logits has 5 samples, this metric needs at least 10"):
        inception_score(normal(5, 3))


@pytest.mark.parametrize(("n", "d"), [(30, 8), (8, 30), (16, 16)])
def test_vendi_is_the_entropy_of_the_kernels_spectrum(normal, n, d):
    x = normal(n, d).double()
    unit = x / x.norm(dim=1, keepdim=True)
    p = torch.linalg.eigvalsh(unit @ unit.T / n).clamp(min=1e-300)
    assert vendi_score(x) == pytest.approx(float((-(p * p.log()).sum()).exp()), rel=1e-9)
    assert vendi_score(x, q=2) == pytest.approx(float(1 / p.square().sum()), rel=1e-9)
    assert vendi_score(x, q=math.inf) == pytest.approx(float(1 / p.max()), rel=1e-9)


def test_vendi_counts_distinct_directions():
    assert vendi_score(torch.eye(6).repeat(5, 1)) == pytest.approx(6)
    assert vendi_score(torch.ones(50, 3)) == pytest.approx(1)


def test_vendi_of_black_images_is_one():
    assert vendi_score(torch.zeros(20, 3)) == pytest.approx(1)
    assert vendi_score(torch.cat([torch.zeros(10, 3), torch.ones(10, 3)])) == pytest.approx(2)


def test_vendi_goldens(goldens, generator_name):
    expected = goldens.values[generator_name]["vendi_cosine"]
    assert vendi_score(goldens.fake(generator_name)) == pytest.approx(expected, rel=1e-6)
