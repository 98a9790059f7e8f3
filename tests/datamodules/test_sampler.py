from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from novum.datamodules.sampler import InfiniteSampler

sizes, batch_sizes, seeds = st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**31)


def take(n: int, *args, **kwargs) -> list[list[int]]:
    return [batch.tolist() for batch in islice(InfiniteSampler(*args, **kwargs), n)]


@given(sizes, batch_sizes, seeds)
@settings(max_examples=50)
def test_every_epoch_is_a_permutation(size, batch_size, seed):
    order = sum(take(3 * size // batch_size + 1, size, batch_size, seed), [])
    for epoch in range(3):
        part = order[epoch * size : (epoch + 1) * size]
        generator = torch.Generator().manual_seed(seed + epoch)
        assert part == torch.randperm(size, generator=generator).tolist()[: len(part)]


@given(sizes, st.integers(1, 8), seeds, st.integers(1, 5), st.integers(0, 30))
@settings(max_examples=50)
def test_order_does_not_depend_on_the_number_of_ranks(size, batch_size, seed, world, start):
    together = take(3, size, batch_size * world, seed, start_batch=start)
    ranks = [take(3, size, batch_size, seed, rank, world, start) for rank in range(world)]
    for number, batch in enumerate(together):
        assert [ranks[i % world][number][i // world] for i in range(len(batch))] == batch


@given(sizes, batch_sizes, seeds, st.integers(0, 60))
@settings(max_examples=50)
def test_starting_late_equals_skipping(size, batch_size, seed, start):
    assert take(start + 3, size, batch_size, seed)[start:] == take(
        3, size, batch_size, seed, start_batch=start
    )


def test_starts_far_out_at_once():
    assert len(take(1, 1000, 64, start_batch=10**12)[0]) == 64


@pytest.mark.parametrize("sizes", [(0, 4), (4, 0)])
def test_nothing_to_sample(sizes):
    with pytest.raises(ValueError, match="must be positive"):
        InfiniteSampler(*sizes)
