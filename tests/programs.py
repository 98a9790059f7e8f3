"""Programs as processes of their own, which start in milliseconds.

A process of Python needs seconds to import torch and Lightning. Here it is forked from one that has
imported them (tests/fork_server.py), a server for each process of pytest. Tests of what a start
itself does, as what is imported, use `subprocess`; so does everything here where NOVUM_TEST_STARTS
is set, and away from Linux.
"""

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

FORKED = sys.platform == "linux" and "NOVUM_TEST_STARTS" not in os.environ


@functools.cache
def server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, str(Path(__file__).with_name("fork_server.py"))]
    fixed = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # on import
    started = subprocess.Popen(
        [*command, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env=os.environ | fixed,
        stdin=subprocess.DEVNULL,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        started.wait()

    atexit.register(end)
    return ours


class Forked:
    """A forked program, with what tests use of a `subprocess.Popen`."""

    def __init__(self, request: dict, out: int, err: int) -> None:
        self.args, self.returncode = request["arguments"], None
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with open(os.devnull) as nothing, theirs:
            files = [nothing.fileno(), out, err, theirs.fileno()]
            socket.send_fds(server(), [json.dumps(request).encode()], files)
        self.pid = int(self._link.recv(100))  # it has a group of its own by now

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._link.settimeout(timeout)
            try:
                self.returncode = int(self._link.recv(100))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._link.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)


def start(
    *arguments: object,
    out: int,
    err: int,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    new_session: bool = False,
    starts: int = 0,
    file_size: int | None = None,
) -> Forked | subprocess.Popen:
    """`python ARGUMENTS`, which itself starts so many more, and writes no file above that size."""
    given = [str(argument) for argument in arguments]
    environment = {**os.environ, **(env or {})}
    if FORKED:
        folder = os.path.abspath(cwd or ".")
        request = {"arguments": given, "cwd": folder, "env": environment, "starts": starts,
                   "new_session": new_session, "file_size": file_size}  # fmt: skip
        return Forked(request, out, err)
    limit = "unlimited" if file_size is None else file_size // 1024
    return subprocess.Popen(
        ["bash", "-c", f'ulimit -f {limit}; exec "$@"', "bash", sys.executable, *given],
        stdout=out,
        stderr=err,
        cwd=cwd,
        env=environment,
        start_new_session=new_session,
    )


def run(*arguments: object, timeout: float = 300, **options) -> subprocess.CompletedProcess:
    """What `python ARGUMENTS` printed, and its exit code."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = start(*arguments, out=out.fileno(), err=err.fileno(), **options)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise
        texts = [file.seek(0) or file.read() for file in (out, err)]
    return subprocess.CompletedProcess(arguments, code, *texts)
