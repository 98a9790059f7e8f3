"""The detector names the source and what was done to it, and knows no labels while it looks."""

import pytest
import torch
from torch import Tensor

from novum.metrics.novelty.alterations import alter
from novum.metrics.novelty.altered_copies import AlteredCopyDetector, near_duplicates
from novum.metrics.novelty.nearest_matches import HELDOUT, TRAIN
from tests.metrics.novelty.textures import textures

HELD = 80


@pytest.fixture(scope="module")
def images():
    return textures(280)


@pytest.fixture(scope="module")
def detector(images):
    return AlteredCopyDetector(images[HELD:], images[:HELD])


@pytest.fixture(scope="module")
def fresh():
    return textures(60, 9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "words"),
    [
        ("identical", "unmoved"),
        ("mirrored", "mirrored"),
        ("turned 90° or more", "rotated"),
        ("shifted 10%", "shifted"),
        ("cropped to 75%", "crop 24/32"),
        ("brightness ±20%", "unmoved"),
        ("noise 8", "unmoved"),
        ("JPEG 30", "unmoved"),
        ("blurred 3x3", "unmoved"),
        ("rotated 15°", "rotated"),
        ("left half pasted", "left half"),
        ("mirrored, cropped to 88%, JPEG 50", "mirrored, crop 28/32"),
    ],
)
def test_names_the_source_and_the_alteration(attack, words, images, detector, fresh):
    sources = torch.arange(20) + 100
    copies = alter(images[HELD:][sources], attack, 1, fresh[:20])
    found = detector.search(copies)
    assert (found.matches.item == sources).double().mean() >= 0.95
    assert (found.matches.margin > 1).double().mean() >= 0.95
    assert (found.matches.side[found.matches.item == sources] == TRAIN).all()
    assert sum(words in found.transform(i) for i in range(20)) >= 18


def test_an_identical_copy_leaves_nothing_unexplained(images, detector):
    found = detector.search(images[HELD : HELD + 10])
    assert found.evidence[:, 0].min() > 6
    assert (found.evidence.diff(dim=1) <= 0).all()


def test_copies_of_heldout_images_are_on_their_side(images, detector):
    found = detector.search(alter(images[:10], "mirrored"))
    assert (found.matches.side == HELDOUT).all()
    assert found.matches.item.tolist() == [200 + i for i in range(10)]
    rank, row = found.best(trained=False)
    assert rank.tolist() == [0] * 10 and row.tolist() == list(range(10))
    rank, row = found.best(trained=True)
    assert (rank > 0).all() and (row < 200).all()


@pytest.mark.slow
def test_fresh_samples_meet_each_side_at_its_share(detector):
    found = detector.search(textures(250, 11))
    trained = float((found.matches.side == TRAIN).double().mean())
    assert trained == pytest.approx(200 / 280, abs=0.11)
    assert found.matches.margin.median() < 0.5


@pytest.mark.slow
def test_swapping_the_labels_changes_nothing_else(images, detector, fresh):
    samples = torch.cat([alter(images[65:95], "cropped to 88%"), fresh[:30]])
    there = detector.search(samples)
    back = AlteredCopyDetector(images[:HELD], images[HELD:]).search(samples)
    assert torch.equal(there.matches.side, -back.matches.side)
    assert torch.equal((there.matches.item + HELD) % 280, back.matches.item)
    torch.testing.assert_close(there.matches.margin, back.matches.margin, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_order_of_the_pool_does_not_matter(images, detector, fresh):
    order = torch.randperm(200, generator=torch.Generator().manual_seed(2))
    samples = torch.cat([alter(images[150:180], "shifted 10%"), fresh[:30]])
    first = detector.search(samples)
    second = AlteredCopyDetector(images[HELD:][order], images[:HELD]).search(samples)
    place = torch.cat([order, torch.arange(200, 280)])
    assert torch.equal(place[second.matches.item], first.matches.item)
    torch.testing.assert_close(first.matches.margin, second.matches.margin, atol=1e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 7])
def test_other_samples_do_not_matter(batch, images, detector, fresh):
    samples = torch.cat([alter(images[150:160], "noise 8"), fresh[:11]])
    together = detector.search(samples)
    parts = [detector.search(part) for part in samples.split(batch)]
    assert torch.equal(torch.cat([p.matches.item for p in parts]), together.matches.item)
    margin = torch.cat([p.matches.margin for p in parts])
    torch.testing.assert_close(margin, together.matches.margin, atol=1e-3, rtol=0)


def test_equal_images_are_one_item(images):
    """In training and held-out data: on a side by chance, whatever is drawn for its other rows."""
    train, heldout = images[:100], torch.cat([images[:1], images[100:]])
    train = torch.cat([train, train[50:60]])
    found = AlteredCopyDetector(train, heldout).match(alter(train[[0, 55, 105]], "mirrored"))
    assert int(found.item[0]) in (0, 110)
    assert found.item[1:].tolist() == [55, 55]
    assert found.side[1:].tolist() == [TRAIN, TRAIN]
    assert found.margin.min() > 3
    assert (found.train_items + found.heldout_items) == 280


def test_excluded_items_are_not_found(images, detector):
    samples = images[HELD : HELD + 6]
    exclude = torch.tensor([0, -1, 2, -1, 4, -1])
    items = detector.search(samples, exclude).items
    named = (items == torch.arange(6)[:, None]).any(1)
    assert torch.equal(named, exclude == -1)


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 64), (1, 8)])
def test_gray_large_and_small_images(channels, side):
    train = textures(60, 1, channels, side)
    found = AlteredCopyDetector(train).search(alter(train[:20], "mirrored"))
    assert found.matches.item.tolist() == list(range(20))
    assert found.transform(3) == "mirrored"
    crops = AlteredCopyDetector(train).search(alter(train[:20], "corner of 75%"))
    assert (crops.matches.item == torch.arange(20)).double().mean() >= 0.9
    assert f"crop {side * 3 // 4}/{side} at" in crops.transform(int(crops.matches.margin.argmax()))


def test_near_duplicates_are_pairs_of_rows(images):
    train, heldout = images[HELD:], images[:HELD].clone()
    heldout[[3, 17]] = alter(train[[5, 60]], "cropped to 88%")
    assert near_duplicates(train, heldout).tolist() == [[3, 5], [17, 60]]


class Lazy:
    """Images that can only be read by slices."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> Tensor:
        assert isinstance(rows, slice)
        return self.images[rows]


def test_reads_any_source_of_images(images, detector):
    lazy = AlteredCopyDetector(Lazy(images[HELD:]), Lazy(images[:HELD]))
    found = lazy.match(Lazy(alter(images[:5], "mirrored")))
    assert torch.equal(found.margin, detector.match(alter(images[:5], "mirrored")).margin)


def test_mistakes_are_one_line(detector):
    with pytest.raises(ValueError, match="samples have 1 channels and training images 3"):
        detector.search(textures(2, channels=1))
    with pytest.raises(ValueError, match=r"images of 6x6 px are too small: .* 8x8 px up"):
        AlteredCopyDetector(textures(30, side=6))
    with pytest.raises(ValueError, match="20 distinct images are too few .* give at least 21"):
        AlteredCopyDetector(textures(20).repeat(2, 1, 1, 1))
