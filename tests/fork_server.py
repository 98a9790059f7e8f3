"""Forks the programs that tests start from one process, which has imported the large libraries.

Novum's own modules are not among them: each program imports those itself. tests/programs.py sends
the requests, over the socket whose number is the argument.
"""

import atexit
import gc
import importlib
import json
import os
import resource
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import NoReturn

LIBRARIES = (
    "jsonargparse", "matplotlib", "PIL.Image", "pytorch_lightning.cli", "scipy.linalg",
    "scipy.stats", "sklearn.datasets", "tensorboard.summary", "timm",
    "torch.distributed.launcher.api", "torch.utils.tensorboard", "torchvision",
)  # fmt: skip


def serve(control: socket.socket) -> dict:
    """Fork a child for each request; the request is returned in the child alone."""
    watched = selectors.DefaultSelector()
    watched.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in watched.select():
            if key.fileobj is control:
                message, files, *_ = socket.recv_fds(control, 1 << 20, 4)
                if not message:
                    os._exit(0)  # the tests have ended
                if (child := os.fork()) == 0:
                    watched.close()
                    control.close()
                    return as_child(json.loads(message), files)
                client = socket.socket(fileno=files.pop())
                for file in files:
                    os.close(file)
                watched.register(os.pidfd_open(child), selectors.EVENT_READ, (child, client))
            else:  # it has ended
                child, client = key.data
                _, status = os.waitpid(child, 0)
                with client:
                    client.send(str(os.waitstatus_to_exitcode(status)).encode())
                watched.unregister(key.fd)
                os.close(key.fd)


def as_child(request: dict, files: list[int]) -> dict:
    with socket.socket(fileno=files.pop()) as client:
        if request["new_session"]:
            os.setsid()
        client.send(str(os.getpid()).encode())
    if request["file_size"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, 2 * (request["file_size"],))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return request


class Rank:
    """What Lightning and torchrun use of a `subprocess.Popen`; forked beforehand by its parent."""

    spares: list[tuple[int, socket.socket]] = []

    def __init__(self, args, env, cwd=None, start_new_session=False, **_) -> None:
        self.args, self.returncode = args, None
        self.pid, link = self.spares.pop()
        request = {"arguments": args[1:], "env": dict(env), "cwd": cwd or os.getcwd(),
                   "new_session": start_new_session}  # fmt: skip
        with link:
            link.sendall(json.dumps(request).encode())

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # another thread was faster
                return self.returncode
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (timeout or 1e9)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.01)
        return self.poll() or 0

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)


def with_spares(request: dict) -> dict:
    """Fork a child for each further rank, which waits to be started: returned in each of them."""
    for _ in range(request.get("starts", 0)):
        ours, theirs = socket.socketpair()
        if (child := os.fork()) == 0:
            ours.close()
            for _, link in Rank.spares:
                link.close()
            Rank.spares.clear()
            with theirs, theirs.makefile("rb") as file:
                message = file.read()
            if not message:
                os._exit(0)  # its parent ended without it
            request = json.loads(message)
            if request["new_session"]:
                os.setsid()
            return request
        theirs.close()
        Rank.spares.append((child, ours))
    if Rank.spares:
        replace_popen()
    return request


def replace_popen() -> None:
    """Python programs become ranks; other commands stay processes."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    real = subprocess.Popen

    class Popen(real):
        def __new__(cls, args, *rest, **options):
            if Rank.spares and args[0] == sys.executable:
                return Rank(args, *rest, **options)
            return real(args, *rest, **options)

    subprocess.Popen = subprocess_handler.Popen = Popen


def run(request: dict, path: list[str]) -> None:
    """As `python ARGUMENTS` in that folder and environment."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    arguments = [a for i, a in enumerate(request["arguments"]) if i or a != "-u"]  # of torchrun
    kind, *rest = arguments
    first = {"-m": request["cwd"], "-c": ""}.get(kind, os.path.dirname(os.path.abspath(kind)))
    sys.path[:] = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *path]
    if kind == "-m":
        sys.argv[:] = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv[:] = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv[:] = arguments
        runpy.run_path(kind, run_name="__main__")


def end(error: BaseException | None) -> NoReturn:
    """As Python ends, but modules are not torn down, which takes a second with those above."""
    code = getattr(error, "code", 1) if error else 0
    if error and not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
    elif isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # waits for other threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit((code or 0) & 0xFF)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end it
    for library in LIBRARIES:
        importlib.import_module(library)
    path = sys.path[1:]  # without this script's folder
    gc.freeze()  # a child's collections leave the pages shared
    request = with_spares(serve(socket.socket(fileno=int(sys.argv[1]))))
    try:
        run(request, path)
    except BaseException as error:
        end(error)
    end(None)


if __name__ == "__main__":
    main()
