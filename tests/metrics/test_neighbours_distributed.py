"""A reference shared out over 1, 2 or 4 gloo ranks has the neighbours of the whole."""

import multiprocessing
import sys

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from novum.metrics.neighbours import knn, knn_sharded


def problem() -> tuple[Tensor, Tensor]:
    """Copies and ties, within a share and across shares."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 16, generator=generator)
    reference = x[torch.randint(0, 300, (1001,), generator=generator)]
    return x[280:320], reference


def shares(ranks: int, n: int) -> dict[str, list[Tensor]]:
    rows = torch.arange(n)
    return {
        "strided": [rows[rank::ranks] for rank in range(ranks)],
        "blocks": list(rows.tensor_split(ranks)),
        "uneven": [rows[:3], rows[3:], *[rows[:0]] * ranks][:ranks] if ranks > 1 else [rows],
    }


def _search(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=4)
    queries, reference = problem()
    groups = {ranks: dist.new_group(list(range(ranks))) for ranks in (1, 2, 4)}
    found = {}
    for ranks, group in groups.items():
        if rank < ranks:
            for name, rows in shares(ranks, len(reference)).items():
                mine = rows[rank]
                found[ranks, name] = tuple(
                    knn_sharded(queries, reference[mine], mine, 7, group=group)
                )
    try:
        knn_sharded(queries[rank:], reference, torch.arange(len(reference)), 1)
    except ValueError as error:
        found["error"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_any_number_of_ranks_finds_the_same(run_python, tmp_path):
    run_python(__file__, tmp_path).check_returncode()
    queries, reference = problem()
    distances, indices = knn(queries, reference, 7)
    assert (distances[:, 1:] == distances[:, :-1]).any()  # there are ties
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(4)]
    assert [len(found) for found in results] == [10, 7, 4, 4]
    for found in results:
        assert found.pop("error") == (
            "ranks have [40, 39, 38, 37] queries: pass the same ones on every rank"
        )
        for answer in found.values():
            assert torch.equal(answer[0], distances)
            assert torch.equal(answer[1], indices)


def test_without_ranks_a_share_is_the_whole(normal):
    queries, reference = normal(10, 4), normal(50, 4, seed=1)
    expected, found = (
        knn(queries, reference, 3),
        knn_sharded(queries, reference, torch.arange(50), 3),
    )
    assert torch.equal(found.distances, expected.distances)
    assert torch.equal(found.indices, expected.indices)


def test_row_numbers_must_fit_the_share(normal):
    for rows in (torch.arange(49), torch.arange(50).flip(0)):
        with pytest.raises(ValueError, match="rows must be ascending, one for each of the share's"):
            knn_sharded(normal(10, 4), normal(50, 4), rows, 3)


def test_too_many_neighbours_are_refused(normal):
    with pytest.raises(ValueError, match="k = 51 neighbours asked of 50 reference rows"):
        knn_sharded(normal(10, 4), normal(50, 4), torch.arange(50), 51)


if __name__ == "__main__":  # the ranks of the test above, forked so that torch is imported once
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=_search, args=(rank, sys.argv[1])) for rank in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    sys.exit(any(rank.exitcode for rank in ranks))
