"""What a command may end in: success, or one line and exit code 2 (3: copying was found)."""

import contextlib
import io
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from hypothesis import settings

LONG = int(os.environ.get("NOVUM_FUZZ", 0))  # examples of each, at random; 0: a few, the same ones
CODES = (0, 2, 3)
LONGEST = 20 if LONG else 60  # seconds; another machine may be slow


def examples(count: int) -> settings:
    """How many examples a test tries: `count` of them, or what a long campaign asks for."""
    return settings(max_examples=LONG, derandomize=False) if LONG else settings(max_examples=count)


@contextlib.contextmanager
def empty_folder() -> Iterator[Path]:
    """The current folder for a while, with a cache of its own: examples share no fixture."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        caches = {"NOVUM_CACHE": f"{folder}/cache", "HF_HUB_OFFLINE": "1"}
        try:
            with mock.patch.dict(os.environ, caches), _datasets_cache(f"{folder}/hf"):
                yield Path(folder)
        finally:
            os.chdir(before)


@contextlib.contextmanager
def _datasets_cache(folder: str) -> Iterator[None]:
    import datasets

    with mock.patch.object(datasets.config, "HF_DATASETS_CACHE", folder):
        yield


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """AssertionError if the work takes longer."""

    def too_long(*_: object) -> None:
        raise AssertionError(f"hangs: more than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ends_well(program: str, work: Callable[[], object]) -> int:
    """Runs it and returns its exit code; AssertionError or a traceback of its own otherwise."""
    err = io.StringIO()
    argv = mock.patch.object(sys, "argv", [program])
    out = contextlib.redirect_stdout(io.StringIO())
    with _limited(LONGEST), argv, contextlib.redirect_stderr(err), out:
        try:
            work()
            return 0
        except SystemExit as exit_:
            code = exit_.code or 0
    assert code in CODES, code
    if code == 2:
        lines = [line for line in err.getvalue().splitlines() if line.startswith("python ")]
        assert len(lines) == 1, err.getvalue()
        assert "Traceback" not in err.getvalue()
        assert all(c.isprintable() for c in lines[0])
    return code
