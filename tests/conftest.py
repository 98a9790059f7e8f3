import os
import random

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests import programs

os.environ["JSONARGPARSE_DEPRECATION_WARNINGS"] = "off"  # of what Lightning calls in jsonargparse
if "PYTEST_XDIST_WORKER" in os.environ:  # one core each, and for the programs that a test starts
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    torch.set_num_threads(1)  # imported before the variables were set


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="null runs in full, as documented")


# the same examples in every run: what one machine passes, the next one does too
settings.register_profile("novum", derandomize=True, deadline=None, database=None)
settings.load_profile("novum")


@pytest.fixture(autouse=True)
def _seeded():
    """What a test draws depends on no other test, nor on their order."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _private_cache(tmp_path, monkeypatch):
    """No test reads what another, or a user, has cached, or signs with a user's key."""
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def free_memory(monkeypatch):
    """A function that says how many bytes are free, as a control group would."""

    def say(free: float) -> None:
        monkeypatch.setattr("novum.core.memory._groups", lambda: [(int(free), 0)])

    return say


@pytest.fixture
def run_python():
    """`programs.run`, for tests whose file runs as a program too: those do not find `tests`."""
    return programs.run
