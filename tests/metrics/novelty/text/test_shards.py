"""The index of a text in any number of shards, on any number of ranks, finds the same."""

import json
import multiprocessing
import shutil
import sys
import tracemalloc
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist

from novum.core.errors import InputError
from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text import (
    TextReferences,
    index,
    information,
    judge_text,
    match,
    near_copies,
    ngram_seeds,
    readings,
    references,
)

if __name__ != "__main__":  # the ranks of the last test find no tests
    from tests.metrics.novelty.text.words import author

BORDERS = (30_000, 60_000)  # characters at which shards of so many bytes end
SIZES = {1: None, 3: 30_000, 7: 12_000}  # bytes of a shard, by their number


class Case(NamedTuple):
    train: list[str]  # documents
    heldout: str
    samples: list[str]


def case() -> Case:
    """Samples that quote training text across borders of shards, and a passage that it repeats."""
    own = [author(4000, seed=500 + i) for i in range(24)]
    documents = [*own[:16], own[3][:700] + own[16], *own[17:20]]
    train = "".join(documents)
    quoted = [train[border - 200 : border + 150] for border in BORDERS]
    samples = [author(3000, seed=900 + i) + quote for i, quote in enumerate(quoted)]
    samples += [own[3][:700], train[20_000:70_000:2], author(9000, seed=950)]
    return Case(documents, "".join(own[20:]), samples)


def judged(of: Case, shard: int | None, monkeypatch, *, together: bool = False):
    if shard:
        monkeypatch.setattr(references, "shard_size", lambda: shard)
    found = TextReferences(TextSource.of_documents(of.train), TextSource.of(of.heldout))
    found.prepare()
    result = judge_text(found, of.samples, together=together)
    return found, result


def same(one, other) -> bool:
    """Are two judgements the same, to the last digit?"""
    numbers = np.array_equal(one.novel, other.novel)
    return numbers and (one.copies, one.novelty, one.judgement, one.quality) == (
        other.copies, other.novelty, other.judgement, other.quality
    )  # fmt: skip


@pytest.mark.parametrize("shards", [3, 7])
def test_any_number_of_shards_finds_the_same(shards, monkeypatch):
    of = case()
    whole, expected = judged(of, None, monkeypatch)
    assert len(whole.index.shards) == 1
    monkeypatch.setattr(ngram_seeds, "PART", 2048)
    found, result = judged(of, SIZES[shards], monkeypatch)
    assert len(found.index.shards) == shards
    assert same(result, expected)
    for border in BORDERS:
        own = [c for c in result.copies if c.place < border - 150 and c.kind == "verbatim"]
        assert any(c.place + c.length > border + 100 for c in own)


@pytest.mark.parametrize("name, value", [("CHUNK", 400), ("GROUP", 1)])
def test_parts_of_the_samples_make_no_difference(name, value, monkeypatch):
    """But for passages that a chunk's end parts, which are joined again: places stay the same."""
    of = case()
    _, expected = judged(of, None, monkeypatch)
    monkeypatch.setattr(near_copies, name, value)
    _, result = judged(of, None, monkeypatch)
    assert [c[:5] for c in result.copies] == [c[:5] for c in expected.copies]


def test_blocks_of_reading_make_no_difference(monkeypatch):
    of = case()
    whole, expected = judged(of, None, monkeypatch)
    monkeypatch.setenv("NOVUM_CACHE", f"{whole._folder.parent.parent}-other")
    monkeypatch.setattr(readings, "BLOCK", 1000)
    found, result = judged(of, None, monkeypatch)
    assert found._folder != whole._folder
    assert result.copies == expected.copies


