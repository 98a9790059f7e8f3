"""Keypoints and descriptors: what a mirror and a negative do to them."""

import math

import pytest
import torch

from novum.metrics.novelty.local_features import (
    SCALE,
    extract_local_features,
    join,
    mirrored_points,
    plainest,
    take,
    variant,
)
from tests.metrics.novelty.scenes import scenes


@pytest.fixture(scope="module")
def images():
    return scenes(3, 96)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_variant_is_what_the_altered_image_has(images, number):
    altered = images.flip(-1) if number & 1 else images
    altered = 255 - altered if number & 2 else altered
    own, there = extract_local_features(images), extract_local_features(altered)
    for i in range(len(images)):
        a, b = own.of(i, i + 1), there.of(i, i + 1)
        points = mirrored_points(a.points) if number & 1 else a.points
        expected = variant(a.descriptors, number).float()
        nearest = torch.cdist(expected, b.descriptors.float()).min(1)
        found = b.points[nearest.indices]
        turned = points[:, 3] + (math.pi if number & 2 else 0) - found[:, 3]
        turned = torch.remainder(turned + math.pi, 2 * math.pi) - math.pi
        # the last bit of a gray value may move a keypoint here and there
        for off, limit in ((nearest.values / SCALE, 0.1), (turned.abs(), 0.1)):
            assert (off < limit).float().mean() > 0.8
        assert ((points[:, :2] - found[:, :2]).norm(dim=1) < 0.01).float().mean() > 0.8


def test_descriptors_are_unit_vectors(images):
    lengths = (extract_local_features(images).descriptors.float() / SCALE).norm(dim=1)
    assert (lengths - 1).abs().max() < 0.02


def test_parts_are_those_of_the_whole(images):
    whole = extract_local_features(images)
    parts = join([extract_local_features(images, slice(0, 1)), extract_local_features(images[1:])])
    for a, b in zip(whole, parts, strict=True):
        assert torch.equal(a, b)
    swapped = take(whole, torch.tensor([2, 0]))
    assert torch.equal(swapped.of(0, 1).descriptors, whole.of(2, 3).descriptors)
    assert torch.equal(swapped.of(1, 2).points, whole.of(0, 1).points)
    assert swapped.owners.unique().tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 40), (1, 700, 90)])
def test_any_size_has_features_within_the_image(shape):
    c, h, w = shape
    image = scenes(1, max(h, w))[:, :c, :h, :w]
    found = extract_local_features(image)
    side = max(h, w)
    limits = torch.tensor([w / side, h / side])
    assert (found.points[:, :2].abs() <= limits + 0.02).all()


def test_an_image_of_one_colour_has_none():
    found = extract_local_features(torch.full((2, 3, 32, 32), 77, dtype=torch.uint8))
    assert found.starts.tolist() == [0, 0, 0] and found.descriptors.shape == (0, 128)


def test_the_plainest_features_of_each_image(images):
    features = extract_local_features(images, progress=False)
    few = plainest(features, 5)
    assert few.starts.tolist() == [0, 5, 10, 15]
    for i, start in enumerate(features.starts[:-1].tolist()):
        own = slice(5 * i, 5 * i + 5)
        assert torch.equal(few.points[own], features.points[start : start + 5])
        assert torch.equal(few.descriptors[own], features.descriptors[start : start + 5])
    assert torch.equal(plainest(features, 10_000).points, features.points)
