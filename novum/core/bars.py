"""Progress of long work: a bar on a terminal or in a notebook, else a line each ten per cent."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, Protocol, Self

from novum.core.distributed import is_rank_zero

_silenced = False


class Progress(Protocol):
    """Counts steps of a work; of one that was given items, these too."""

    def update(self, n: int = 1) -> object: ...

    def __enter__(self) -> Any: ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class Tenths:
    """A line to stderr for each tenth of a work that takes longer than `delay` seconds."""

    def __init__(self, items: Iterable[Any] | None, doing: str, total: int, delay: float) -> None:
        self.items, self.doing, self.total, self.delay = items, doing, total, delay
        self.done = self.shown = 0
        self.start = time.monotonic()

    def update(self, n: int = 1) -> None:
        self.done += n
        tenth = 10 * self.done // max(self.total, 1)
        if tenth > self.shown and time.monotonic() - self.start >= self.delay:
            self.shown = tenth
            print(f"{self.doing}: {10 * tenth}%", file=sys.stderr, flush=True)

    def __iter__(self) -> Iterator[Any]:
        for item in self.items or ():
            yield item
            self.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object, /) -> None:
        return None


def progress(
    items: Iterable[Any] | None = None,
    doing: str = "",
    *,
    total: int | None = None,
    delay: float = 2,
    disable: bool = False,
    **of_bar: Any,
) -> Progress:
    """Progress of rank zero through items, or of `total` steps that `update` counts.

    Args:
        items: To go through.
        doing: The work, in a word or two.
        total: Number of steps; None: that of the items.
        delay: Seconds that nothing is shown for.
        disable: Show nothing.
        of_bar: What tqdm takes.
    """
    from tqdm.auto import tqdm

    if total is None and isinstance(items, Sized):
        total = len(items)
    disable = disable or _silenced or not is_rank_zero()
    if disable or total is None or shows_bars():
        return tqdm(items, doing, total, delay=delay, disable=disable, **of_bar)
    return Tenths(items, doing, total, delay)


def shows_bars() -> bool:
    """True of a terminal, and of a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Show no progress while this lasts; process-wide, as work is also done in threads."""
    global _silenced
    before, _silenced = _silenced, True
    try:
        yield
    finally:
        _silenced = before
