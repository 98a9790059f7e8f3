import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from novum.core import cache as paths
from novum.core.cache import cache_folder
from novum.metrics.features import (
    FeatureExtractor,
    reference_features,
    reference_moments,
    reference_neighbour_distances,
)
from novum.metrics.features import feature_cache as cache_module
from novum.metrics.neighbours import neighbour_distances
from novum.metrics.subsets import choose_rows


class Counting(FeatureExtractor):
    """Counts the images it has seen."""

    def __init__(self, spec: str = "counting/v1") -> None:
        super().__init__("counting")
        self.spec, self.seen = spec, 0

    def features(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.flatten(1)


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (64, 3, 2, 2), generator=generator).to(torch.uint8)


def cached_file() -> Path:
    (path,) = (cache_folder() / "references").glob("*.features.npy")
    return path


def test_extracted_once(images):
    extractor = Counting()
    first = reference_features(images, extractor)
    second = reference_features(images.clone(), extractor)
    assert extractor.seen == 64
    assert torch.equal(first, second) and second.dtype == torch.float32


@pytest.mark.filterwarnings("error")
def test_the_mapped_features_may_be_written_to(images):
    """As any tensor; the file stays as it was."""
    reference_features(images, Counting())
    mapped = reference_features(images, Counting())
    mapped += 1
    assert torch.equal(reference_features(images, Counting()), images.flatten(1).float())


def test_one_changed_pixel_misses(images):
    extractor = Counting()
    reference_features(images, extractor)
    other = images.clone()
    other[5, 0, 1, 1] ^= 1
    assert torch.equal(reference_features(other, extractor), other.flatten(1).float())
    assert extractor.seen == 128


def test_another_spec_misses(images):
    reference_features(images, Counting("counting/v1"))
    extractor = Counting("counting/v2")
    reference_features(images, extractor)
    assert extractor.seen == 64


def test_same_bytes_in_another_shape_miss(images):
    extractor = Counting()
    reference_features(images, extractor)
    reference_features(images.reshape(64, 3, 1, 4), extractor)
    assert extractor.seen == 128


def test_a_fingerprint_spares_reading(images):
    class Fingerprinted:
        fingerprint = "abc"

        def __len__(self):
            return 64

        def __getitem__(self, rows):
            assert not self.locked
            return images[rows]

    source = Fingerprinted()
    source.locked = False
    reference_features(source, Counting())
    source.locked = True
    assert len(reference_features(source, Counting())) == 64


@pytest.mark.parametrize("damage", ["cut", "long", "empty", "garbage"])
def test_a_damaged_file_is_never_read(images, damage):
    expected = reference_features(images, Counting())
    path = cached_file()
    data = path.read_bytes()
    path.write_bytes(
        {"cut": data[:-8], "long": data + b"x" * 8, "empty": b"", "garbage": b"x" * 999}[damage]
    )
    extractor = Counting()
    assert torch.equal(reference_features(images, extractor), expected)
    assert extractor.seen == 64
    assert path.read_bytes() == data  # mended


def test_pickles_are_never_read(images):
    import numpy as np

    reference_features(images, Counting())
    np.save(cached_file(), np.array([{"code": 1}], dtype=object), allow_pickle=True)
    extractor = Counting()
    reference_features(images, extractor)
    assert extractor.seen == 64


def test_moments_are_stored_with_their_factor(images):
    extractor = Counting()
    first = reference_moments(images, extractor)
    second = reference_moments(images, extractor)
    assert extractor.seen == 64 and second.n == 64
    assert torch.equal(first.cov, second.cov) and torch.equal(first.factor, second.factor)
    assert torch.allclose(second.mean, images.flatten(1).double().mean(0))


def test_damaged_moments_are_computed_again(images):
    expected = reference_moments(images, Counting())
    (path,) = (cache_folder() / "references").glob("*.moments.npz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    assert torch.equal(reference_moments(images, Counting()).cov, expected.cov)


def test_a_folder_that_cannot_be_written_warns_once(images, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(paths, "_warned", set())
    with pytest.warns(UserWarning, match="not cached: cannot write to .*file/references"):
        features = reference_features(images, Counting())
    assert torch.equal(features, images.flatten(1).float())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reference_features(images, Counting())


def test_a_full_disk_leaves_nothing_behind(images, monkeypatch):
    def full(file, array):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paths, "_warned", set())
    monkeypatch.setattr("numpy.save", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        features = reference_features(images, Counting())
    assert len(features) == 64
    assert os.listdir(cache_folder() / "references") == []


def test_writers_at_once_leave_one_whole_file(images):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: reference_features(images, Counting()), range(16)))
    assert all(torch.equal(features, found[0]) for features in found)
    assert os.listdir(cache_folder() / "references") == [cached_file().name]


def test_neighbour_distances_are_found_once(images, monkeypatch):
    first = reference_neighbour_distances(images, Counting(), 40)
    rows = choose_rows(images.flatten(1).float(), 40)
    assert torch.equal(first, neighbour_distances(rows, 5))
    assert len(reference_neighbour_distances(images, Counting(), 999)) == 64
    monkeypatch.setattr(cache_module, "neighbour_distances", None)
    assert torch.equal(reference_neighbour_distances(images, Counting(), 40), first)
    assert reference_neighbour_distances(images, Counting(), 5) is None
