"""Linear separability: 1 where a plane separates, 2^H(Y) per attribute where nothing does."""

import pytest
import torch

from novum.metrics.functional import linear_separability


def test_separable_classes_score_1():
    torch.manual_seed(0)
    latents = torch.randn(1000, 8)
    p = torch.sigmoid(20 * latents[:, 0])
    score = linear_separability(latents, torch.stack([p, 1 - p], dim=1))
    assert score.value == pytest.approx(1, abs=0.05)
    assert 1 <= score.low <= score.value <= score.high < 1.1


def test_unrelated_labels_score_their_entropy():
    torch.manual_seed(0)
    p = torch.rand(4000)
    score = linear_separability(torch.randn(4000, 4), torch.stack([p, 1 - p], dim=1))
    assert score.value == pytest.approx(2, abs=0.01)  # one fair bit


def test_more_dimensions_than_images_separate_nothing():
    """A hyperplane parts any 100 points in 128 dimensions; it says nothing of the next point."""
    p = torch.rand(200)
    score = linear_separability(torch.randn(200, 128), torch.stack([p, 1 - p], dim=1))
    assert score.high > 1.9
    assert score.low > 1.5


def test_attributes_multiply_and_entangled_latents_score_worse():
    torch.manual_seed(0)
    w = torch.randn(2000, 6)
    probabilities = (8 * w[:, :4]).softmax(1)
    entangled = torch.stack([w[:, 0] * w[:, 1], w[:, 1] * w[:, 2], w[:, 3] ** 2], dim=1)
    straight = linear_separability(w, probabilities)
    assert 1 <= straight.value < 1.5
    assert linear_separability(entangled, probabilities).low > 2 * straight.high


def test_one_label_alone_and_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="no label has 10"):
        linear_separability(torch.randn(10, 2), torch.tensor([[0.9, 0.1]]).expand(10, -1))
    with pytest.raises(ValueError, match="takes latents"):
        linear_separability(torch.randn(10, 2), torch.rand(9, 2))
