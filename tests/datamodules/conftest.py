import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _offline_datasets(tmp_path, monkeypatch):
    import datasets
    import huggingface_hub.constants

    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False
    )  # 5 s at each end
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def pictures():
    """n different RGB images (n, size, size, 3)."""

    def make(n: int = 10, size: int = 8) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)

    return make


@pytest.fixture
def tree(tmp_path, pictures):
    """A folder with two classes of five 8x8 PNGs each."""
    for i, image in enumerate(pictures()):
        folder = tmp_path / "tree" / ("cat" if i % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    return tmp_path / "tree"
