import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.utils.data import Dataset

from novum.datamodules.dataloaders import by_workers

LEFT_OPEN = """
import builtins, torch
from novum.datamodules.dataloaders import by_workers

builtins.left_open = iter(by_workers([torch.zeros(3)] * 1000, num_workers=2))
next(builtins.left_open)
print("end")
"""


class Slow(Dataset):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> int:
        time.sleep(0.02)
        return index


def test_workers_still_at_work_do_not_hold_up_the_end_of_the_process():
    ended = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (0, "end\n"), ended.stderr


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="no system that says who signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_workers_leave_a_signal_to_the_whole_job_to_the_process_that_trains(name: str):
    others = set(multiprocessing.active_children())  # which an earlier test may have left
    batches = iter(by_workers(Slow(), num_workers=2))
    read = [next(batches)]
    workers = [child.pid for child in set(multiprocessing.active_children()) - others]
    assert len(workers) == 2
    subprocess.run(["kill", f"-{name.removeprefix('SIG')}", *map(str, workers)], check=True)
    read += list(batches)
    assert read == list(range(40))
    assert not any(_runs(worker) for worker in workers)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_process_that_trains_ends_its_workers():
    others = set(multiprocessing.active_children())
    batches = iter(by_workers(Slow(), num_workers=1))
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - others
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(batches)


def test_what_workers_read_does_not_draw_from_the_generator_of_training():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(by_workers(Slow(), num_workers=1))
    assert torch.equal(torch.get_rng_state(), before)
