"""Planted copiers, of images and of text, behind a guard."""

import numpy as np
import pytest
import torch

from novum.core.errors import InputError
from novum.core.seeds import random_generator
from novum.datamodules.sources.image_sources import ImageArray
from novum.evaluation.guarded import GuardedImages, GuardedTexts, ImageGuard, TextGuard
from novum.metrics.novelty.alterations import alter
from tests.metrics.novelty.text.markov import chain, source
from tests.metrics.novelty.textures import textures

POOL = textures(420)
TRAIN, HELDOUT = POOL[:300], POOL[300:]
FRESH = textures(400, 9)
TEXT, OTHER = chain(30_000, seed=1), chain(20_000, seed=2)


class Copier:
    """Fresh textures; some of them training images, as they are or altered."""

    num_classes = 0
    images_seen = 7

    def __init__(self, share: float, edit: str = "identical") -> None:
        self.share, self.edit = share, edit

    def sample(self, n, *, seed=None, labels=None):
        generator = random_generator(seed)
        drawn = torch.rand(n, 16, generator=generator)  # as latents
        rows = (drawn[:, 1] * len(FRESH)).long()
        copied = drawn[:, 0] < self.share
        images = FRESH[rows].clone()
        if copied.any():
            sources = TRAIN[(drawn[copied, 2] * len(TRAIN)).long()]
            images[copied] = alter(sources, self.edit, 1, FRESH[: len(sources)])
        return images


class Parrot:
    tokens_seen = 5

    def __init__(self, share: float, copied: int = 150) -> None:
        self.share, self.copied = share, copied

    def sample_text(self, n, length, *, temperature=1.0, prime="", seed=None):
        texts = []
        for drawn in torch.rand(n, 2, generator=random_generator(seed)).tolist():
            own = chain(length, seed=int(drawn[1] * 2**30))
            if drawn[0] < self.share:
                place = int(drawn[1] * (len(TEXT) - self.copied))
                own = own[: length - self.copied] + TEXT[place : place + self.copied]
            texts.append(own)
        return texts


@pytest.fixture(scope="module")
def images():
    return ImageGuard(ImageArray(TRAIN), ImageArray(HELDOUT), torch.device("cpu"))


@pytest.fixture(scope="module")
def texts():
    return TextGuard(source(TEXT), source(OTHER, "heldout.txt"))


def equal_to_training(samples) -> int:
    known = {x.numpy().tobytes() for x in TRAIN}
    return sum(x.numpy().tobytes() in known for x in samples)


@pytest.mark.parametrize("edit", ["identical", "mirrored", "JPEG 30"])
def test_copies_of_images_are_drawn_again(images, edit):
    copier = Copier(0.3, edit)
    guarded = GuardedImages(copier, images)
    before, after = copier.sample(40, seed=3), guarded.sample(40, seed=3)
    copies = [source is not None for source in images.sources(before)]
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert 6 <= sum(copies) <= 20
    assert changed == copies  # what passed is as it was
    assert images.sources(after) == [None] * 40
    assert equal_to_training(after) == 0
    rate = guarded.refusal_rate
    assert guarded.drawn > 40 and rate.low < 0.31 and rate.high > 0.3
    assert guarded.images_seen == 7


def test_samples_depend_on_the_seed_alone(images):
    guarded = GuardedImages(Copier(0.5), images)
    whole = guarded.sample(20, seed=5)
    assert torch.equal(whole, guarded.sample(20, seed=5))
    assert torch.equal(whole[:9], guarded.sample(9, seed=5))
    assert not torch.equal(whole, guarded.sample(20, seed=6))


def test_fresh_images_are_refused_about_as_rarely_as_held_out_ones(images):
    refused = sum(source is not None for source in images.sources(FRESH[:200]))
    assert refused <= 10  # 2 of 200 expected at most


