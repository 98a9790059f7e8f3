import pytest


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """A cache of references for all processes of pytest: many tests judge the same digits."""
    base = tmp_path_factory.getbasetemp()
    if base.name.startswith("popen-"):  # of a process of xdist
        base = base.parent
    return base / "cache"


@pytest.fixture
def use_shared_cache(_private_cache, shared_cache, monkeypatch):
    monkeypatch.setenv("NOVUM_CACHE", str(shared_cache))
