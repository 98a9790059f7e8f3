"""Runs many command lines of train.py, each in a process forked from one that has imported novum.

Reads a list of [folder, arguments] as JSON, prints [exit code, stdout, stderr, seconds] for each.
Run as a program by test_habits.py; it finds what stands beside tests/fork_server.py.
"""

import gc
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from fork_server import with_spares

from novum import callbacks, datamodules, lightning_modules
from novum.cli import lightning_cli  # noqa: F401  what every one of them imports
from novum.cli.train import main
from novum.lightning_modules import networks

LIMIT = 120  # seconds
TRAIN = str(Path(__file__).parents[2] / "train.py")  # started again for further ranks


def child(folder: str, line: str, files: list[int]) -> NoReturn:
    signal.alarm(LIMIT)
    os.chdir(folder)
    sys.path.append(folder)
    for number, file in enumerate(files, 1):
        os.dup2(file, number)
    rank = with_spares({"starts": line.count("--trainer.devices 2")})
    os.environ.update(rank.get("env", {}))
    sys.argv[:] = rank.get("arguments") or [TRAIN, *shlex.split(line)]
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
    for package in callbacks, datamodules, lightning_modules, networks:
        for name in package.__all__:
            getattr(package, name)  # imports it
    gc.freeze()  # a child's collections leave the pages shared
    json.dump([run(*each) for each in json.load(open(sys.argv[1]))], sys.stdout)
