"""The detector of parts names the source and how it is shown, and knows no labels meanwhile."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from novum.core.errors import InputError
from novum.metrics.novelty.local_copies import UNIT, LocalCopyDetector, _margin, in_words
from novum.metrics.novelty.nearest_matches import HELDOUT, TRAIN
from novum.metrics.novelty.pool import pool_of_items
from tests.metrics.novelty.scenes import scenes

HELD, SIDE, COPIES = 40, 64, 20


@pytest.fixture(scope="module")
def images():
    return scenes(140, SIDE)


def detector_of(images: Tensor, seed: int = 0) -> LocalCopyDetector:
    train, heldout = images[HELD:], images[:HELD]
    pool = pool_of_items(torch.arange(len(images)), len(train), seed)
    return LocalCopyDetector(train, heldout, pool=pool, progress=False)


@pytest.fixture(scope="module")
def detector(images):
    return detector_of(images)


@pytest.fixture(scope="module")
def fresh():
    return scenes(60, SIDE, seed=9)


def framed(images: Tensor, _: Tensor) -> Tensor:
    small = TF.resize(images, [40, 40], antialias=True)
    return TF.pad(small, [12, 12], fill=200)


def laid_over(images: Tensor, others: Tensor) -> Tensor:
    out = others.clone()
    out[..., 4:44, 20:60] = TF.resize(images, [40, 40], antialias=True)
    return out


def collage(images: Tensor, others: Tensor) -> Tensor:
    small, other = (TF.resize(x, [32, 32], antialias=True) for x in (images, others))
    return torch.cat([torch.cat([small, other], 3), torch.cat([other.flip(-1), 255 - other], 3)], 2)


def cut_out(images: Tensor, _: Tensor) -> Tensor:
    out = images.clone()
    out[..., 16:48, 16:48] = 0
    return out


EDITS = {
    "framed": (framed, "at 6"),
    "laid over": (laid_over, "at 6"),
    "collage": (collage, "of its size"),
    "cut out": (cut_out, "unmoved"),
    "cropped": (lambda x, _: TF.resize(x[..., 8:40, 16:48], [64, 64], antialias=True), "at 20"),
    "stretched": (lambda x, _: TF.center_crop(TF.resize(x, [64, 102]), [64, 64]), "stretched 1."),
    "inverted": (lambda x, _: 255 - x, "inverted"),
    "gray and mirrored": (lambda x, _: TF.rgb_to_grayscale(x, 3).flip(-1), "mirrored"),
    "turned": (lambda x, _: TF.rotate(x, 45, TF.InterpolationMode.BILINEAR), "rotated -4"),
    "blended": (lambda x, o: (0.7 * x + 0.3 * o).to(torch.uint8), "unmoved"),
}


@pytest.mark.parametrize(("edit", "words"), EDITS.values(), ids=EDITS)
def test_names_the_source_and_how_it_is_shown(edit, words, images, detector, fresh):
    sources = torch.arange(COPIES) + 30
    found = detector.search(edit(images[HELD:][sources], fresh[:COPIES]))
    right = found.matches.item == sources
    assert right.double().mean() >= 0.9
    assert (found.matches.side[right] == TRAIN).all()
    limit = detector.match(fresh).margin.max()
    assert (found.matches.margin[right] > limit).double().mean() >= 0.9
    assert sum(words in found.transform(i) for i in right.nonzero()[:, 0].tolist()) >= COPIES // 2


def test_copies_of_heldout_images_are_on_their_side(images, detector, fresh):
    found = detector.search(framed(images[:10], fresh))
    assert (found.matches.side == HELDOUT).all()
    rank, row = found.best(trained=False)
    assert rank.tolist() == [0] * 10 and row.tolist() == list(range(10))
    rank, row = found.best(trained=True)
    assert ((rank == -1) == (row == -1)).all() and (rank != 0).all()


@pytest.mark.slow
def test_fresh_samples_meet_each_side_at_its_share(images, fresh):
    """Binomial, 60 draws at 100 of 140, over 4 poolings: outside of these limits once in 1,000."""
    trained = sum(int((detector_of(images, s).match(fresh).side == TRAIN).sum()) for s in range(4))
    assert 0.60 < trained / (4 * len(fresh)) < 0.82


def test_samples_that_show_nothing_match_anyone(detector):
    blank = torch.zeros(200, 3, SIDE, SIDE, dtype=torch.uint8)
    found = detector.search(blank)
    assert (found.matches.margin == 0).all() and (found.items == -1).all()
    assert 100 < int((found.matches.side == TRAIN).sum()) < 180
    assert len(found.matches.item.unique()) > 50


def test_a_missing_rival_counts_as_the_usual_one():
    """Two samples as plain, of which one shares features with two other images, and a blank one."""
    evidence = torch.zeros(3, 8)
    evidence[0] = torch.tensor([2.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    evidence[1, :3] = evidence[0, :3]
    margin = _margin(evidence)
    assert margin[0] == margin[1] == pytest.approx(UNIT * 1.5) and margin[2] == 0


def test_the_pools_own_items_do_not_match_themselves(images, detector):
    within = detector.match_within(50)
    assert (within.own != within.nearest).all()
    assert within.margin.max() < detector.match(images[HELD : HELD + 10]).margin.min()


def test_an_excluded_item_is_not_found(images, detector):
    own = torch.arange(10)
    assert (detector.match(images[HELD : HELD + 10], own).item != own).all()


def test_other_sizes_are_refused_in_one_line(detector):
    with pytest.raises(InputError, match="samples are 32x32 px of 3 channels and training images"):
        detector.search(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


def test_words():
    shown = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert in_words(0, shown) == "unmoved"
    assert in_words(3, shown) == "mirrored, inverted"
    assert in_words(0, torch.tensor([[0.5, 0.0, 0.0], [0.0, 1.0, 0.0]])) == (
        "at 141% of its size, stretched 2.0 times"
    )
    assert in_words(0, torch.tensor([[1.0, 0.0, -0.4], [0.0, 1.0, 0.0]])) == (
        "shifted by 20% and 0%"
    )


def test_images_without_features_are_like_none(detector):
    """Samples and references both."""
    blank = torch.zeros(3, 3, SIDE, SIDE, dtype=torch.uint8)
    found = detector.search(blank)
    assert (found.items == -1).all() and (found.matches.margin == 0).all()
    pool = pool_of_items(torch.arange(3), 3)
    nothing = LocalCopyDetector(blank, None, pool=pool, progress=False)
    assert (nothing.search(scenes(2, SIDE)).items == -1).all()
    assert len(nothing.match_within(3).own) == 0 or nothing.match_within(3).margin.max() == 0
