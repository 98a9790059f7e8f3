import os

import pytest

os.environ["JSONARGPARSE_DEPRECATION_WARNINGS"] = "off"  # of what Lightning calls in jsonargparse


@pytest.fixture(autouse=True)
def _private_cache(tmp_path, monkeypatch):
    """No test reads what another, or a user, has cached."""
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "cache"))
