"""Shared parts of the programs: options, one-line errors, exit codes, Ctrl-C."""

import _thread
import argparse
import contextlib
import difflib
import importlib
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from novum.core.errors import (
    EXIT_BAD_INPUT,
    EXIT_BUG,
    NovumError,
    full_disk,
    not_enough_memory,
    out_of_memory,
    printable,
)
from novum.core.run_record import novum_version

EXIT_REQUIREMENT = 5
EXIT_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: run me again
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # as a shell has it of a program that SIGPIPE ended
STOPS = ("SIGINT", "SIGTERM", "SIGUSR1")
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHELLS = ("bash", "zsh", "tcsh")
COMPLETION = "print completion for that shell; needs the package shtab"
FOLLOW_LINKS = "follow links that lead out of a folder of images or texts"
TRUST = "the checkpoint and its config are yours: build whatever classes they name"


def program_name() -> str:
    """The program as the user typed it: `python train.py`, or `novum-train` where installed."""
    name = Path(sys.argv[0]).name
    return f"python {name}" if name.endswith(".py") else name


def version_line() -> str:
    """`novum 0.1.0`."""
    return f"novum {novum_version() or '(not installed)'}"


def stop(program: str, message: str, code: int = EXIT_BAD_INPUT) -> NoReturn:
    """Print one line to stderr and exit."""
    print(f"{program}: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(code)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """End in one line on SIGTERM, SIGUSR1 or Ctrl-C, also while libraries are imported.

    Exit code 75, "run me again", or 130 after Ctrl-C. At once: an exception raised in the middle of
    an import may be swallowed there. Training has handlers of its own, which write a checkpoint.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(signum: int, _: object) -> None:
        name = signal.Signals(signum).name
        text = "interrupted" if name == "SIGINT" else f"stopped by {name}"
        with contextlib.suppress(OSError):
            os.write(2, f"{program_name()}: {text}\n".encode())
        os._exit(EXIT_INTERRUPTED if name == "SIGINT" else EXIT_AGAIN)

    numbers = [getattr(signal, name) for name in STOPS if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            # a run that was stopped ignores further signals, until the process is gone
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)


def path(text: str) -> Path:
    """The path that an option names; an empty one would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: give a path")
    return Path(text)


class PrintCompletion(argparse.Action):
    """Prints completion for a shell; needs the package shtab."""

    def __call__(self, parser: argparse.ArgumentParser, *given: Any, **_: Any) -> None:
        try:
            shtab = importlib.import_module("shtab")
        except ImportError:
            stop(program_name(), "--print_shtab needs the package shtab: pip install shtab")
        print(shtab.complete(parser, shell=given[1]))
        parser.exit()


class Parser(argparse.ArgumentParser):
    """Command-line options; a wrong one is a one-line error.

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
        self.add_argument("--version", action="version", version=version_line())
        self.add_argument("--print_shtab", action=PrintCompletion, choices=SHELLS, help=COMPLETION)

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
        known = list(self._option_string_actions)
        near = difflib.get_close_matches(unknown[1], known, 1) if unknown else []
        mend = f"did you mean {near[0]}?" if near else "--help explains"
        stop(program_name(), f"{message} ({mend})")


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Print a NovumError as one line and exit with its code; exit with 130 on Ctrl-C.

    So do errors of the operating system that name a file, a full disk, memory that ran out and a
    process that died. Everything else is a bug and passes through.
    """
    before, threading.excepthook = threading.excepthook, _ignore_full_disk
    try:
        yield
    except KeyboardInterrupt:
        print(f"{program_name()}: interrupted", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        if not _unread():
            raise
        raise SystemExit(EXIT_UNREAD) from None
    except Exception as error:
        if full_disk(error):
            stop(program_name(), f"{full_disk(error)}: make room, then run it again")
        if isinstance(error, NovumError):
            stop(program_name(), str(error), error.exit_code)
        if isinstance(error, OSError) and error.filename and error.strerror:
            stop(program_name(), f"{error.filename}: {error.strerror}")
        if isinstance(error, RuntimeError) and "determine home directory" in str(error):
            stop(program_name(), "a path begins with ~ and a name that has no home folder here")
        if isinstance(error, RuntimeError) and (message := lost_process(error)):
            stop(program_name(), message, EXIT_BUG)
        if isinstance(error, MemoryError | RuntimeError) and out_of_memory(error):
            stop(program_name(), not_enough_memory(error))
        raise
    finally:
        threading.excepthook = before


def _unread() -> bool:
    """True if nobody reads stdout any more, as after `| head`; what is left of it is dropped."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # no file
        return False
    ends = select.poll()
    ends.register(number, select.POLLOUT)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in ends.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return True


def lost_process(error: BaseException) -> str:
    """Describe the process of the run that died, a data worker or a rank; '' if none did."""
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
    """Ranks that do not answer within that time when all look for each other."""
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


def _ignore_full_disk(error: threading.ExceptHookArgs) -> None:
    """The event writer's thread fails first on a full disk; the main thread then says so."""
    if not (error.exc_value and full_disk(error.exc_value)):
        threading.__excepthook__(error)


@contextlib.contextmanager
def repeat_sigint(seconds: float = 1.0) -> Iterator[None]:
    """Re-raise SIGINT until handled: one that arrives inside a library's callback is lost."""
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
