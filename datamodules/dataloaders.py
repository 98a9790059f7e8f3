"""Index batches to image batches, in this process or in worker processes."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from novum.core.devices import to_device
from novum.datamodules.sources.image_sources import ImageArray, ImageSource

Batch = dict[str, Any]  # tensors, and of text a flag and the passes over it


def transferred(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device, which nothing waits for."""
    return {
        key: to_device(value, device) if isinstance(value, Tensor) and value.is_cpu else value
        for key, value in batch.items()
    }


T = TypeVar("T")

TO_A_JOB = {getattr(signal, name) for name in ("SIGINT", "SIGUSR1") if hasattr(signal, name)}
if hasattr(signal, "sigwaitinfo"):  # Python ends workers left over at exit by SIGTERM too
    TO_A_JOB.add(signal.SIGTERM)


class Cut(Dataset):
    """A whole batch for a tensor of indices."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __getitem__(self, indices: Tensor) -> Batch:
        if isinstance(self.source, ImageArray):  # maybe in a device's memory
            indices = to_device(indices, self.source.images.device)
        batch = {"image": self.source[indices]}
        if self.source.labels is not None:
            batch["label"] = self.source.labels[indices]
        return batch


class Forwarded(Dataset):
    """Worker variant that returns errors, which are raised without the worker's traceback."""

    def __init__(self, source: ImageSource) -> None:
        self.cut = Cut(source)

    def __getitem__(self, indices: Tensor) -> Batch | ValueError:
        try:
            return self.cut[indices]
        except ValueError as error:
            return error


def cut(source: ImageSource, index_batches: Iterable[Tensor], num_workers: int) -> Iterator[Batch]:
    """A batch for each of `index_batches`, in their order; workers only for data on disk."""
    if isinstance(source, ImageArray) or num_workers == 0:
        yield from map(Cut(source).__getitem__, index_batches)
        return
    for batch in by_workers(Forwarded(source), num_workers, sampler=index_batches):
        if isinstance(batch, ValueError):
            raise batch
        yield batch


def by_workers(
    dataset: Dataset, num_workers: int, sampler: Iterable[Tensor] | None = None
) -> DataLoader:
    """Batches that worker processes read."""
    return _Workers(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        worker_init_fn=_heed_parent,
        generator=torch.Generator(),  # else it draws from the global one, which training uses
    )


class _Workers(DataLoader):
    """Workers block job signals; the process that trains handles them and ends its workers."""

    def __iter__(self) -> Any:
        if not hasattr(signal, "pthread_sigmask"):
            return super().__iter__()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, TO_A_JOB)  # from a worker's first moment
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _heed_parent(worker: int) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, TO_A_JOB)  # not inherited by all ways to start
    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when the process that trains says so, and nobody else."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


class Batches(Generic[T]):
    """An iterable without length that asks for a new iterator each time it is entered."""

    def __init__(self, start: Callable[[], Iterator[T]]) -> None:
        self.start = start

    def __iter__(self) -> Iterator[T]:
        return self.start()

    def state_dict(self) -> dict:
        """Empty: `start` itself knows how far training is. Lightning warns of loaders without."""
        return {}

    def load_state_dict(self, state: dict) -> None: ...


class CountedBatches(Batches[T]):
    """The same, with a length."""

    def __init__(self, start: Callable[[], Iterator[T]], length: int) -> None:
        super().__init__(start)
        self.length = length

    def __len__(self) -> int:
        return self.length
