"""What changed when a run goes on is applied or refused; without the command line too."""

import json

import pytest
import torch
from pytorch_lightning import Callback, LightningModule
from torch.utils.data import DataLoader, TensorDataset

from novum.callbacks import BestCheckpoint, LastCheckpoint, RunRecord
from novum.core.errors import InputError
from novum.core.run_record import FolderLock, changes, claim_version, settings_of
from tests.kills import Images
from tests.lightning_modules.test_classifier import Halves, tiny_classifier
from tests.tiny import TinyImages, tiny_gan, tiny_trainer

KEEPING = dict(enable_checkpointing=True, check_val_every_n_epoch=None, num_sanity_val_steps=0)


def fit(folder, module, data=None, ckpt_path=None, callbacks=(), **settings):
    every = [RunRecord(), *callbacks, LastCheckpoint()]
    trainer = tiny_trainer(folder, **KEEPING | {"limit_val_batches": 0} | settings, callbacks=every)
    trainer.fit(module, data or TinyImages(), ckpt_path=ckpt_path)
    return trainer


def rates(trainer):
    return [group["lr"] for x in trainer.optimizers for group in x.param_groups]


def test_a_gan_goes_on_with_the_rate_of_now(tmp_path):
    fit(tmp_path, tiny_gan(lr=1e-3), max_steps=3)
    last = str(tmp_path / "checkpoints/last.ckpt")
    trainer = fit(tmp_path, tiny_gan(lr=1e-5, betas=(0.2, 0.9)), max_steps=4, ckpt_path=last)
    assert rates(trainer) == [1e-5, 1e-5]
    assert trainer.optimizers[0].param_groups[0]["betas"] == (0.2, 0.9)
    (saved,) = {g["lr"] for o in torch.load(last)["optimizer_states"] for g in o["param_groups"]}
    assert saved == 1e-5
    moments = trainer.optimizers[0].state_dict()["state"][0]
    assert moments["step"] == 4  # the state went on


def test_what_did_not_change_stays_as_a_schedule_left_it(tmp_path):
    fit(tmp_path, tiny_classifier(), Halves(), max_steps=4)
    last = str(tmp_path / "checkpoints/last.ckpt")
    stopped = torch.load(last)["optimizer_states"][0]["param_groups"][0]["lr"]
    seen = []

    class Watch(Callback):
        def on_train_start(self, trainer, pl_module):
            seen.extend(rates(trainer))

    for rate in (0.05, 0.025):  # the same, and half of it
        again = tiny_classifier()
        again.lr = rate
        trainer = tiny_trainer(
            tmp_path / str(rate), **KEEPING, max_steps=8, limit_val_batches=0,
            callbacks=[RunRecord(), Watch(), LastCheckpoint()],
        )  # fmt: skip
        trainer.fit(again, Halves(), ckpt_path=last)  # the schedule ends at 8, not at 4
        assert trainer.global_step == 8
    assert seen == pytest.approx([stopped, stopped / 2])


class Plain(LightningModule):
    def __init__(self, make):
        super().__init__()
        self.make, self.layer = make, torch.nn.Linear(2, 1)

    def training_step(self, batch, _):
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        return self.make(self.parameters())


def test_any_module_and_any_schedule(tmp_path):
    def made(rate):
        def make(parameters):
            optimizer = torch.optim.SGD(parameters, rate, momentum=0.5)
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

        return Plain(make)

    data = DataLoader(TensorDataset(torch.ones(4, 2)), 2)
    fit(tmp_path, made(0.8), data, max_steps=2)
    last = str(tmp_path / "checkpoints/last.ckpt")
    trainer = fit(tmp_path, made(0.4), data, max_steps=3, ckpt_path=last)
    assert rates(trainer) == pytest.approx([0.4 * 0.5**3])
    with pytest.raises(InputError, match="state of SGD, ExponentialLR, which Adam, cannot|Adam"):
        fit(tmp_path, Plain(torch.optim.Adam), data, max_steps=4, ckpt_path=last)


def test_other_data_is_refused(tmp_path):
    class Named(TinyImages):
        digest = "a"

        def fingerprints(self):
            return {"train": self.digest, "heldout": "h"}

    fit(tmp_path, tiny_gan(), Named(), max_steps=2)
    last = str(tmp_path / "checkpoints/last.ckpt")
    fit(tmp_path, tiny_gan(), Named(), max_steps=3, ckpt_path=last)
    Named.digest = "b"
    with pytest.raises(InputError, match="training data changed since .*last.ckpt"):
        fit(tmp_path, tiny_gan(), Named(), max_steps=4, ckpt_path=last)
    record = json.loads((tmp_path / "run.json").read_text())
    assert [x["step"] for x in record["resumed"]] == [2]


def test_a_moved_run_keeps_its_best(tmp_path):
    def run(folder, path=None, **settings):
        best = BestCheckpoint("val/discriminator_loss")
        fit(folder, tiny_gan(), Images(), ckpt_path=path, callbacks=[best], limit_val_batches=1,
            val_check_interval=1, **settings)  # fmt: skip
        return best

    first = run(tmp_path / "here", max_steps=2)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = run(tmp_path / "there", str(tmp_path / "there/checkpoints/last.ckpt"), max_steps=2)
    assert moved.best_model_score == first.best_model_score
    assert moved.best_model_path == str(tmp_path / "there/checkpoints/best.ckpt")
    other = run(tmp_path / "other", str(tmp_path / "there/checkpoints/last.ckpt"), max_steps=2)
    assert other.best_model_score is None  # of another run: that one's best stays its own


def test_changes_and_their_kinds():
    config = {
        "seed_everything": 0,
        "model": {
            "class_path": "a.B",
            "init_args": {"lr": 1, "betas": [1, 2], "old": 3, "seed": 0},
        },
        "data": {"class_path": "a.D", "init_args": {"path": "x", "batch_size": 4}},
        "trainer": {"precision": "32-true", "max_steps": 3},
    }
    before = settings_of(config)
    assert not list(changes(before, before)) and "max_steps" not in before["trainer"]
    now = {
        "seed_everything": 1,
        "model": {"class_path": "a.B", "init_args": {"lr": 2, "betas": (1, 2), "seed": 1}},
        "data": {"class_path": "a.D", "init_args": {"path": "y", "batch_size": 5}},
        "trainer": {"precision": "bf16-mixed"},
    }
    found = {x.key: x.fixed for x in changes(before, now)}
    assert found == {
        "seed_everything": True,
        "data.init_args.batch_size": True,
        "model.init_args.lr": False,
        "trainer.precision": False,
    }
    (other,) = changes({"a": {"class_path": "x.Y", "b": 1}}, {"a": {"class_path": "x.Z"}})
    assert str(other) == "a Y -> Z"


def test_a_version_is_claimed_once(tmp_path):
    assert [claim_version(tmp_path / "x") for _ in range(3)] == [f"version_{i}" for i in range(3)]
    (tmp_path / "x" / "version_7").mkdir()
    (tmp_path / "x" / "version_old").mkdir()
    assert claim_version(tmp_path / "x") == "version_8"


def test_a_lock_is_of_one_process(tmp_path, run_python):
    lock = FolderLock(tmp_path)
    code = (
        "import sys; from pathlib import Path; from novum.core.run_record import FolderLock\n"
        "try: FolderLock(Path(sys.argv[1]))\nexcept ValueError as e: print(e)"
    )
    assert "is being written by process" in run_python("-c", code, tmp_path).stdout
    lock.release()
    assert run_python("-c", code, tmp_path).stdout == ""
