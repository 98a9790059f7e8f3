import os

import pytest
from hypothesis import settings

os.environ["JSONARGPARSE_DEPRECATION_WARNINGS"] = "off"  # of what Lightning calls in jsonargparse


# the same examples in every run: what one machine passes, the next one does too
settings.register_profile("novum", derandomize=True, deadline=None, database=None)
settings.load_profile("novum")


@pytest.fixture(autouse=True)
def _private_cache(tmp_path, monkeypatch):
    """No test reads what another, or a user, has cached, or signs with a user's key."""
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
