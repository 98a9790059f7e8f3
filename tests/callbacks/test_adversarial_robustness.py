import pytest
import torch

from novum.callbacks import Robustness
from novum.datamodules.sources.image_sources import ImageArray
from novum.report.attack_figures import draw_class_flow, draw_robustness


class Answers:
    """Right without attack, always the next class under one."""

    images_seen = 7
    right = True

    def classify(self, images):
        answers = torch.arange(len(images)) % 3 if self.right else torch.zeros(len(images)).long()
        return torch.nn.functional.one_hot(answers, 3).float()

    def under_attack(self, images, labels, epsilons):
        k = torch.tensor([0 if e == 0 else 1 for e in epsilons.tolist()])
        return 10 * torch.nn.functional.one_hot((labels + k[:, None]) % 3, 3).float()


class Heldout:
    def heldout_reference(self):
        return ImageArray(torch.zeros(6, 1, 4, 4).byte(), torch.arange(6) % 3)


class Trainer:
    datamodule, fast_dev_run, is_global_zero, loggers = Heldout(), False, True, []


def test_error_and_confidence(tmp_path, monkeypatch):
    logged = {}
    monkeypatch.setattr(Trainer, "default_root_dir", tmp_path, raising=False)
    monkeypatch.setattr(
        "novum.callbacks.adversarial_robustness.log_metrics", lambda _, __, m: logged.update(m)
    )
    Robustness(epsilons=(0.0, 0.1)).evaluate(Trainer(), Answers())
    assert logged["robustness/error/0"] == 0 and logged["robustness/error/0.1"] == 1
    assert logged["robustness/confidence/0.1"] > 0.99
    logged.clear()
    dead = Answers()
    dead.right = False
    with pytest.warns(
        UserWarning, match="not measured: of 6 held-out images 33% are named rightly"
    ):
        Robustness(epsilons=(0.0, 0.1)).evaluate(Trainer(), dead)
    assert logged == {}


def test_impossible_epsilons_and_other_modules():
    with pytest.raises(ValueError, match="from 0 to 1"):
        Robustness(epsilons=(0.1, 8.0))
    with pytest.raises(ValueError, match="under_attack"):
        Robustness().evaluate(Trainer(), object())


def test_pictures_are_pngs():
    pictures = [
        draw_robustness([0, 0.1], [1, 0], [0, 0.9]),
        draw_class_flow(torch.eye(3, dtype=torch.long).numpy(), ["a", "b", "c"], "title"),
    ]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
