"""Checkpoints that are whole, kept, and gone on from."""

import os
import random
from collections import Counter

import pytest
import torch

from novum.callbacks import LastCheckpoint, Preemption
from novum.cli.run_folder import newest_whole
from novum.core.checkpoints import read_checkpoint
from novum.core.files import remove_partial_files, whole_file
from tests.kills import Images, char_lstm, char_transformer, gan, kill_over_and_over
from tests.lightning_modules.test_classifier import Halves, tiny_classifier
from tests.tiny import TinyImages, states_equal, tiny_gan, tiny_trainer

KEEPING = dict(enable_checkpointing=True, check_val_every_n_epoch=None, num_sanity_val_steps=0)


def fit(folder, *callbacks, module=None, ckpt_path=None, **settings):
    keeper = LastCheckpoint(settings.pop("every_n_steps", None))
    trainer = tiny_trainer(folder, **KEEPING | settings, callbacks=[*callbacks, keeper])
    trainer.fit(module := module or tiny_gan(), TinyImages(), ckpt_path=ckpt_path)
    return module


def saved(path):
    return torch.load(path, weights_only=True)


def test_the_one_before_is_kept_and_the_end_is_saved(tmp_path):
    fit(tmp_path, every_n_steps=3, max_steps=7)
    folder = tmp_path / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert saved(folder / "last.ckpt")["global_step"] == 7
    assert saved(folder / "previous.ckpt")["global_step"] == 6


def test_an_interval_must_be_positive():
    with pytest.raises(ValueError, match="every_n_steps is 0"):
        LastCheckpoint(every_n_steps=0)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_newest_falls_back_and_says_so(tmp_path, capsys, damage):
    fit(tmp_path, every_n_steps=3, max_steps=7)
    last, previous = (tmp_path / "checkpoints" / f"{n}.ckpt" for n in ("last", "previous"))
    content = bytearray(last.read_bytes())
    if damage == "flip":
        weights = max(saved(last)["state_dict"].values(), key=torch.numel)
        content[content.find(bytes(weights.untyped_storage().tolist())) + 5] ^= 4
    last.write_bytes({"cut": content[:-100], "empty": b"", "flip": content}[damage])
    if damage == "flip":
        assert saved(last)  # torch does not see it: hence the checksum
    path, checkpoint = newest_whole(last.parent)
    assert path == previous and checkpoint["global_step"] == 6
    told = capsys.readouterr().err
    assert "last.ckpt is not a checkpoint, or a damaged one" in told and "step 6" in told
    with pytest.raises(ValueError, match="damaged"):
        fit(tmp_path, max_steps=8, ckpt_path=str(last))
    fit(tmp_path, every_n_steps=3, max_steps=8, ckpt_path=str(path))
    assert read_checkpoint(last)["global_step"] == 8
    assert saved(previous)["global_step"] == 6  # the damaged one did not take its place
    last.unlink()
    previous.write_bytes(b"")
    with pytest.raises(ValueError, match="previous.ckpt .*damaged.*best.ckpt"):
        newest_whole(last.parent)


class Counts(Preemption):
    """Validation batches of each evaluation, one of which may break off."""

    def __init__(self, break_at=None):
        super().__init__()
        self.break_at, self.evaluations = break_at, []

    def on_validation_epoch_start(self, trainer, pl_module):
        self.evaluations.append([pl_module.global_step, 0])

    def on_validation_batch_end(self, trainer, pl_module, *_):
        self.evaluations[-1][1] += 1
        if self.evaluations[-1] == self.break_at:
            raise KeyError("broken off")


@pytest.mark.parametrize("every_n_steps", [None, 2])
def test_an_evaluation_that_was_broken_off_is_done_again(tmp_path, every_n_steps):
    settings = dict(max_steps=6, val_check_interval=2, limit_val_batches=3) | KEEPING

    def run(folder, watching, path=None):
        gan = tiny_gan()
        callbacks = [watching, LastCheckpoint(every_n_steps)]
        tiny_trainer(folder, **settings, callbacks=callbacks).fit(gan, Images(), ckpt_path=path)
        return gan

    whole, first, second, third = Counts(), Counts([4, 2]), Counts(), Counts()
    gan = run(tmp_path / "whole", whole)
    assert whole.evaluations == [[2, 3], [4, 3], [6, 3]]
    last = str(tmp_path / "killed/checkpoints/last.ckpt")
    with pytest.raises(KeyError):
        run(tmp_path / "killed", first)
    resumed = run(tmp_path / "killed", second, last)
    assert second.evaluations == [[4, 3], [6, 3]]
    assert states_equal(gan.state_dict(), resumed.state_dict())
    run(tmp_path / "killed", third, last)  # after its end
    assert third.evaluations == []


def classifier(folder):
    return tiny_classifier(), Halves()


class BrokenGradient(Preemption):
    """In step 5, after a loss that is finite."""

    def on_train_batch_start(self, trainer, pl_module, *_):
        if trainer.global_step == 4:
            weights = next(pl_module.parameters())
            self.hook = weights.register_hook(lambda gradient: gradient * float("nan"))

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 5:
            self.hook.remove()


@pytest.mark.parametrize("build", [gan, char_lstm, char_transformer, classifier])
def test_a_gradient_that_is_not_finite_never_reaches_a_checkpoint(tmp_path, build):
    module, data = build(tmp_path)
    settings = KEEPING | dict(max_steps=8, log_every_n_steps=50, limit_val_batches=0)
    trainer = tiny_trainer(tmp_path, **settings, callbacks=[BrokenGradient(), LastCheckpoint(4)])
    with pytest.raises(FloatingPointError, match="is nan at step 5"):
        trainer.fit(module, data)
    last = saved(tmp_path / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 4
    assert all(v.isfinite().all() for v in last["state_dict"].values())
    again, data = build(tmp_path)
    trainer = tiny_trainer(tmp_path, **settings, callbacks=[Preemption(), LastCheckpoint(4)])
    trainer.fit(again, data, ckpt_path=str(tmp_path / "checkpoints" / "last.ckpt"))
    assert saved(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 8


def test_a_killed_writer_leaves_nothing_for_long(tmp_path):
    path = tmp_path / "x.ckpt"
    with whole_file(path) as file:
        file.write(b"old")
    with pytest.raises(RuntimeError), whole_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    (tmp_path / "x.ckpt.0123abcd.tmp").touch()
    (tmp_path / "mine.tmp").touch()
    remove_partial_files(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.tmp", "x.ckpt"]


@pytest.mark.slow
@pytest.mark.parametrize("build", [gan, char_lstm, char_transformer])
def test_random_kills_end_in_the_same_weights(tmp_path, build):
    """NOVUM_KILLS=100 pytest -s -k random_kills tests/callbacks: 200 in all."""
    kills, rng, told = int(os.environ.get("NOVUM_KILLS", 6)), random.Random(0), Counter()
    while told["kills"] < kills:
        folder = tmp_path / str(told["runs"])
        told += kill_over_and_over(folder, build, 60, min(25, kills - told["kills"]), rng)
        told["runs"] += 1
        print(build.__name__, dict(told), flush=True)
