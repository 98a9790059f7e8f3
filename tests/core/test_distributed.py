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
from novum.metrics.novelty import altered_copies as module
from novum.metrics.novelty import retrieval
from novum.metrics.novelty.local_copies import LocalCopyDetector
from novum.metrics.novelty.pool import pool_of_items


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


def altered(together: bool) -> tuple[torch.Tensor, ...]:
    """What 40 images are copies of, in blocks of 16: the first 16, 16 and 8 for three ranks."""
    retrieval.SAMPLE_BLOCK = module.SAMPLE_BLOCK = 16
    pool = torch.randint(0, 256, (60, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    train, heldout = pool.to(torch.uint8).split([40, 20])
    detector = module.AlteredCopyDetector(train, heldout, progress=False, together=together)
    found = detector.search(train.flip(-1))
    return found.items, found.evidence, found.placings


def parts(together: bool) -> tuple[torch.Tensor, ...]:
    """What 20 images show the parts of."""
    cells = torch.rand(30, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    images = (255 * cells.repeat_interleave(4, 2).repeat_interleave(4, 3)).to(torch.uint8)
    train, heldout = images.split([20, 10])
    pool = pool_of_items(torch.arange(30), 20)
    detector = LocalCopyDetector(train, heldout, pool=pool, progress=False, together=together)
    found = detector.search(train.flip(-1))
    return found.items[:, 0], found.matches.side, found.variants[:, 0], found.evidence[:, 0]


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
            found["altered"] = altered(together=True)
            found["parts"] = parts(together=True)
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
def test_ranks_find_the_altered_copies_of_one(three, monkeypatch):
    for holder in (retrieval, module):
        monkeypatch.setattr(holder, "SAMPLE_BLOCK", 16)  # and back
    expected = altered(together=False)
    assert (expected[0][:, 0] == torch.arange(40)).float().mean() > 0.9
    for found in three("all"):
        assert all(map(torch.equal, found["altered"], expected))


@pytest.mark.slow
def test_ranks_find_the_parts_of_one(three):
    *expected, evidence = parts(together=False)
    assert expected[0].tolist() == list(range(20)) and (expected[2] == 1).all()
    for found in three("all"):
        assert all(map(torch.equal, found["parts"][:3], expected))
        torch.testing.assert_close(found["parts"][3], evidence)


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
