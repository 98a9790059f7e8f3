import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from novum.cli.program import one_line_errors, repeat_sigint
from tests.project import ROOT


@pytest.mark.slow
def test_an_interrupt_that_is_swallowed_comes_again(capsys):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as exit_, one_line_errors(), repeat_sigint(0.05):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            pass  # as in a library's callback
        for _ in range(1000):  # which a signal of Python's own does not cut short
            time.sleep(0.01)
    assert exit_.value.code == 130
    assert capsys.readouterr().err.endswith(": interrupted\n")
    assert signal.getsignal(signal.SIGINT) is before
    time.sleep(0.1)  # and no more of them come


@pytest.mark.parametrize("wide", [False, True])
def test_a_reader_that_leaves_is_no_error(wide):
    """As `| head` does; also if more is written than a pipe holds."""
    code = (
        "from novum.cli.program import one_line_errors\n"
        "import sys; sys.stdin.read()\n"
        f"with one_line_errors(): print('x' * {1_000_000 if wide else 3}, flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    process.stdout.close()
    process.stdin.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(60) == 141


def test_a_broken_pipe_of_another_kind_keeps_its_traceback():
    with pytest.raises(BrokenPipeError), one_line_errors():
        raise BrokenPipeError(32, "Broken pipe")


def test_a_home_of_nobody_is_one_line(capsys):
    with pytest.raises(SystemExit) as exit_, one_line_errors():
        Path("~no-user/runs").expanduser()
    assert exit_.value.code == 2
    assert "has no home folder here" in capsys.readouterr().err


def test_other_threads_are_left_alone():
    def work() -> None:
        with repeat_sigint():
            done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="sees an import in /proc")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_before_training_ends_in_one_line(tmp_path, signum, code):
    """While torch and Lightning are imported, which takes seconds."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", "fit", "--config", "dcgan_digits"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    mapped = Path(f"/proc/{process.pid}/maps")
    end = time.monotonic() + 60
    while "libtorch" not in mapped.read_text():  # in the middle of importing it
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signum)
    assert process.wait(10) == code
    assert process.stderr is not None
    with process.stderr:
        (line,) = process.stderr.read().splitlines()
    assert line.endswith("stopped by SIGTERM" if code == 75 else "interrupted")
