"""Alignment recovers what was done to an image, and its correlation ignores what does not count."""

import math

import pytest
import torch
from torch.nn import functional as F

from novum.metrics.novelty.alignment import (
    Placed,
    agreement,
    align,
    in_words,
    low_pass,
    overlap,
    places,
    region_masks,
    sample_at,
)
from tests.metrics.novelty.textures import textures

CPU = torch.device("cpu")


def similarity(scale=1.0, degrees=0.0, tx=0.0, ty=0.0, n=12) -> torch.Tensor:
    turn = math.radians(degrees)
    a, b = scale * math.cos(turn), scale * math.sin(turn)
    return torch.tensor([[a, -b, tx], [b, a, ty]]).expand(n, 2, 3).clone()


def stretched(across=1.0, down=1.0, shear=0.0) -> torch.Tensor:
    return torch.tensor([[across, shear, 0.0], [0.0, down, 0.0]]).expand(12, 2, 3).clone()


@pytest.fixture(scope="module")
def images():
    return low_pass(textures(12).float())


def gray(x):
    return x.mean(1, keepdim=True)


def whole(n=12):
    return region_masks(32, 32, CPU)[:1].expand(n, -1)


@pytest.mark.parametrize(
    "truth",
    [
        similarity(),
        similarity(tx=3 / 16, ty=-1 / 16),
        similarity(0.9, 0, 0.05, -0.02),
        similarity(degrees=6),
        similarity(0.93, -4, 0, 0.1),
        stretched(0.85),
        stretched(0.9, 1.05, 0.08),
    ],
)
def test_recovers_the_planted_map(images, truth):
    samples = sample_at(images, places(truth, 32)).unflatten(2, (32, 32))
    found = align(gray(samples), gray(images), similarity(), whole(), steps=8)
    torch.testing.assert_close(found, truth, atol=0.01, rtol=0)
    assert agreement(samples, images, found, whole()).min() > 4


def test_never_worse_than_its_start(images):
    """However far off: the step of the largest correlation is kept."""

    def correlation(affine):
        seen, there = sample_at(gray(images), places(affine, 32))[:, 0], inside(affine)
        pairs = zip(gray(images).flatten(1), seen, there, strict=True)
        return torch.stack([torch.corrcoef(torch.stack([a[w], b[w]]))[0, 1] for a, b, w in pairs])

    start = similarity(0.7, 30, 0.3, -0.3)
    after = align(gray(images), gray(images), start, whole(), steps=3)
    assert (correlation(after) >= correlation(start) - 1e-3).all()


def inside(affine):
    return overlap(places(affine, 32), whole()).bool()


def test_an_image_agrees_with_itself(images):
    assert agreement(images, images, similarity(), whole()).min() > 7


def test_gain_bias_and_blur_do_not_count(images):
    others = images.roll(1, 0)
    altered = {"gain and bias": 0.7 * images + 20, "blur": low_pass(images)}
    for name, samples in altered.items():
        right = agreement(samples, images, similarity(), whole())
        wrong = agreement(samples, others, similarity(), whole())
        assert right.min() > 6 > 1 > wrong.max(), name


def test_uneven_light_leaves_most_of_the_evidence(images):
    """A vignette, and light from one side: what a single gain can't explain."""
    y, x = (torch.linspace(-1, 1, 32) for _ in range(2))
    for light in (1 - (x[None] ** 2 + y[:, None] ** 2) / 2, 0.3 + 0.35 * (x[None] + 1)):
        right = agreement(images * light, images, similarity(), whole())
        wrong = agreement(images * light, images.roll(1, 0), similarity(), whole())
        assert right.median() > 1.3 and (right > 2 * wrong).all()


def test_what_covers_a_part_leaves_the_evidence_of_the_rest(images):
    """Another image over the right half: half of the blocks agree as before."""
    covered = torch.cat([images[..., :16], images.roll(1, 0)[..., 16:]], 3)
    right = agreement(covered, images, similarity(), whole())
    whole_evidence = agreement(images, images, similarity(), whole())
    assert (right > 0.35 * whole_evidence).all() and (right < 0.65 * whole_evidence).all()


def test_an_image_in_a_frame_counts_by_the_root_of_its_share(images):
    """At half its size, in the middle: a quarter of the sample, less its border."""
    small = F.interpolate(images, size=(16, 16), mode="bilinear", antialias=True)
    framed = F.pad(small, (8, 8, 8, 8), value=90)
    found = agreement(low_pass(framed), low_pass(images), similarity(2.0), whole())
    elsewhere = agreement(low_pass(framed), low_pass(images.roll(1, 0)), similarity(2.0), whole())
    assert (found > 0.8).all() and (found > 4 * elsewhere).all()


def test_a_negative_does_not_agree(images):
    assert agreement(255 - images, images, similarity(), whole()).max() == 0


def test_flat_images_agree_with_nothing(images):
    flat = torch.full_like(images, 90)
    for a, b in ((flat, images), (images, flat), (flat, flat)):
        found = align(gray(a), gray(b), similarity(), whole(), steps=2)
        assert found.isfinite().all()
        assert agreement(a, b, found, whole()).max() < 0.01


def test_regions_see_their_part_alone(images):
    """The left half of one image beside the right half of the next; a quarter of one."""
    pasted = torch.cat([images[..., :16], images.roll(1, 0)[..., 16:]], 3)
    left, right, quarter = (region_masks(32, 32, CPU)[[i]].expand(12, -1) for i in (1, 2, 5))
    assert agreement(pasted, images, similarity(), left).min() > 4
    assert agreement(pasted, images, similarity(), right).max() < 1
    pasted = images.roll(1, 0)
    pasted[..., :16, :16] = images[..., :16, :16]
    assert agreement(pasted, images, similarity(), quarter).min() > 2
    assert quarter[0].view(32, 32)[:16, :16].sum() == quarter[0].sum() > 0


def test_too_small_an_overlap_is_no_agreement(images):
    assert agreement(images, images, similarity(tx=1.8), whole()).max() == -1


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
        (False, 8, similarity(), "lower right quarter"),
        (False, 0, stretched(0.6), "stretched 1.7 times, crop 26/32 at (3, 3)"),
    ],
)
def test_in_words(mirrored, region, placing, words):
    assert in_words(mirrored, region, placing[0], 32) == words


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
    quarter = Placed(torch.zeros(1).bool(), torch.eye(2, 3)[None], torch.tensor([6])).outlines()[0]
    box = [[0.0, -1.0], [1.0, -1.0], [1.0, 0.0], [0.0, 0.0]]  # the upper right
    torch.testing.assert_close(quarter[0], torch.tensor(box))
    assert on_image[0].abs().amax() == 3  # far outside of the picture: all of it is shown
    grid, inside = shown.places(4, 8)
    assert grid.shape == (3, 32, 2) and inside[0].view(4, 8)[:, :4].sum() == 0


def test_half_of_a_side_means_the_same_in_wide_images():
    _, inside = Placed(torch.zeros(1).bool(), torch.eye(2, 3)[None], torch.tensor([1])).places(4, 8)
    assert inside.view(4, 8).any(0).tolist() == 4 * [True] + 4 * [False]
