import pytest


@pytest.fixture(autouse=True)
def _private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "cache"))
