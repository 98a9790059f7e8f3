import signal
import threading
import time

import pytest

from novum.cli.program import one_line_errors, repeat_sigint


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


def test_other_threads_are_left_alone():
    def work() -> None:
        with repeat_sigint():
            done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
