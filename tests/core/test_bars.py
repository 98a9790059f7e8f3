"""Progress where there is no terminal: a line each ten per cent, and none for what is quick."""

import pytest

from novum.core import bars
from novum.core.bars import Tenths, progress, silence


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
    return now


def test_a_line_each_ten_per_cent(clock, capsys):
    for i in progress(range(200), "sampling", delay=2):
        clock[0] = 1.0 if i < 50 else 5.0  # a quarter is done before anything is shown
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == [f"sampling: {i}%" for i in range(20, 101, 10)]


def test_steps_that_are_counted(clock, capsys):
    with progress(doing="metrics", total=4, delay=0) as bar:
        for _ in range(4):
            bar.update()
    assert isinstance(bar, Tenths)
    assert capsys.readouterr().err.splitlines() == [f"metrics: {i}%" for i in (20, 50, 70, 100)]


def test_what_is_quick_shows_nothing(capsys):
    assert list(progress(range(50), "sampling")) == list(range(50))
    assert capsys.readouterr().err == ""


def test_silence_and_other_ranks_show_nothing(clock, capsys, monkeypatch):
    with silence():
        assert len(list(progress(range(10), "x", delay=0))) == 10
    monkeypatch.setenv("RANK", "1")
    assert len(list(progress(range(10), "x", delay=0))) == 10
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(bars, "shows_bars", lambda: True)
    assert len(list(progress(range(10), "sampling", delay=0, mininterval=0))) == 10
    assert "sampling: 100%" in capsys.readouterr().err.replace("\r", "\n")
