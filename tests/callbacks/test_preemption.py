"""Signals end a run with a checkpoint that goes on bit for bit."""

import os
import signal

import pytest
import torch

from novum.callbacks import LastCheckpoint, Preemption, RunSummary
from novum.callbacks.preemption import EXIT_INTERRUPTED, EXIT_PREEMPTED, Preempted
from tests.kills import Images
from tests.tiny import states_equal, tiny_gan, tiny_trainer


class Signals(Preemption):
    """Sends the process a signal in a step, or in an evaluation."""

    def __init__(self, signum=None, step=-1, in_evaluation=False):
        super().__init__()
        self.signum, self.step, self.in_evaluation = signum, step, in_evaluation

    def _send(self, trainer, in_evaluation):
        if trainer.global_step == self.step and self.in_evaluation is in_evaluation:
            os.kill(os.getpid(), self.signum)

    def on_train_batch_start(self, trainer, *_):
        self._send(trainer, False)

    def on_validation_batch_end(self, trainer, *_):
        self._send(trainer, True)
        assert self.step != trainer.global_step or not self.in_evaluation, "it should be over"


def fit(folder, *callbacks, ckpt_path=None):
    trainer = tiny_trainer(
        folder,
        max_steps=8,
        callbacks=[*callbacks, LastCheckpoint()],
        enable_checkpointing=True,
        val_check_interval=4,
        limit_val_batches=3,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
    )
    gan = tiny_gan()
    trainer.fit(gan, Images(), ckpt_path=ckpt_path)
    return gan


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
@pytest.mark.parametrize("in_evaluation", [False, True], ids=["step", "evaluation"])
def test_a_signal_ends_the_run_with_a_checkpoint(tmp_path, capsys, name, in_evaluation):
    signum = getattr(signal, name)
    handler = signal.getsignal(signum)
    stops = Signals(signum, step=4 if in_evaluation else 2, in_evaluation=in_evaluation)
    with pytest.raises(Preempted) as stopped:
        fit(tmp_path / "stopped", stops)
    assert stopped.value.code == (EXIT_INTERRUPTED if name == "SIGINT" else EXIT_PREEMPTED)
    assert signal.getsignal(signum) == handler
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    step = 4 if in_evaluation else 3
    assert torch.load(last, weights_only=True)["global_step"] == step
    assert f"{name}: stopped after step {step}, which {last} holds" in capsys.readouterr().out
    resumed = fit(tmp_path / "stopped", Signals(), ckpt_path=str(last))
    assert states_equal(fit(tmp_path / "whole", Signals()).state_dict(), resumed.state_dict())


@pytest.mark.parametrize(
    ("step", "said"), [(2, "No evaluation was made"), (6, "Report, of the evaluation at")]
)
def test_a_stopped_run_says_where_its_report_is(tmp_path, capsys, step, said):
    """The evaluation after step 4 is the last one."""
    with pytest.raises(Preempted):
        fit(tmp_path, Signals(signal.SIGTERM, step=step), RunSummary())
    assert said in capsys.readouterr().err
    assert (tmp_path / "report.html").exists() == (tmp_path / "report.json").exists() == (step > 4)


def test_a_report_that_cannot_be_written_does_not_cost_the_checkpoint(tmp_path, capsys):
    """The report comes first, as Lightning calls checkpoints last."""
    (tmp_path / "report.json").mkdir(parents=True)
    with pytest.raises(Preempted):
        fit(tmp_path, Signals(signal.SIGTERM, step=6), RunSummary())
    assert "The report was not written: " in capsys.readouterr().err
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt")["global_step"] > 4