def test_a_generator_that_only_copies_ends_in_one_line(images):
    guarded = GuardedImages(Copier(1.0), images, tries=3)
    with pytest.raises(InputError, match="sample 0 is a copy in each of 3 tries, the last of"):
        guarded.sample(4, seed=0)
    assert (guarded.drawn, guarded.refused) == (12, 12)


def test_the_first_copy_is_refused_outright_with_one_try(images):
    with pytest.raises(InputError, match="in each of 1 tries"):
        GuardedImages(Copier(0.5), images, tries=1).sample(20, seed=0)
    fresh = GuardedImages(Copier(0.0), images, tries=1)
    assert torch.equal(fresh.sample(9, seed=0), Copier(0.0).sample(9, seed=0))
    assert fresh.refused == 0


def test_classes_stay_those_of_their_places(images):
    asked = []

    class Labelled(Copier):
        num_classes = 3

        def sample(self, n, *, seed=None, labels=None):
            asked.append(labels)
            return super().sample(n, seed=seed)

    GuardedImages(Labelled(0.4), images).sample(30, seed=1)
    assert asked[0].tolist() == [i % 3 for i in range(30)]
    source_of = images.sources(Copier(0.4).sample(30, seed=1))
    copied = [i % 3 for i, source in enumerate(source_of) if source is not None]
    assert asked[1].tolist()[: len(copied)] == copied


def test_too_few_held_out_images_set_no_threshold():
    with pytest.raises(InputError, match="50 held-out images are too few .* needs 99 or more"):
        ImageGuard(ImageArray(TRAIN), ImageArray(HELDOUT[:50]), torch.device("cpu"))


def test_residual_rate_of_images_sees_copies_that_passed(images):
    copies = Copier(0.5).sample(40, seed=2)
    assert images.residual(copies).low > 0.2
    clean = GuardedImages(Copier(0.5), images).sample(40, seed=2)
    assert images.residual(clean).low == 0


def test_copies_of_text_are_drawn_again(texts):
    parrot = Parrot(0.4)
    guarded = GuardedTexts(parrot, texts)
    before = parrot.sample_text(40, 400, seed=4)
    after = guarded.sample_text(40, 400, seed=4)
    copies = [x is not None for x in texts.sources(before)]
    assert 8 <= sum(copies) <= 24
    assert [a != b for a, b in zip(before, after, strict=True)] == copies
    assert texts.sources(after) == [None] * 40
    assert after == guarded.sample_text(40, 400, seed=4)
    assert after[:7] == guarded.sample_text(7, 400, seed=4)
    assert guarded.residual_rate(after).low == 0
    assert texts.residual(before).low > 0
    assert guarded.tokens_seen == 5


def test_a_source_is_named(texts):
    assert texts.sources([f"{OTHER[:100]}|{TEXT[5000:5300]}"]) == [
        "a passage of train.txt at character 5,000"
    ]


def test_altered_passages_are_refused_and_fresh_texts_are_not(texts):
    letters = list(TEXT[2000:2400].upper())
    letters[::40] = "#" * len(letters[::40])
    assert texts.sources(["".join(letters)])[0] is not None
    fresh = [chain(400, seed=100 + i) for i in range(100)]
    assert sum(x is not None for x in texts.sources(fresh)) <= 3  # one of 200 expected
    assert texts.sources(["", " \n"]) == [None, None]


def test_a_parrot_ends_in_one_line(texts):
    with pytest.raises(InputError, match="a passage of train.txt .* copies too much"):
        GuardedTexts(Parrot(1.0), texts, tries=2).sample_text(2, 300, seed=0)


@pytest.mark.parametrize("how", [{"temperature": 0}, {"beam": 4}])
def test_what_draws_nothing_cannot_be_drawn_again(texts, how):
    with pytest.raises(InputError, match="gives the same text again"):
        GuardedTexts(Parrot(0.0), texts).sample_text(2, 100, **how)


def test_seedless_samples_differ(images):
    guarded = GuardedImages(Copier(0.2), images)
    assert not np.array_equal(guarded.sample(20), guarded.sample(20))
