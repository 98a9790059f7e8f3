"""Work in parts, and ranks that do not come, on real gloo processes."""

import multiprocessing
import os
import sys
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from novum.core import distributed


def test_alone_a_rank_has_all_of_it():
    assert (distributed.rank(), distributed.world_size(), distributed.is_rank_zero()) == (
        0,
        1,
        True,
    )
    assert distributed.shard(10) == slice(0, 10)
    assert distributed.all_gather_objects("mine", "here") == ["mine"]
    distributed.barrier("here")


@pytest.mark.parametrize("n, step", [(0, 1), (1, 1), (10, 1), (100, 32), (31, 32), (4096, 512)])
@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_parts_follow_one_another(monkeypatch, n, step, world):
    parts = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: world)
        parts.append(distributed.shard(n, step))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n))
    assert all(part.start % step == 0 or part.start == n for part in parts)


def _work(rank: int, folder: str, case: str) -> None:
    os.environ["NOVUM_RANK_TIMEOUT"] = "2" if case != "all" else "60"
    meeting = f"file://{folder}/{case}"
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=3, timeout=timedelta(seconds=60)
    )
    found = {}
    try:
        rows = torch.arange(12).view(6, 2)[distributed.shard(6, 4)]
        found["rows"] = distributed.all_gather_rows(rows, "rows")
        if case == "all":
            sent = [torch.full((rank, 2), 10 * rank + other) for other in range(3)]
            found["sent"] = distributed.exchange(sent, "exchange")
        if rank == 1 and case == "slow":
            time.sleep(5)
        if rank == 2 and case == "dead":
            os._exit(1)
        distributed.barrier("the second meeting")
    except TimeoutError as error:
        found["error"] = str(error)
    torch.save(found, f"{folder}/{case}-{rank}.pt")
    os._exit(0)  # without what a group does at its end


@pytest.fixture
def three(run_python, tmp_path):
    """What each of three ranks found; None for one that died."""

    def run(case: str) -> list[dict | None]:
        run_python(__file__, tmp_path, case).check_returncode()
        files = [tmp_path / f"{case}-{rank}.pt" for rank in range(3)]
        return [torch.load(file) if file.exists() else None for file in files]

    return run


@pytest.mark.slow
def test_each_rank_has_the_parts_that_were_sent_to_it(three):
    for rank, found in enumerate(three("all")):
        assert [part.tolist() for part in found["sent"]] == [
            [[10 * other + rank] * 2] * other for other in range(3)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("case, missing", [("slow", 1), ("dead", 2)])
def test_who_is_missing_is_told(three, case, missing):
    found = three(case)
    assert torch.equal(found[0]["rows"], torch.arange(12).view(6, 2))
    error = found[0]["error"]
    assert error.startswith(f"rank {missing} of 3 did not arrive within 2 s")
    assert error.endswith("the second meeting")
    assert "rank 0 died, timed out or misses another rank" in found[3 - missing]["error"]


if __name__ == "__main__":  # forked, so that torch is imported once
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_work, args=(rank, *sys.argv[1:])) for rank in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
