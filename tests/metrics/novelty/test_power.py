"""The power card: recall that falls with the alteration, at the false alarm rate it states."""

from functools import partial

import pytest
import torch

from novum.datamodules.sources.builtin_datasets import DEBIAN_FASHION_MNIST
from novum.metrics.features import load_extractor
from novum.metrics.novelty.alterations import LADDER, alter, noise
from novum.metrics.novelty.altered_copies import AlteredCopyDetector
from novum.metrics.novelty.power import feature_matcher, power
from tests.metrics.novelty.textures import textures


@pytest.fixture(scope="module")
def train():
    return textures(300)


@pytest.fixture(scope="module")
def heldout():
    return textures(150, 1)


@pytest.fixture(scope="module")
def detector(train, heldout):
    return AlteredCopyDetector(train, heldout)


@pytest.mark.slow
def test_recall_falls_along_a_ladder(train, heldout, detector, monkeypatch):
    sigmas = (8, 100, 250, 2000)
    for sigma in sigmas:
        monkeypatch.setitem(LADDER, f"noise {sigma}", partial(noise, sigma=sigma))
    attacks = [f"noise {sigma}" for sigma in sigmas]
    card = power(train, heldout, detector.match, attacks=attacks, copies=20, fresh=100)
    assert list(card.recall) == attacks
    values = [recall.value for recall in card.recall.values()]
    assert values[0] == 1 and values == sorted(values, reverse=True) and values[-1] < 0.1
    recall = card.recall["noise 8"]
    assert recall.low == pytest.approx(0.025 ** (1 / 20)) and recall.high == 1


def test_pastes_are_found_beside_a_heldout_half(train, heldout, detector):
    """The other half is an image of the pool, which must not be what is found."""
    card = power(train, heldout, detector.match, attacks=["left half pasted"], copies=20, fresh=60)
    assert card.recall["left half pasted"].value >= 0.9


@pytest.mark.slow
def test_false_alarms_on_fresh_images_are_those_it_states(train, heldout, detector):
    card = power(train, heldout, detector.match, attacks=["identical"], copies=10)
    assert card.false_alarms.value == pytest.approx(1 / 150)
    assert card.threshold < 2  # a held-out image that finds itself has 7
    alarms = int((detector.match(textures(300, 5)).margin > card.threshold).sum())
    assert alarms <= 15  # 1% of 300, by a threshold that 150 images set: 4 expected


@pytest.mark.slow
def test_the_same_seed_gives_the_same_card(train, heldout, detector):
    options = {"attacks": ["noise 24", "shifted 20%"], "copies": 5, "fresh": 30}
    first, again, other = (
        power(train, heldout, detector.match, seed=seed, **options) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.threshold != other.threshold


@pytest.mark.slow
def test_a_copy_of_either_of_two_equal_images_is_right(train, heldout):
    """Only the first of equal images is ever named."""
    twice = torch.cat([train[:15], train[:15]])
    card = power(twice, heldout, attacks=["identical", "mirrored"], copies=30, fresh=30)
    assert card.recall["identical"].value == card.recall["mirrored"].value == 1


def test_pixel_neighbours_miss_what_moved(train, heldout):
    match = feature_matcher(load_extractor("pixels"), train, heldout, progress=False)
    card = power(train, heldout, match, attacks=["identical", "noise 8", "mirrored"], copies=30)
    recalls = [recall.value for recall in card.recall.values()]
    assert recalls[:2] == [1, 1] and recalls[2] < 0.3


def test_feature_neighbours_leave_out_what_is_excluded(train, heldout):
    match = feature_matcher(load_extractor("pixels"), train, heldout, progress=False)
    exclude = torch.arange(10).where(torch.arange(10) < 5, -1)
    found = match(train[:10], exclude)
    assert torch.equal(found.item == torch.arange(10), exclude == -1)
    assert (found.margin[5:] == torch.inf).all() and found.margin[:5].isfinite().all()


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN_FASHION_MNIST.exists(), reason="package dataset-fashion-mnist")
def test_fashion_mnist():
    """Real gray images of 28 px, many of them alike."""
    from novum.datamodules.sources.builtin_datasets import load

    images = torch.from_numpy(load("fashion_mnist").train.rows.array[:2400].copy())[:, None]
    train, heldout = images[:2000], images[2000:]
    attacks = ["identical", "mirrored", "JPEG 50", "blurred 3x3", "rotated 10°", "left half pasted"]
    card = power(train, heldout, attacks=attacks, copies=12, fresh=100, progress=False)
    assert all(recall.value > 0.9 for recall in card.recall.values()), card.recall
    assert alter(train[:1], "identical").shape == (1, 1, 28, 28)


def test_however_many_copies_are_searched_for_at_a_time(train, heldout, detector, monkeypatch):
    """Large images take few at a time, with the same answers."""
    attacks, sizes = ["identical", "mirrored", "noise 8", "left half pasted"], []
    monkeypatch.setitem(LADDER, "noise 8", partial(noise, sigma=8))

    def match(samples, exclude):
        sizes.append(len(samples))
        return detector.match(samples, exclude)

    whole = power(train, heldout, match, attacks=attacks, copies=6, fresh=20)
    monkeypatch.setattr("novum.metrics.novelty.power.PLANTED_BYTES", 1)
    assert power(train, heldout, match, attacks=attacks, copies=6, fresh=20) == whole
    assert sizes == [24, 20, 6, 6, 6, 6, 20]
