"""Distributed helpers: shards of work, gathered results, barriers that name missing ranks."""

import contextlib
import itertools
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from novum.core.errors import RankError

_groups: dict[Any, dist.ProcessGroup] = {}  # of the world in which they were made


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def world_size() -> int:
    """Processes of this job."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_rank_zero() -> bool:
    """Return True in the process that prints and writes.

    Before the process group exists, and in data workers, what the launcher has set decides.
    """
    if world_size() > 1:
        return rank() == 0
    known = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return int(next((value for value in known if value), 0)) == 0


def rank_zero_warn(message: str) -> None:
    """Warn once for all processes of a job."""
    if is_rank_zero():
        warnings.warn(message, stacklevel=3)


def shard(n: int, step: int = 1) -> slice:
    """This rank's part of n rows: parts follow one another and begin at multiples of `step`."""
    return shards(n, step)[rank()]


def shards(n: int, step: int = 1) -> list[slice]:
    """The part of each rank."""
    blocks, ranks = -(-n // step), world_size()
    ends = [min(n, -(-blocks * r // ranks) * step) for r in range(ranks + 1)]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def timeout() -> timedelta:
    """Time that ranks wait for one another: $NOVUM_RANK_TIMEOUT seconds, or half an hour."""
    return timedelta(seconds=float(os.environ.get("NOVUM_RANK_TIMEOUT", 1800)))


def cpu_group() -> dist.ProcessGroup:
    """All ranks, over gloo, for tensors in the CPU's memory; all ranks ask for it at once."""
    if dist.group.WORLD not in _groups:
        _groups.clear()
        group = dist.new_group(backend="gloo", timeout=timeout())
        _groups[dist.group.WORLD] = cast(dist.ProcessGroup, group)  # this rank is in it
    return _groups[dist.group.WORLD]


def barrier(where: str) -> None:
    """Wait for all ranks; RankError names those that do not arrive."""
    if world_size() == 1:
        return
    try:
        dist.monitored_barrier(cpu_group(), timeout=timeout(), wait_all_ranks=True)
    except RuntimeError as error:
        raise RankError(f"{_missing(str(error))}: {where}") from error


def _missing(message: str) -> str:
    """Describe the missing ranks, which gloo names to rank 0 alone."""
    named = re.search(r"Ranks? ([\d, ]+) failed to pass", message)
    if named is None:
        return f"rank {rank()} stops waiting: rank 0 died, timed out or misses another rank"
    listed, seconds = named[1].strip(" ,"), timeout().total_seconds()
    return (
        f"rank {listed} of {world_size()} did not arrive within {seconds:g} s"
        " (NOVUM_RANK_TIMEOUT), or died; see what it printed last"
    )


def all_gather_objects(mine: Any, where: str) -> list[Any]:
    """Gather an object of each rank, in their order, on every rank."""
    if world_size() == 1:
        return [mine]
    barrier(where)
    brought: list[Any] = [None] * world_size()
    dist.all_gather_object(brought, mine, cpu_group())
    return brought


def all_gather_rows(mine: Tensor, where: str) -> Tensor:
    """The rows of all ranks one after another, on the CPU of every rank."""
    if world_size() == 1:
        return mine
    kinds = all_gather_objects((mine.shape, mine.dtype), where)
    (_, *shape), dtype = max(kinds, key=lambda kind: kind[0][0])
    whole = torch.empty(sum(size[0] for size, _ in kinds), *shape, dtype=dtype)
    for source, part in enumerate(whole.split([size[0] for size, _ in kinds])):
        if len(part):
            if source == rank():
                part.copy_(mine)
            dist.broadcast(part, source, cpu_group())
    return whole


def exchange(parts: Sequence[Tensor], where: str) -> list[Tensor]:
    """Send a part to each rank, and return the part that each has sent to this one, on the CPU."""
    if world_size() == 1:
        return list(parts)
    sizes = [shapes[rank()] for shapes in all_gather_objects([p.shape for p in parts], where)]
    each = parts[0].element_size()
    sent = torch.cat([part.cpu().contiguous().view(-1).view(torch.uint8) for part in parts])
    lengths = [each * math.prod(size) for size in sizes]
    brought = torch.empty(sum(lengths), dtype=torch.uint8)
    own = [each * part.numel() for part in parts]
    dist.all_to_all_single(brought, sent, lengths, own, group=cpu_group())
    whole = [part.clone().view(parts[0].dtype) for part in brought.split(lengths)]
    return [part.view(size) for part, size in zip(whole, sizes, strict=True)]


def is_local_rank_zero() -> bool:
    own = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0
    return int(own) == 0


def all_reduce(array: NDArray, where: str, operation: Any = dist.ReduceOp.SUM) -> None:
    """Sums over all ranks, or what another operation makes of their values, in place."""
    if world_size() > 1:
        barrier(where)
        dist.all_reduce(torch.from_numpy(array), operation, group=cpu_group())


@contextlib.contextmanager
def local_rank_zero_first(where: str) -> Iterator[None]:
    """One process of each host goes first; the others then find what it downloaded or cached."""
    if not is_local_rank_zero():
        barrier(where)
    yield
    if is_local_rank_zero():
        barrier(where)


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """A process group of the processes that torchrun started, if it did.

    Of several that fail, the first alone says why.
    """
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1 or "RANK" not in os.environ
    if alone or dist.is_initialized():
        yield
        return
    store, own, ranks = next(rendezvous("env://", timeout=timeout()))
    dist.init_process_group("gloo", store=store, rank=own, world_size=ranks, timeout=timeout())
    if torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK", 0))
        torch.cuda.set_device(local % torch.cuda.device_count())  # more ranks than GPUs share them
    try:
        yield
    except Exception:
        if _failed_before(store):
            raise SystemExit(2) from None
        raise
    dist.destroy_process_group()


def _failed_before(store: Store) -> bool:
    with contextlib.suppress(dist.DistError):
        return store.add("novum/failed", 1) > 1
    return True  # the store went with a rank
