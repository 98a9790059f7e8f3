"""Held-out split of shards, decided by the bytes of each image."""

import hashlib
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import NDArray

from novum.datamodules.sources.decode import as_bytes
from novum.datamodules.sources.threads import in_threads
from novum.datamodules.streaming.shard_index import cached
from novum.datamodules.streaming.shard_sets import BadShard, blocks, placed_errors
from novum.datamodules.streaming.shards import Shard


def heldout_rows(shards: list[Shard], seed: int, fraction: float, skip_bad: bool) -> list[NDArray]:
    """Mask of held-out rows of each shard: a hash of an image's bytes decides, so that copies
    of it are on one side wherever they are, and all stay there when a set grows.

    All shards are read for that, once: the hashes stay in the cache.
    """
    find, doing = partial(_keys, skip_bad=skip_bad), "dealing out what is held out"
    return [
        _is_below(fraction, keys, seed)
        for keys in in_threads(find, shards, doing, unit_scale=False)
    ]


def _keys(shard: Shard, skip_bad: bool) -> NDArray:
    try:
        build = partial(_hash_blocks, shard, skip_bad=False)
        return cached(shard.stamp, f"contents {_what(shard)}", build, np.uint64)
    except BadShard:
        if not skip_bad:
            raise
        return _hash_blocks(shard, skip_bad=True)  # not cached: it may be whole another time


def _what(shard: Shard) -> str:
    """Rows of its file that a shard has."""
    return hashlib.sha256(shard.units.tobytes()).hexdigest()


def _hash_blocks(shard: Shard, skip_bad: bool) -> NDArray:
    """0 for the rows of a block that cannot be read."""
    keys = np.zeros(int(shard.units[:, 0].sum()), np.uint64)
    for _, start, stop in blocks(0, shard).tolist():
        try:
            with placed_errors(shard, start, stop):
                keys[start:stop] = _content_keys(shard, start, stop)
        except BadShard:
            if not skip_bad:
                raise
    return keys


def _content_keys(shard: Shard, start: int, stop: int) -> NDArray:
    """A hash of each row's bytes as uint64; 0 where one image cannot be read."""
    keys = []
    for cell in shard.read(start, stop):
        data = b""
        with suppress(OSError, ValueError):  # decoding it will tell
            data = as_bytes(cell.data)
        keys.append(int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little"))
    return np.array(keys, np.uint64)


def _is_below(fraction: float, keys: NDArray, seed: int) -> NDArray:
    salt = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    x = keys ^ np.frombuffer(salt, np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)  # splitmix64's mixing
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) < np.uint64(int(fraction * (2**64 - 1)))
