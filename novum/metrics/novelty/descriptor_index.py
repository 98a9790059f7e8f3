"""Approximate nearest neighbours among descriptors that lie on several ranks, in several pieces.

One quantiser is trained for all (Jégou, Douze and Schmid, 2011): a descriptor's list and its 32
bytes of code do not depend on where it is kept. So what the pieces find of a query, put together,
is what one index would have found.
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novum.metrics.novelty.local_features import SCALE, WIDTH

NEAREST = 8  # features of the pool that a feature of a sample is compared with
AMONG = 2 * NEAREST  # asked for: codes are coarse, and many are equally far
PROBES = 6  # of the index's lists
CODE = 64  # pieces of 4 bits that the index keeps of a descriptor
PER_LIST = 40  # descriptors that the quantiser is trained on
MOST_LISTS = 4096
NOWHERE = 2**62  # the key of no descriptor; comes after all
ABSENT = 4.0  # squared distance of unit vectors, beyond all that count
AT_ONCE = 2**14  # queries
AT_HAND = 2**10  # descriptors whose products stay in the CPU's cache


class Quantiser(NamedTuple):
    centroids: NDArray  # float32 (lists, WIDTH)
    codebook: NDArray  # float32 (CODE * 16 * WIDTH / CODE,)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.centroids.tobytes() + self.codebook.tobytes()).hexdigest()

    def assign(self, descriptors: Tensor) -> tuple[NDArray, NDArray]:
        """Squared distances and numbers (n, PROBES) of the lists to look in."""
        with callers(1, torch.get_num_threads()) as pool:
            lists = self._lists()
            probes = min(PROBES, len(self.centroids))
            return pool.submit(lists.search, unit(descriptors), probes).result()

    def _lists(self) -> Any:
        import faiss

        lists = faiss.IndexFlatL2(WIDTH)
        lists.add(self.centroids)
        return lists


class Near(NamedTuple):
    """The pool's descriptors nearest to each query, by their codes, nearest first."""

    coded: Tensor  # (q, k) float32: squared distance of the code
    key: Tensor  # (q, k) int64 of the descriptor; NOWHERE for none
    distance: Tensor  # (q, k) float32: squared distance of the descriptor itself

    @classmethod
    def none(cls, queries: int) -> "Near":
        far = torch.full((queries, AMONG), torch.inf)
        return cls(far, torch.full((queries, AMONG), NOWHERE), torch.full_like(far, ABSENT))

    def rows(self, part: slice) -> "Near":
        return Near(*(x[part] for x in self))


