"""Runs many command lines of train.py, each in a process forked from one that has imported novum.

Reads a list of [folder, arguments] as JSON, prints [exit code, stdout, stderr, seconds] for each.
"""

import json
import os
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from novum.callbacks import __all__ as callbacks
from novum.cli import lightning_cli  # noqa: F401  what every one of them imports
from novum.cli.train import main

LIMIT = 120  # seconds
TRAIN = str(Path(__file__).parents[2] / "train.py")  # started again for further ranks


def child(folder: str, line: str, files: list[int]) -> NoReturn:
    signal.alarm(LIMIT)
    os.chdir(folder)
    sys.path.append(folder)
    for number, file in enumerate(files, 1):
        os.dup2(file, number)
    sys.argv[:] = [TRAIN, *shlex.split(line)]
    code = 0
    try:
        main(sys.argv[1:])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(folder: str, line: str) -> list:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begin = time.monotonic()
        if (pid := os.fork()) == 0:
            child(folder, line, [out.fileno(), err.fileno()])
        _, status = os.waitpid(pid, 0)
        texts = [file.seek(0) or file.read() for file in (out, err)]
    return [os.waitstatus_to_exitcode(status), *texts, round(time.monotonic() - begin, 2)]


if __name__ == "__main__":
    assert callbacks
    json.dump([run(*each) for each in json.load(open(sys.argv[1]))], sys.stdout)
