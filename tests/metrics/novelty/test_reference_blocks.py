"""What is found is the same to the last digit on any number of ranks, for any size of blocks."""

import multiprocessing
import os
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from novum.core import memory
from novum.core.errors import InputError
from novum.metrics.neighbours import knn_together
from novum.metrics.novelty import altered_copies, descriptor_index, local_reference, retrieval
from novum.metrics.novelty import reference_blocks as module
from novum.metrics.novelty.altered_copies import AlteredCopyDetector
from novum.metrics.novelty.local_copies import LocalCopyDetector
from novum.metrics.novelty.nearest_matches import match_pool
from novum.metrics.novelty.pool import Pool, pool_of_items
from novum.metrics.novelty.reference_blocks import ReferenceBlocks, StoredArrays, block_rows

SMALL = 32  # rows of the smallest block of the tests
RANKS = [1, 2, 4]


Sets = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def sets() -> Sets:
    """90 training images, five of them twice, 40 held-out ones, and samples of both."""
    from tests.metrics.novelty.scenes import scenes  # which the program below does not find

    images = scenes(120, 48)
    train = torch.cat([images[:85], images[40:45]])
    heldout = torch.cat([images[85:], images[3:8]])
    flat = torch.zeros(4, 3, 48, 48, dtype=torch.uint8)  # ties: all alike, without features
    samples = torch.cat([images[:24].flip(-1), images[100:106], 255 - images[90:96], flat])
    return train, heldout, samples


def pool_of(train: torch.Tensor, heldout: torch.Tensor) -> Pool:
    item = torch.cat([train, heldout]).flatten(1).unique(dim=0, return_inverse=True)[1]
    return pool_of_items(item, len(train))


def everything(sets: Sets, together: bool, rows: int) -> list[torch.Tensor]:
    """All that both detectors find, of samples and of the pool."""
    train, heldout, samples = sets
    pool = pool_of(train, heldout)
    exclude = torch.arange(len(samples)).where(torch.arange(len(samples)) % 7 == 0, -1)
    found: list[torch.Tensor] = []
    for build in (AlteredCopyDetector, LocalCopyDetector):
        detector = build(
            train, heldout, pool=pool, progress=False, together=together, block_rows=rows
        )
        one = detector.search(samples, exclude)
        found += [x for x in (*one, *one.matches) if isinstance(x, torch.Tensor)]
        found += detector.match_within(20)[:3]
    table = pool.table(train.flatten(1), heldout.flatten(1))
    near = match_pool(samples.flatten(1), pool, table, search=knn_together)
    found += [near.item, near.side, near.margin]
    alone = AlteredCopyDetector(
        train, heldout, progress=False, together=together, block_rows=rows
    )  # which finds the items itself
    return [*found, alone.drawn.rows]


def small(set_attribute) -> None:
    """Tiles, blocks, segments and batches of which there are several."""
    set_attribute(retrieval, "TILE", SMALL)
    set_attribute(module, "UNIT", SMALL)
    set_attribute(retrieval, "SAMPLE_BLOCK", 16)
    set_attribute(altered_copies, "AT_ONCE", 16)
    set_attribute(local_reference, "SEGMENT", 5000)
    set_attribute(local_reference, "AT_ONCE", 1000)


def _work(rank: int, ranks: int, folder: str) -> None:
    os.environ |= {"NOVUM_CACHE": f"{folder}/cache-{ranks}", "NOVUM_RANK_TIMEOUT": "600"}
    torch.set_num_threads(1)
    small(setattr)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting-{ranks}",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=600),
    )
    sets = tuple(torch.load(f"{folder}/sets.pt"))
    torch.save(everything(sets, ranks > 1, SMALL), f"{folder}/{ranks}-{rank}.pt")
    os._exit(0)  # without what a group does at its end


@pytest.mark.slow
def test_any_number_of_ranks_finds_the_same(run_python, tmp_path, sets):
    torch.save(list(sets), tmp_path / "sets.pt")
    for ranks in RANKS:
        run_python(__file__, tmp_path, str(ranks), timeout=900).check_returncode()
    expected = torch.load(tmp_path / "1-0.pt")
    assert (expected[0][:24, 0] == torch.arange(24)).double().mean() > 0.6  # of which some excluded
    for ranks in RANKS[1:]:
        for rank in range(ranks):
            found = torch.load(tmp_path / f"{ranks}-{rank}.pt")
            assert len(found) == len(expected)
            assert all(map(torch.equal, found, expected))


@pytest.mark.slow
def test_the_size_of_blocks_does_not_matter(monkeypatch, sets):
    small(monkeypatch.setattr)
    expected = everything(sets, False, SMALL)
    for rows in (2 * SMALL, 100 * SMALL):  # the last: one block a set
        monkeypatch.setattr(local_reference, "SEGMENT", 10**4 * rows)
        assert all(map(torch.equal, everything(sets, False, rows), expected))


