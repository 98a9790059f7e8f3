"""The user's word that files are theirs: `--trust`."""

from collections.abc import Iterator
from contextlib import contextmanager

_trusts_all = False


@contextmanager
def trusting(everything: bool) -> Iterator[None]:
    """Treat checkpoints and the configs beside them as code while this lasts, if `everything`."""
    global _trusts_all
    before, _trusts_all = _trusts_all, everything
    try:
        yield
    finally:
        _trusts_all = before


def trusts_all() -> bool:
    """Return True if the user gave --trust; process-wide, as networks are also built in threads."""
    return _trusts_all
