"""Faults that really happen to real processes of the command line; after each the run goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from novum.callbacks.preemption import EXIT_PREEMPTED
from novum.cli.train import CONFIGS
from novum.core.errors import EXIT_BAD_INPUT, EXIT_BUG
from tests import programs
from tests.project import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc"),
]
INTERVAL = 20
TWO = ("--trainer.devices=2", "--trainer.strategy=ddp")
WAIT = 240  # seconds for a process to start, on a busy machine


@pytest.fixture
def start(tmp_path, shared_cache):
    """train.py fit on 8 px digits, without end, as a process group of its own."""
    config = yaml.safe_load((CONFIGS / "dcgan_digits.yaml").read_text())
    config["trainer"] = {
        "accelerator": "cpu", "devices": 1, "max_steps": -1, "val_check_interval": 1_000_000,
        "log_every_n_steps": 5, "callbacks": [
            {"class_path": "novum.callbacks.Preemption"},
            {"class_path": "novum.callbacks.LastCheckpoint",
             "init_args": {"every_n_steps": INTERVAL}},
        ],
    }  # fmt: skip
    config["data"]["init_args"] |= {"image_size": 8, "batch_size": 8}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    started = []

    def call(*arguments: str, file_size: int | None = None):
        command = [ROOT / "train.py", "fit", "--config", "tiny.yaml", *arguments]
        log = tmp_path / f"log{len(started)}.txt"
        with log.open("w") as out:
            process = programs.start(
                *command,
                out=out.fileno(),
                err=out.fileno(),
                cwd=tmp_path,
                env={"OMP_NUM_THREADS": "1", "NOVUM_CACHE": str(shared_cache)},
                new_session=True,
                starts=int("--trainer.devices=2" in arguments),
                file_size=file_size,
            )
        process.log = log
        started.append(process)
        return process

    yield call
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def checkpoint(folder: Path) -> Path:
    return folder / "runs" / "tiny" / "version_0" / "checkpoints" / "last.ckpt"


def wait_for(condition, process) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.log.read_text()[-2000:]
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def goes_on(start, folder: Path, at_least: int) -> None:
    """From where it stopped to ten steps later, with nothing partial left."""
    step = torch.load(checkpoint(folder), weights_only=True)["global_step"]
    assert step >= at_least
    process = start("--ckpt_path=last", f"--trainer.max_steps={step + 10}")
    assert process.wait(WAIT) == 0, process.log.read_text()[-2000:]
    assert torch.load(checkpoint(folder), weights_only=True)["global_step"] == step + 10
    assert [path.name for path in (folder / "runs" / "tiny").iterdir()] == ["version_0"]
    assert not list(folder.glob("runs/**/*.tmp"))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_two_ranks_that_are_told_to_end_do_so_within_ten_seconds(start, tmp_path, signum):
    process = start(*TWO)
    wait_for(checkpoint(tmp_path).exists, process)
    begin = time.monotonic()
    for pid in (process.pid, *children(process.pid)):
        os.kill(pid, signum)
    assert process.wait(30) == EXIT_PREEMPTED, process.log.read_text()[-2000:]
    assert time.monotonic() - begin < 10
    assert "stopped after step" in process.log.read_text()
    goes_on(start, tmp_path, INTERVAL)


def test_signals_that_come_again_change_nothing(start, tmp_path):
    """Up to the end of the process, which takes a while to go; no fork server here."""
    assert start("--trainer.max_steps=1").wait(WAIT) == 0
    command = [sys.executable, ROOT / "train.py", "fit", "--config", "tiny.yaml"]
    with (tmp_path / "again.txt").open("w") as out:
        process = subprocess.Popen(
            [*command, "--ckpt_path=last", "--trainer.max_steps=-1"],
            cwd=tmp_path, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        began = checkpoint(tmp_path).stat().st_mtime
        end = time.monotonic() + WAIT
        while checkpoint(tmp_path).stat().st_mtime == began:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        while process.poll() is None and time.monotonic() < end:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.02)
        assert process.wait(WAIT) == EXIT_PREEMPTED, (tmp_path / "again.txt").read_text()[-2000:]
    finally:
        process.kill()
        process.wait()
    goes_on(start, tmp_path, INTERVAL)


def test_two_ranks_end_in_the_middle_of_an_evaluation(start, tmp_path):
    fid = "--trainer.callbacks+=novum.callbacks.FrechetDistanceCallback"
    process = start(*TWO, "--trainer.val_check_interval=10", fid,
                    "--trainer.callbacks.num_samples=500000")  # fmt: skip
    wait_for(checkpoint(tmp_path).exists, process)  # it is written before the evaluation
    time.sleep(3)
    begin = time.monotonic()
    for pid in (process.pid, *children(process.pid)):
        os.kill(pid, signal.SIGTERM)
    assert process.wait(30) == EXIT_PREEMPTED, process.log.read_text()[-2000:]
    assert time.monotonic() - begin < 10
    assert torch.load(checkpoint(tmp_path), weights_only=True)["global_step"] == 10
    goes_on(start, tmp_path, 10)


@pytest.mark.parametrize("dead", ["rank 0", "rank 1", "all"])
def test_killed_ranks_do_not_leave_the_others_waiting(start, tmp_path, dead):
    process = start(*TWO)
    wait_for(checkpoint(tmp_path).exists, process)
    (one,) = children(process.pid)
    for pid in {"rank 0": [process.pid], "rank 1": [one], "all": [process.pid, one]}[dead]:
        os.kill(pid, signal.SIGKILL)
    assert process.wait(30) != 0
    end = time.monotonic() + 30
    while Path(f"/proc/{one}").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    if dead != "all":
        assert re.search(rf"lost {dead}: its process died|{dead}\].*code -9",
                         process.log.read_text()), process.log.read_text()[-2000:]  # fmt: skip
    goes_on(start, tmp_path, INTERVAL)


def test_a_rank_that_hangs_is_named(start, tmp_path):
    timeout = "--trainer.strategy.init_args.timeout=0:0:8"
    process = start(TWO[0], "--trainer.strategy=DDPStrategy", timeout)
    wait_for(checkpoint(tmp_path).exists, process)
    (one,) = children(process.pid)
    os.kill(one, signal.SIGSTOP)
    assert process.wait(60) == EXIT_BUG, process.log.read_text()[-2000:]
    assert "lost rank 1: it did not answer in time" in process.log.read_text()
    os.kill(one, signal.SIGKILL)
    goes_on(start, tmp_path, INTERVAL)


def test_killed_in_the_middle_of_writing_a_checkpoint(start, tmp_path):
    process = start("--trainer.callbacks.every_n_steps=1")
    wait_for(checkpoint(tmp_path).exists, process)
    folder, partial = checkpoint(tmp_path).parent, []
    for _ in range(50):
        while not any(name.endswith(".tmp") for name in os.listdir(folder)):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(0.05)  # until it has stopped
        if partial := list(folder.glob("*.tmp")):
            break
        os.killpg(process.pid, signal.SIGCONT)
    assert partial
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(folder.glob("*.tmp")) == partial
    goes_on(start, tmp_path, 1)


def test_a_full_disk_stops_in_one_line_and_keeps_the_old_checkpoint(start, tmp_path):
    first = start("--trainer.max_steps=30")
    assert first.wait(WAIT) == 0, first.log.read_text()[-2000:]
    before = checkpoint(tmp_path).read_bytes()
    full = start("--ckpt_path=last", file_size=len(before) // 2)
    assert full.wait(WAIT) == EXIT_BAD_INPUT, full.log.read_text()[-2000:]
    told = full.log.read_text()
    assert "last.ckpt (File too large): make room, then run it again" in told
    assert "Traceback" not in told
    assert checkpoint(tmp_path).read_bytes() == before
    goes_on(start, tmp_path, 30)


def test_a_disk_that_fills_up_stops_in_one_line(start, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", runs])
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        process = start("--trainer.log_every_n_steps=1")
        wait_for(checkpoint(tmp_path).exists, process)
        with pytest.raises(OSError), (runs / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert process.wait(30) == EXIT_BAD_INPUT, process.log.read_text()[-2000:]
        told = process.log.read_text()
        assert "(No space left on device): make room, then run it again" in told
        assert "Traceback" not in told
        (runs / "filler").unlink()
        goes_on(start, tmp_path, INTERVAL)
    finally:
        subprocess.run(["umount", "-l", runs], check=True)


def test_a_worker_that_dies_is_named(start, tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(40):
        Image.new("L", (8, 8), i * 5).save(tmp_path / "images" / f"{i}.png")
    process = start("--data.dataset=folder", "--data.path=images", "--data.memory_budget_gb=0",
                    "--data.num_workers=2")  # fmt: skip
    wait_for(checkpoint(tmp_path).exists, process)
    worker = children(process.pid)[0]
    os.kill(worker, signal.SIGKILL)
    assert process.wait(30) == EXIT_BUG, process.log.read_text()[-2000:]
    told = process.log.read_text()
    assert f"a process that reads data died (pid {worker}" in told
    assert "Traceback" not in told
    assert torch.load(checkpoint(tmp_path), weights_only=True)["global_step"] >= INTERVAL
