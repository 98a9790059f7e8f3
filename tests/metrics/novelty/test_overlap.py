"""Two images agree where the right map lays one over the other, and the map is refined."""

import pytest
import torch

from novum.metrics.novelty.alignment import inverse
from novum.metrics.novelty.overlap import agreement, thumbnails
from tests.metrics.novelty.scenes import scenes
from tests.metrics.novelty.test_local_matching import MAPS, turned, warped


@pytest.fixture(scope="module")
def images():
    return scenes(12, 96)


@pytest.mark.parametrize("affine", MAPS.values(), ids=MAPS)
def test_the_map_is_refined_and_the_right_image_agrees(images, affine):
    own, other = thumbnails(warped(images, affine)), thumbnails(images)
    off = affine + torch.tensor([[0.02, 0.0, 0.03], [-0.02, 0.0, -0.03]])
    value, found = agreement(own, other, off.expand(len(images), 2, 3))
    assert (found - affine).abs().amax((1, 2)).median() < 0.1  # black corners pull
    wrong, _ = agreement(own, [x.roll(1, 0) for x in other], affine.expand(len(images), 2, 3))
    assert value.min() > 2 * wrong.median() and value.median() > 2


def test_no_overlap_is_no_evidence(images):
    shown = thumbnails(images)
    value, _ = agreement(shown, shown, turned(1, 0, 5, 5).expand(len(images), 2, 3))
    assert (value == 0).all()


def test_a_map_and_its_inverse():
    maps = torch.stack(list(MAPS.values()))
    there = inverse(inverse(maps))
    torch.testing.assert_close(there, maps, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("side", "sizes"), [(8, [32]), (32, [32]), (64, [32, 64]), (300, [32, 64, 128])]
)
def test_thumbnails_are_no_larger_than_the_images(side, sizes):
    found = thumbnails(torch.full((2, 3, side, side), 9, dtype=torch.uint8))
    assert [x.shape[-1] for x in found] == sizes
    assert all((x == 9).all() for x in found)


def test_thumbnails_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch):
    images = torch.randint(0, 256, (7, 3, 150, 200), dtype=torch.uint8)
    whole = thumbnails(images)
    monkeypatch.setattr("novum.core.resampling.PART_BYTES", 2 * 4 * images[0].numel())
    for a, b in zip(whole, thumbnails(images), strict=True):
        assert torch.equal(a, b)
    assert [x.shape for x in thumbnails(images[:0])] == [(0, side, side) for side in (32, 64, 128)]