def test_blocks_grow_with_the_reference():
    assert block_rows(10) == block_rows(512 * 128) == 512
    assert block_rows(512 * 128 + 1) == 1024
    assert block_rows(10**6) == 8192
    assert block_rows(10**9) == 2**16


def test_blocks_begin_anew_with_the_held_out_images():
    blocks = ReferenceBlocks(torch.zeros(70, 1), torch.zeros(40, 1), False, 32)
    assert [(b.source, b.start, b.stop, b.first) for b in blocks.every] == [
        (0, 0, 32, 0),
        (0, 32, 64, 32),
        (0, 64, 70, 64),
        (1, 0, 32, 70),
        (1, 32, 40, 102),
    ]
    rows = torch.tensor([109, 0, 69, 70, 33])
    whole = torch.arange(110)
    found = blocks.ask(
        rows,
        lambda wanted: blocks.gather(
            wanted, lambda b, mine: whole[b.first : b.first + len(b)][mine], whole[:0]
        ),
        "rows",
    )
    assert torch.equal(found, rows)


def test_crowds_of_equal_codes_do_not_depend_on_the_pieces():
    """Where more are equally far than a piece lists, none of them counts, whoever lists which."""
    torch.manual_seed(0)
    coded = torch.cat([torch.tensor([0.1, 0.2]), torch.full((40,), 0.3), torch.full((9,), 0.5)])
    keys = torch.randperm(len(coded))
    queries = []
    for cuts in ([51], [20, 31], [5, 30, 16], [1] * 51):
        parts = []
        for own, key in zip(coded.split(cuts), keys.split(cuts), strict=True):
            order = own.argsort()[: descriptor_index.AMONG]
            parts.append(
                descriptor_index.Near(own[order][None], key[order][None], own[order][None] + 0.01)
            )
        queries.append(descriptor_index.nearest(descriptor_index.merge(parts, 1)))
    assert queries[0].key[0, :2].tolist() == keys[:2].tolist()
    assert (queries[0].key[0, 2:] == descriptor_index.NOWHERE).all()
    assert queries[0].distance[0, 2:].tolist() == pytest.approx([0.3] * 6)
    for other in queries[1:]:
        assert all(map(torch.equal, other, queries[0]))


def test_a_second_detector_reads_what_the_first_has_read(monkeypatch, sets):
    train, heldout, samples = sets
    pool = pool_of(train, heldout)
    first = AlteredCopyDetector(train, heldout, pool=pool, progress=False).search(samples)
    monkeypatch.setattr(StoredArrays, "keep", None)
    second = AlteredCopyDetector(train, heldout, pool=pool, progress=False).search(samples)
    assert torch.equal(first.evidence, second.evidence)


def test_the_last_arrays_used_stay_mapped(monkeypatch, tmp_path):
    """As many as fit; what is written anew is read anew."""
    monkeypatch.setattr(module, "_mapped", module.OrderedDict())
    monkeypatch.setattr(module, "MAPPED", 2 * 800)
    stored = [StoredArrays(tmp_path / f"{i}", ["a"]) for i in range(3)]
    for number, one in enumerate(stored):
        one.keep({"a": torch.full((100,), number)})
    for number in (0, 1, 0, 2):
        assert (stored[number].known()["a"] == number).all()
    assert list(module._mapped) == [stored[0].path, stored[2].path]
    stored[2].keep({"a": torch.full((100,), 7)})
    assert (stored[2].known()["a"] == 7).all() and (stored[1].known()["a"] == 1).all()


@pytest.mark.parametrize("build", [AlteredCopyDetector, LocalCopyDetector])
def test_too_little_disk_is_one_line_before_the_work(build, monkeypatch, sets):
    train, heldout, _ = sets
    pool = pool_of(train, heldout)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e4))
    free = memory.available_bytes
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**9)
    build(train, heldout, pool=pool, progress=False)  # memory takes it
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**5)
    monkeypatch.setattr(module.StoredArrays, "keep", lambda *_: pytest.fail("worked"))
    other = train.flip(-1)
    with pytest.raises(InputError, match=r"the index of 130 images, .* 0.0 GB of disk are free"):
        build(other, heldout.flip(-1), pool=pool, progress=False)
    assert free() > 0


def test_a_table_of_features_is_searched_where_it_lies(sets):
    train, heldout, samples = (x.flatten(1).float() for x in sets)
    pool = pool_of(*sets[:2])
    table, taken = pool.table(train, heldout), torch.cat([train, heldout])[pool.rows]
    assert torch.equal(table[5:9], taken[5:9]) and table.shape == taken.shape
    found, known = (match_pool(samples, pool, items) for items in (table, taken))
    assert torch.equal(found.item, known.item) and torch.equal(found.margin, known.margin)


if __name__ == "__main__":  # forked, so that torch is imported once
    fork = multiprocessing.get_context("fork")
    count = int(sys.argv[2])
    processes = [
        fork.Process(target=_work, args=(rank, count, sys.argv[1])) for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
