"""Arguments of a Trainer made in code: the same words as of a command line."""

import functools
import warnings

import pytest
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.plugins import TorchSyncBatchNorm

from novum.core.trainer_arguments import require_effect
from novum.datamodules import ImageDataModule, SingleImageDataModule
from novum.lightning_modules import Adversarial
from novum.lightning_modules.attacks import PGD
from tests.tiny import small_backbone, tiny_gan, tiny_trainer

pytestmark = pytest.mark.filterwarnings("ignore:`max_epochs` was not set")
backbone = functools.cache(small_backbone)  # nothing changes it


class Counted(Callback):
    """Validations, by the step that they follow."""

    def __init__(self) -> None:
        self.steps = []

    def on_validation_epoch_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.steps.append(trainer.global_step)


def fit_one_image(tmp_path, **settings):
    counted = Counted()
    module = Adversarial(backbone(), PGD(0.01, steps=4))
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[counted],
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        **settings,
    )  # fmt: skip
    trainer.fit(module, SingleImageDataModule("flower.jpg", size=32))
    return trainer, counted.steps


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gradient_clip_algorithm": "value"}, "clip_gradient_norm instead"),
        ({"min_steps": 5}, "trainer.max_steps"),
        ({"min_epochs": 2, "max_epochs": 1}, "raise trainer.max_epochs"),
        ({"min_epochs": 1, "limit_train_batches": 9}, "takes 9 steps, but max_steps ends the run"),
        ({"limit_train_batches": 2, "check_val_every_n_epoch": None}, "counts steps"),
        ({"limit_train_batches": 0}, "nothing would be trained"),
        ({"log_every_n_steps": -1}, "give it 0 or more"),
        ({"plugins": [TorchSyncBatchNorm()]}, "sync_batchnorm is for GPUs"),
    ],
)
def test_a_trainer_of_ones_own_is_checked(tmp_path, settings, words):
    trainer = tiny_trainer(tmp_path, **settings)
    with pytest.raises(ValueError, match=words):
        trainer.fit(tiny_gan(), ImageDataModule("digits", image_size=8, batch_size=8))


@pytest.mark.parametrize(
    "settings",
    [
        {"max_epochs": 3},
        {"min_epochs": 1},
        {"limit_train_batches": 1},
        {"limit_train_batches": 0.5},
        {"overfit_batches": 1},
        {"check_val_every_n_epoch": 2},
    ],
)
def test_one_image_has_no_epochs(tmp_path, settings):
    with pytest.raises(ValueError, match=f"leave out trainer.{next(iter(settings))};"):
        fit_one_image(tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "evaluated"),
    [
        ({}, [4]),
        ({"val_check_interval": 0.5}, [2, 4]),
        ({"val_check_interval": 3, "check_val_every_n_epoch": None}, [3]),
        ({"val_check_interval": 99, "check_val_every_n_epoch": None}, [4]),
        ({"val_check_interval": "01:00:00:00"}, [4]),
        ({"max_steps": 2, "val_check_interval": 3}, [2]),
    ],
)
def test_the_run_of_one_image_is_its_epoch(tmp_path, settings, evaluated):
    assert fit_one_image(tmp_path, **settings)[1] == evaluated


@pytest.mark.filterwarnings("ignore:Trainer was signaled to stop")
def test_min_steps_of_one_image_end_it(tmp_path):
    """Lightning sets min_epochs to 1 where min_steps is given, and one image has no end of it."""
    stopped = {"max_time": "00:00:00:00", "max_steps": 4, "min_steps": 2}
    assert fit_one_image(tmp_path, **stopped)[0].global_step == 2


def test_clipping_says_that_it_needs_both(tmp_path):
    trainer = tiny_trainer(tmp_path, gradient_clip_algorithm="norm")
    with pytest.warns(UserWarning, match="nothing is clipped"):
        require_effect(trainer, "fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require_effect(trainer, "test")  # where nothing ever is


def test_nodes_are_known_to_a_launcher_or_to_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    trainer = tiny_trainer(tmp_path, num_nodes=2)
    with pytest.raises(ValueError, match="nothing says where the other nodes are"):
        require_effect(trainer, "fit")
    monkeypatch.setenv("MASTER_ADDR", "first")
    monkeypatch.setenv("NODE_RANK", "1")
    require_effect(trainer, "fit")


def test_epochs_shorter_than_an_interval_end_in_an_evaluation(tmp_path):
    counted = Counted()
    trainer = tiny_trainer(
        tmp_path, max_epochs=2, max_steps=-1, limit_val_batches=1, callbacks=[counted],
        val_check_interval=1000, check_val_every_n_epoch=None,
    )  # fmt: skip
    trainer.fit(tiny_gan(), ImageDataModule("digits", image_size=8, batch_size=8, subset=16))
    assert counted.steps == [4]