def lists_for(count: int) -> int:
    """Lists of an index of so many descriptors."""
    return max(1, min(round(count**0.5), count // PER_LIST + 1, MOST_LISTS))


def training_rows(count: int) -> Tensor:
    """Numbers, ascending, of the descriptors that a quantiser for so many is trained on."""
    size = min(count, PER_LIST * lists_for(count) + 1000)
    chosen = np.random.default_rng(0).choice(count, size, replace=False, shuffle=False)
    return torch.from_numpy(np.sort(chosen))


def train_quantiser(descriptors: Tensor, count: int) -> Quantiser:
    """The quantiser for `count` descriptors, of which these (k, WIDTH) are some."""
    import faiss

    index = _new_index(faiss.IndexFlatL2(WIDTH), lists_for(count))
    index.cp.niter, index.cp.min_points_per_centroid = 8, 1
    with callers(1, torch.get_num_threads()) as pool:
        pool.submit(index.train, unit(descriptors)).result()
    centroids = index.quantizer.reconstruct_n(0, index.nlist)
    return Quantiser(centroids, faiss.vector_to_array(index.pq.centroids).copy())


class DescriptorIndex:
    """Some of the pool's descriptors, kept at 40 bytes each."""

    def __init__(self, quantiser: Quantiser) -> None:
        import faiss

        self._lists = quantiser._lists()  # outlives the index that refers to it
        self.index = _new_index(self._lists, len(quantiser.centroids))
        faiss.copy_array_to_vector(quantiser.codebook, self.index.pq.centroids)
        self.index.is_trained = True

    def add(self, descriptors: Tensor, keys: Tensor) -> None:
        """Take in descriptors (n, WIDTH) under the keys that searches name them by."""
        with callers(1, torch.get_num_threads()) as pool:
            for block, own in zip(descriptors.split(2**18), keys.split(2**18), strict=True):
                pool.submit(self.index.add_with_ids, unit(block), own.numpy()).result()

    def search(self, descriptors: Tensor, distances: NDArray, lists: NDArray) -> Near:
        """The AMONG nearest of some queries by their codes, in lists that the quantiser assigns."""
        count = min(torch.get_num_threads(), len(lists))
        parts = [np.array_split(x, count) for x in (unit(descriptors), distances, lists)]

        def one(x: NDArray, far: NDArray, number: NDArray) -> tuple[NDArray, NDArray]:
            return self.index.search_preassigned(x, AMONG, number, far)

        with callers(count) as pool:
            found = zip(*pool.map(one, *parts), strict=True)
            coded, key = (torch.from_numpy(np.concatenate(x)) for x in found)
        none = key < 0
        coded, key = coded.masked_fill(none, torch.inf), key.masked_fill(none, NOWHERE)
        return Near(coded, key, torch.full_like(coded, ABSENT))

    def saved(self) -> NDArray:
        import faiss

        return faiss.serialize_index(self.index)

    @classmethod
    def restored(cls, saved: NDArray) -> "DescriptorIndex":
        import faiss

        index = cls.__new__(cls)
        lists: Any = faiss.deserialize_index(saved)
        lists.nprobe = min(PROBES, lists.nlist)
        index.index = lists
        return index


def merge(parts: list[Near], queries: int) -> Near:
    """The AMONG nearest of what several indices found; equal distances in the order of keys."""
    coded, key, distance = (torch.cat(x, 1) for x in zip(Near.none(queries), *parts, strict=True))
    order = key.argsort(dim=1)
    order = order.gather(1, coded.gather(1, order).argsort(dim=1, stable=True))[:, :AMONG]
    return Near(*(x.gather(1, order) for x in (coded, key, distance)))


def nearest(near: Near) -> Near:
    """The NEAREST of each query.

    Of descriptors whose codes are as far as that of the last, the nearest themselves count; more
    than AMONG, which no piece lists completely, do not count at all.
    """
    limit, last = near.coded[:, NEAREST - 1 : NEAREST], near.coded[:, -1:]
    crowded = (last == limit) & limit.isfinite()
    left_out = crowded & (near.coded == limit)  # but they say how far the last of NEAREST is
    out = (near.coded > limit) | left_out | (near.key == NOWHERE)
    coded, key = near.coded.masked_fill(out, torch.inf), near.key.masked_fill(out, NOWHERE)
    distance = near.distance.masked_fill(out, ABSENT)
    distance = torch.where(left_out, limit.expand_as(distance), distance)
    order = key.argsort(dim=1)
    for x in (distance, coded):
        order = order.gather(1, x.gather(1, order).argsort(dim=1, stable=True))
    order = order[:, :NEAREST]
    return Near(*(x.gather(1, order) for x in (coded, key, distance)))


def exact_distances(
    near: Near, queries: Tensor, descriptors: Callable[[Tensor], Tensor]
) -> Iterator[Tensor]:
    """Squared distances of queries (q, WIDTH) to the descriptors found, some queries at a time.

    Of those that may be among the NEAREST: codes that are farther than that many do not matter.

    Args:
        descriptors: Takes keys (k,), and returns what they are of, (k, WIDTH).
    """
    step = 2**12
    within = near.coded <= near.coded[:, NEAREST - 1 : NEAREST]
    wanted = near.key.masked_fill(~within, NOWHERE)
    for key, own in zip(wanted.split(step), queries.split(step), strict=True):
        there = key < NOWHERE
        distance = torch.full(key.shape, ABSENT)
        query = there.nonzero()[:, 0].split(AT_HAND)
        known = descriptors(key[there]).split(AT_HAND)
        products = [  # whole numbers below 2^24
            (x.float() * own[q].float()).sum(1) for x, q in zip(known, query, strict=True)
        ]
        distance[there] = 2 - 2 * torch.cat(products) / SCALE**2
        yield distance


def callers(count: int, threads: int = 1) -> ThreadPoolExecutor:
    """Threads that call faiss, each on so many threads of OpenMP.

    OpenMP's threads in faiss and in torch wait for one another busily, and a limit that the main
    thread sets would hold for torch too.
    """
    import faiss

    return ThreadPoolExecutor(count, initializer=faiss.omp_set_num_threads, initargs=(threads,))


def unit(descriptors: Tensor) -> NDArray:
    return (descriptors.float() / SCALE).numpy()


def _new_index(lists: Any, count: int) -> Any:
    import faiss

    index = faiss.IndexIVFPQFastScan(lists, WIDTH, count, CODE, 4)
    index.by_residual = False  # one table of distances a query, not one a list
    index.nprobe = min(PROBES, count)
    return index
