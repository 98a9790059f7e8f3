"""Work on many images at once, with a bar when it takes long."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from novum.core.bars import Progress, progress

CHUNK = 64  # images a thread takes at a time


def in_threads(
    function: Callable,
    chunks: Sequence,
    doing: str,
    threads: int | None = None,
    unit_scale: int | bool = CHUNK,
) -> Iterator:
    """`function` of each chunk, in order; decoding, hashing and file reads release the GIL."""
    with ThreadPoolExecutor(threads or min(16, os.cpu_count() or 1)) as pool:
        results = pool.map(function, chunks)
        yield from bar(results, doing, total=len(chunks), unit_scale=unit_scale)


def bar(items, doing: str, **kwargs) -> Progress:
    """A progress bar on one rank, that shows only what takes more than 2 seconds."""
    return progress(items, doing, delay=2, leave=False, **kwargs)
