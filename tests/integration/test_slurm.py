"""The batch script, with stand-ins for SLURM's commands that write down how they were called."""

import os
import signal
import subprocess
import time

import pytest

from tests.project import ROOT

SCRIPT = ROOT / "configs" / "cluster" / "slurm.sbatch"
COMMANDS = {
    # a step that exits with 0 when asked to, as a run does that has written its checkpoint
    "srun": 'echo "srun $*" >> calls; echo $$ > step; trap "exit 0" TERM; '
    "for i in $(seq 100); do sleep 0.1; [ -e finish ] && exit 5; done",
    "scancel": 'echo "scancel $*" >> calls; kill -TERM $(cat step)',
    "scontrol": 'echo "scontrol $*" >> calls',
}


@pytest.fixture
def job(tmp_path):
    """The script as a job of two nodes, once its step runs."""
    for name, body in COMMANDS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    found = subprocess.Popen(
        ["bash", str(SCRIPT), "--config", "configs/dcgan_digits.yaml"],
        cwd=tmp_path,
        env=os.environ
        | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_NNODES": "2"},
    )
    while not (tmp_path / "step").exists():
        time.sleep(0.02)
    yield found
    found.kill()


def calls(folder):
    return (folder / "calls").read_text().splitlines()


def test_a_job_goes_on_where_the_last_stopped(job, tmp_path):
    (tmp_path / "finish").touch()
    assert job.wait(10) == 5  # the run's own code
    (line,) = calls(tmp_path)
    assert line.startswith("srun --kill-on-bad-exit=1 python train.py fit --config")
    assert line.endswith(
        "--trainer.num_nodes 2 --trainer.logger.init_args.version slurm_7"
        " --config configs/dcgan_digits.yaml --ckpt_path last"
    )


@pytest.mark.parametrize("sent, requeued", [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_signal_reaches_the_ranks_and_time_queues_it_again(job, tmp_path, sent, requeued):
    job.send_signal(sent)
    assert job.wait(10) == 0
    expected = ["scancel --signal=TERM 7"] + ["scontrol requeue 7"] * requeued
    assert calls(tmp_path)[1:] == expected
