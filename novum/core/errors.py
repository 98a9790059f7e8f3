"""Errors that are raised on purpose, and what messages about errors are made of.

A `NovumError` is written for the user: the programs print it as one line. Anything else is a bug,
and keeps its traceback.
"""

import errno
import re
from typing import ClassVar

EXIT_BUG = 1
EXIT_BAD_INPUT = 2


class NovumError(Exception):
    """An error whose message is one line for the user: what is wrong, where, and the mend."""

    exit_code: ClassVar[int] = EXIT_BAD_INPUT


class InputError(NovumError, ValueError):
    """A value, a file or a combination of them that cannot be used."""


class BadText(InputError):
    """A text that cannot be read.

    Args:
        reason: Goes on from a number of such texts: "not utf-8 text".
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotFoundError(NovumError, FileNotFoundError):
    """A file or folder that does not exist."""


class NotComputable(InputError):
    """A figure that is not defined for these sets, such as a covariance of one sample.

    The evaluation engine reports the reason in place of the figure.
    """


class TrainingError(NovumError, FloatingPointError):
    """Training that cannot go on, because a loss or a weight is not finite."""


class RankError(NovumError, TimeoutError):
    """A process of a distributed job that died or did not answer in time."""


def check_at_least(limit: float, **values: float) -> None:
    """InputError in one line that names the first value below the limit."""
    for name, value in values.items():
        if value < limit:
            raise InputError(f"{name} is {value}: it must be at least {limit}")


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def full_disk(error: BaseException) -> str:
    """Name what cannot be written because a disk, quota or file size limit is full; else ''."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        return ""
    return f"cannot write {error.filename or 'to the disk'} ({error.strerror})"


def out_of_memory(error: BaseException) -> bool:
    """Return True if Python, NumPy or torch could not allocate memory."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "out of memory")
    )


def not_enough_memory(error: BaseException) -> str:
    """One line about such an error; torch's begins with a place in its own source."""
    asked = re.search(r"tried to allocate (\d+) bytes", str(error))
    what = f"{int(asked[1]) / 1e9:,.1f} GB at once" if asked else first_line(error)
    return f"not enough memory ({what}): lower a size or a number"


def first_line(error: BaseException) -> str:
    """First line of an error's message, or its class if there is no message."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def printable(text: str) -> str:
    """Escape control characters and undecodable bytes, which a terminal would obey."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )
