"""A user's mistake ends in one line and exit code 2; a bug of ours keeps its traceback."""

import _thread
import argparse
import contextlib
import errno
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
EXIT_LOST_PROCESS = 1
EXIT_BAD_INPUT = 2
FOLLOW_LINKS = "follow links that lead out of a folder of images or texts"
TRUST = "the checkpoint and its config are yours: build whatever classes they name"


def raised_by_us(error: BaseException) -> bool:
    """Whether the `raise` stands in our own code: such messages are written for the user."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    path = Path(frames[-1].filename).resolve()
    return path.is_relative_to(ROOT) and "site-packages" not in path.relative_to(ROOT).parts


def full_disk(error: BaseException) -> str:
    """What cannot be written because a disk, a quota or a file size limit is full; else ''."""
    if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ""
    return f"cannot write {error.filename or 'to the disk'} ({error.strerror})"


def lost_process(error: BaseException) -> str:
    """What is said of a process of the run that died: a worker that reads data, or a rank."""
    text = str(error)
    if worker := re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) ([^.]*)", text):
        return (
            f"a process that reads data died (pid {worker[1]} {worker[2].strip()}): if memory was"
            " short lower num_workers or batch_size; --ckpt_path last goes on"
        )
    died = re.search("closed by peer|reset by peer|Broken pipe", text)
    if died or re.search(r"Timed out waiting \d+ms", text):
        missing = ", ".join(map(str, missing_ranks())) or "(unknown)"
        how = (
            "its process died" if died else "it did not answer in time (strategy.init_args.timeout)"
        )
        return f"lost rank {missing}: {how}; --ckpt_path last goes on"
    return ""


def missing_ranks(seconds: float = 1.0) -> list[int]:
    """The ranks that do not answer within that time when all look for each other."""
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import _get_default_store

    if not dist.is_initialized():
        return []
    try:
        store = _get_default_store()
        store.set(f"novum/alive/{dist.get_rank()}", "")
        time.sleep(seconds)
        return [r for r in range(dist.get_world_size()) if not store.check([f"novum/alive/{r}"])]
    except RuntimeError:  # rank 0 keeps the store
        return [0]


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or torch could not have what was asked for."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "out of memory")
    )


def first_line(error: BaseException) -> str:
    """What an error says, in short."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def program_name() -> str:
    """As the user typed it: `python train.py` in the repository, `novum-train` installed."""
    name = Path(sys.argv[0]).name
    return f"python {name}" if name.endswith(".py") else name


def stop(program: str, message: str, code: int = EXIT_BAD_INPUT) -> NoReturn:
    """Prints one line and exits."""
    print(f"{program}: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(code)


class Parser(argparse.ArgumentParser):
    """Options of a program; a mistake is told in one line.

    In the epilogue {program} stands for the program as the user typed it.
    """

    def __init__(self, description: str, epilog: str) -> None:
        super().__init__(
            program_name(),
            description=description,
            epilog=epilog.format(program=program_name()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        stop(program_name(), f"{message} (--help explains)")


def printable(text: str) -> str:
    """Control characters, and bytes that are no text, spelt out: a terminal would obey them."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns errors that we raise on purpose into one line; Ctrl-C into exit code 130."""
    of_threads, threading.excepthook = threading.excepthook, _told_by_the_main_thread
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        if full_disk(error):
            stop(program_name(), f"{full_disk(error)}: make room, then run it again")
        if raised_by_us(error):
            stop(program_name(), str(error))
        if isinstance(error, OSError) and error.filename and error.strerror:
            stop(program_name(), f"{error.filename}: {error.strerror}")
        raise
    except (MemoryError, RuntimeError) as error:
        if message := lost_process(error):
            stop(program_name(), message, EXIT_LOST_PROCESS)
        if not out_of_memory(error):
            raise
        stop(program_name(), f"not enough memory ({first_line(error)}): lower a size or a number")
    except KeyboardInterrupt:
        print(f"{program_name()}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        threading.excepthook = of_threads


def _told_by_the_main_thread(error: threading.ExceptHookArgs) -> None:
    """Of a full disk the writer of events dies first, and then whoever gives it one."""
    if not full_disk(error.exc_value):
        threading.__excepthook__(error)


@contextlib.contextmanager
def insistent_interrupts(seconds: float = 1.0) -> Iterator[None]:
    """Ctrl-C comes again until it is heeded: one that falls into a library's callback is lost."""
    if threading.current_thread() is not threading.main_thread():  # others are never interrupted
        yield
        return
    repeats: list[threading.Timer] = []

    def interrupt(*_: object) -> None:
        repeats.append(threading.Timer(seconds, _thread.interrupt_main))
        repeats[-1].daemon = True
        repeats[-1].start()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for repeat in repeats:
            repeat.cancel()
