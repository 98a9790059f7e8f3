"""One attacked image, with a network of one layer."""

import pytest
import torch
from torch import nn

from novum.callbacks import AttackFigure
from novum.datamodules import SingleImageDataModule
from novum.lightning_modules import PGD, Adversarial
from novum.lightning_modules.networks import Backbone
from tests.tiny import tiny_trainer


class TinyNetwork(nn.Module):
    class_names = ["cat", "dog", "gibbon"]
    class_index = Backbone.class_index
    name = "tiny"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 3, 3)
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.requires_grad_(False)

    def network(self, images):
        return self.layer(images).mean((2, 3)) * 30

    def normalise(self, images):
        return images

    at_native_size = normalise
    forward = network


def attack(tmp_path, **settings) -> Adversarial:
    model = Adversarial(TinyNetwork(), **{"attack": PGD(0.1, steps=10, restarts=2), **settings})
    trainer = tiny_trainer(tmp_path, max_steps=-1)
    trainer.fit(model, SingleImageDataModule("flower.jpg", size=16))
    assert trainer.global_step == model.attack.steps
    return model


def test_the_target_is_seen_within_the_ball(tmp_path):
    model = attack(tmp_path, target="gibbon", attack=PGD(0.5, steps=20))
    names, sure = model.classify(torch.cat([model.clean[:1], model.images()]))
    assert names[1] == "gibbon" and sure[1] > 0.5
    change = (model.images() - model.clean[:1]).abs()
    assert change.max() <= 0.5 + 1e-6
    assert model.images().min() >= 0 and model.images().max() <= 1


def test_away_from_what_is_seen_and_the_same_again(tmp_path):
    first, second = attack(tmp_path), attack(tmp_path)
    assert torch.equal(first.images(), second.images())
    with torch.no_grad():
        before, after = (m.softmax(1)[0, first.label] for m in map(
            first.logits, (first.clean[:1], first.images())
        ))  # fmt: skip
    assert after < before


def test_the_figure_says_what_is_seen(tmp_path):
    model = attack(tmp_path, target="dog")
    picture, captions = AttackFigure()._figure(model)
    assert picture.width > 3 * 16
    assert captions[1].startswith(tuple(TinyNetwork.class_names))
    assert captions[2].startswith("in 8 bits: ")


def test_a_misspelt_class_is_told():
    with pytest.raises(ValueError, match="did you mean gibbon"):
        Adversarial(TinyNetwork(), target="gibon")
    with pytest.raises(ValueError, match="give one of them"):
        Adversarial(TinyNetwork(), target="cat", label="dog")