def test_a_pool_of_many_characters_is_written_in_16_bits(monkeypatch):
    signs = "".join(chr(0x4E00 + i) for i in range(2000))
    text = "".join(signs[i % 2000] + "é\r\n" * (i % 7 == 0) for i in range(0, 60_000, 7))
    found = TextReferences(TextSource.of(text), TextSource.of(text[::-1]))
    for name in ("verbatim", "folded"):
        reading = found.read_train.readings[name]
        assert reading.tokens.itemsize == 2
        at = np.arange(0, len(reading.tokens), 97)
        codes = np.array(found.alphabets[name].codes)[reading.tokens[at].astype(int)]
        own = [text[i] for i in reading.place(at).tolist()]
        folded = {"é": "e", "\r": "\n"} if name == "folded" else {"\r": "\n"}
        assert [folded.get(c, c) for c in own] == [chr(c) for c in codes.tolist()]


def peak_bytes(size: int, monkeypatch) -> int:
    """Memory to write an index of so many characters and to search it word for word."""
    for module, name, value in (
        (information, "FITTED", 1 << 14), (information, "SLOTS", 1 << 12),
        (information, "BLOCK", 1 << 14), (readings, "BLOCK", 1 << 15), (index, "BLOCK", 1 << 12),
        (ngram_seeds, "PART", 1 << 13), (ngram_seeds, "STRETCHES", 4),
        (references, "shard_size", lambda: 1 << 15),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    text = author(size, seed=77)
    found = TextReferences(TextSource.of(text), None)
    tracemalloc.start()
    assert found.pool.train_size > size / 2
    own = found.read_train.readings["verbatim"].tokens[-700:]
    assert match(found.index, own).length[0] == 700
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_text(monkeypatch):
    peak_bytes(30_000, monkeypatch)  # tables that are made once
    small, large = (peak_bytes(size, monkeypatch) for size in (100_000, 800_000))
    assert large < 1.3 * small < 15 * 800_000  # an index takes some 17 bytes a character


def test_a_disk_that_is_too_small_is_said_before_the_work(monkeypatch):
    free = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    monkeypatch.setattr(references, "write_pool", None)  # no work
    found = TextReferences(TextSource.of(author(100_000, seed=1)), None)
    with pytest.raises(InputError, match="an index of a text of 100,000 characters takes"):
        found.prepare()


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "file" / "cache"))
    text = author(3000, seed=1)
    found = TextReferences(TextSource.of(text), None)
    with pytest.warns(UserWarning, match="not cached: cannot write to"):
        assert judge_text(found, [text]).copies


def _on_ranks(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/rendezvous{ranks}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    patch = pytest.MonkeyPatch()
    patch.setenv("NOVUM_CACHE", f"{folder}/cache{ranks}")
    patch.setenv("LOCAL_RANK", str(rank))
    patch.setattr(near_copies, "CHUNK", 2000)
    patch.setattr(ngram_seeds, "PART", 2048)
    of = Case(*json.loads(Path(folder, "case.json").read_text()))
    found = [judged(of, size, patch, together=True)[1] for size in (None, SIZES[7])]
    if not rank:
        torch.save(
            [(f.copies, f.novelty, f.judgement, f.novel) for f in found], f"{folder}/{ranks}.pt"
        )
    dist.destroy_process_group()


@pytest.mark.slow
def test_any_number_of_ranks_finds_the_same(run_python, tmp_path, monkeypatch):
    (tmp_path / "case.json").write_text(json.dumps(case()))
    monkeypatch.setattr(near_copies, "CHUNK", 2000)
    _, one = judged(case(), None, monkeypatch)
    assert one.copies
    done = run_python(__file__, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    for ranks in (2, 4):
        for *figures, novel in torch.load(tmp_path / f"{ranks}.pt", weights_only=False):
            assert figures == [one.copies, one.novelty, one.judgement]
            assert np.array_equal(novel, one.novel)


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    for ranks in (2, 4):
        arguments = [(rank, ranks, sys.argv[1]) for rank in range(ranks)]
        tasks = [fork.Process(target=_on_ranks, args=args) for args in arguments]
        for task in tasks:
            task.start()
        for task in tasks:
            task.join()
        if any(task.exitcode for task in tasks):
            sys.exit(1)
