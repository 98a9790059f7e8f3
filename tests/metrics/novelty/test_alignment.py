"""Alignment recovers what was done to an image, and its correlation ignores what does not count."""

import math

import pytest
import torch

from novum.metrics.novelty.alignment import (
    Placed,
    align,
    correlate,
    evidence,
    in_words,
    low_pass,
    places,
    region_masks,
    sample_at,
)
from tests.metrics.novelty.textures import textures

CPU = torch.device("cpu")


def similarity(scale=1.0, degrees=0.0, tx=0.0, ty=0.0, n=12) -> torch.Tensor:
    turn = math.radians(degrees)
    one = [scale * math.cos(turn), scale * math.sin(turn), tx, ty]
    return torch.tensor(one).expand(n, 4).clone()


@pytest.fixture(scope="module")
def images():
    return low_pass(textures(12).float())


def gray(x):
    return x.mean(1, keepdim=True)


def whole(n=12):
    return region_masks(32, 32, CPU)[:1].expand(n, -1)


@pytest.mark.parametrize(
    ("scale", "degrees", "tx", "ty"),
    [
        (1, 0, 0, 0),
        (1, 0, 3 / 16, -1 / 16),
        (0.9, 0, 0.05, -0.02),
        (1, 6, 0, 0),
        (0.93, -4, 0, 0.1),
    ],
)
def test_recovers_the_planted_similarity(images, scale, degrees, tx, ty):
    truth = similarity(scale, degrees, tx, ty)
    samples = sample_at(images, places(truth, 32)).unflatten(2, (32, 32))
    found = align(gray(samples), gray(images), similarity(), whole(), steps=8)
    torch.testing.assert_close(found.similarity, truth, atol=0.01, rtol=0)
    assert found.correlation.min() > 0.995


def test_never_worse_than_its_start(images):
    """However far off: the best step is kept."""
    starts = similarity(0.7, 30, 0.3, -0.3)
    before = align(gray(images), gray(images), starts, whole(), steps=0)
    after = align(gray(images), gray(images), starts, whole(), steps=3)
    assert (after.correlation >= before.correlation).all()


def test_an_image_agrees_with_itself(images):
    found = correlate(images, images, similarity(), whole())
    assert found.correlation.min() > 0.9999
    assert evidence(found).min() > 8


def test_gain_bias_and_blur_do_not_count(images):
    others = images.roll(1, 0)
    altered = {"gain and bias": 0.7 * images + 20, "blur": low_pass(images)}
    for name, samples in altered.items():
        right = evidence(correlate(samples, images, similarity(), whole()))
        wrong = evidence(correlate(samples, others, similarity(), whole()))
        assert right.min() > 8 > 1 > wrong.max(), name


def test_a_negative_does_not_agree(images):
    assert correlate(255 - images, images, similarity(), whole()).correlation.max() == 0


def test_flat_images_agree_with_nothing(images):
    flat = torch.full_like(images, 90)
    for a, b in ((flat, images), (images, flat), (flat, flat)):
        found = align(gray(a), gray(b), similarity(), whole(), steps=2)
        assert found.similarity.isfinite().all()
        assert evidence(correlate(a, b, found.similarity, whole())).max() < 0.01


def test_regions_see_their_half_alone(images):
    """The left half of one image beside the right half of the next."""
    pasted = torch.cat([images[..., :16], images.roll(1, 0)[..., 16:]], 3)
    left, right = (region_masks(32, 32, CPU)[[i]].expand(12, -1) for i in (1, 2))
    assert evidence(correlate(pasted, images, similarity(), left)).min() > 4
    assert evidence(correlate(pasted, images, similarity(), right)).max() < 1
    assert correlate(pasted, images, similarity(), left).area.max() < 0.5


def test_too_small_an_overlap_is_no_agreement(images):
    away = similarity(tx=1.6)
    found = correlate(images, images, away, whole())
    assert found.correlation.max() == -1 and evidence(found).max() == 0


@pytest.mark.parametrize(
    ("mirrored", "region", "placing", "words"),
    [
        (False, 0, similarity(), "unmoved"),
        (True, 0, similarity(), "mirrored"),
        (True, 0, similarity(0.75, 0, -0.0625, -0.125), "mirrored, crop 24/32 at (3, 2)"),
        (False, 1, similarity(), "left half"),
        (False, 0, similarity(tx=3 / 16, ty=-1 / 16), "shifted (-3, 1) px"),
        (False, 0, similarity(1, -10), "rotated -10°"),
        (False, 0, similarity(1.25, 0), "scaled by 0.80"),
        (False, 4, similarity(0.8, 20), "lower half, rotated 20°, scaled by 1.25"),
    ],
)
def test_in_words(mirrored, region, placing, words):
    assert in_words(mirrored, region, placing[0].tolist(), 32) == words


def test_outlines_are_where_the_two_show_the_same():
    """A picture at half its size, right of the middle; its mirror image; and an upper half."""
    shrunk = torch.tensor([[2.0, 0.0, -1.0], [0.0, 2.0, 0.0]])
    shown = Placed(
        torch.tensor([False, True, False]),
        torch.stack([shrunk, shrunk, torch.eye(2, 3)]),
        torch.tensor([0, 0, 3]),
    )
    on_sample, on_image = shown.outlines()
    box = [[0.0, -0.5], [1.0, -0.5], [1.0, 0.5], [0.0, 0.5]]
    torch.testing.assert_close(on_sample[0], torch.tensor(box))
    torch.testing.assert_close(on_sample[1], torch.tensor([[-x, y] for x, y in box]))
    upper = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
    torch.testing.assert_close(on_sample[2], upper)
    torch.testing.assert_close(on_image[2], upper)
    assert on_image[0].abs().amax() == 3  # far outside of the picture: all of it is shown
    grid, inside = shown.places(4, 8)
    assert grid.shape == (3, 32, 2) and inside[0].view(4, 8)[:, :4].sum() == 0


def test_half_of_a_side_means_the_same_in_wide_images():
    _, inside = Placed(torch.zeros(1).bool(), torch.eye(2, 3)[None], torch.tensor([1])).places(4, 8)
    assert inside.view(4, 8).any(0).tolist() == 4 * [True] + 4 * [False]
