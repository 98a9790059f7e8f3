import os
from pathlib import Path

import pytest
import torch

from novum.metrics.features import load_extractor
from novum.paths import cache_folder
from novum.pretrained import find_weights, load_weights


@pytest.fixture
def offline(monkeypatch, tmp_path):
    def refuse(url, timeout):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))


def served(tmp_path: Path) -> str:
    (tmp_path / "published.pth").write_bytes(b"weights")
    return (tmp_path / "published.pth").as_uri()


def test_cache_folder_is_the_users_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "there"))
    assert cache_folder() == tmp_path / "there"
    monkeypatch.delenv("NOVUM_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "novum"


@pytest.mark.parametrize("name", ["inception", "dinov2", "clip"])
def test_without_network_the_error_says_where_to_put_the_file(offline, name):
    with pytest.raises(ValueError) as error:
        load_extractor(name)
    assert str(error.value).startswith(f"no weights for '{name}': put ")
    assert str(cache_folder() / "weights") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_path_wins(offline, tmp_path):
    path = Path(served(tmp_path).removeprefix("file://"))
    assert find_weights("x", "http://nowhere", "x.pth", path) == path
    with pytest.raises(ValueError, match="weights of 'x': there is no file"):
        find_weights("x", "http://nowhere", "x.pth", tmp_path / "missing.pth")


def test_the_cache_and_torch_hubs_folder_are_looked_at(offline, tmp_path):
    hub = tmp_path / "hub" / "checkpoints" / "x.pth"
    hub.parent.mkdir(parents=True)
    hub.write_bytes(b"hub")
    assert find_weights("x", "http://nowhere", "x.pth") == hub
    own = cache_folder() / "weights" / "x.pth"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"own")
    assert find_weights("x", "http://nowhere", "x.pth") == own


def test_downloads_once_into_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    url = served(tmp_path)
    path = find_weights("x", url, "x.pth")
    assert path == cache_folder() / "weights" / "x.pth" and path.read_bytes() == b"weights"
    os.unlink(tmp_path / "published.pth")
    assert find_weights("x", url, "x.pth") == path


def test_code_is_never_unpickled(tmp_path):
    class Code:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"weight": Code()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="is no file of weights, or a damaged one"):
        load_weights(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_truncated_files_are_named(tmp_path):
    torch.save({"weight": torch.zeros(100)}, tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    for suffix in (".pth", ".safetensors"):
        path = (tmp_path / "half").with_suffix(suffix)
        path.write_bytes(data[:300])
        with pytest.raises(ValueError, match=f"half{suffix} is no file of weights"):
            load_weights(path)
