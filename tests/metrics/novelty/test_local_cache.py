"""What is read from the cache is what was computed, or nothing."""

import pytest
import torch

from novum.core.cache import cache_folder
from novum.metrics.novelty import descriptor_index, local_copies, overlap
from novum.metrics.novelty.local_cache import as_arrays, stored_features
from novum.metrics.novelty.local_features import extract_local_features
from novum.metrics.novelty.pool import pool_of_items
from novum.metrics.novelty.reference_blocks import ReferenceBlocks, StoredArrays
from tests.metrics.novelty.scenes import scenes


@pytest.fixture(scope="module")
def images():
    return scenes(24, 64)


def detect(images):
    pool = pool_of_items(torch.arange(24), 16, 0)
    return local_copies.LocalCopyDetector(images[:16], images[16:], pool=pool, progress=False)


def files():
    return sorted((cache_folder() / "references").glob("*.npy"))


def stored(images) -> StoredArrays:
    blocks = ReferenceBlocks(images, None, False)
    return stored_features(blocks, blocks.every[0], overlap.sides_of(*images.shape[-2:]))


def test_a_second_detector_extracts_nothing_and_finds_the_same(images, monkeypatch):
    first = detect(images).search(images[:4].flip(-1))
    # points, descriptors, counts and two sizes of thumbnails; quantiser and index of all
    assert len(files()) == 2 * 5 + 2 + 1

    def extract(source, *args, **options):
        assert len(source) == 4  # the samples
        return extract_local_features(source, *args, **options)

    monkeypatch.setattr(local_copies, "extract_local_features", extract)
    second = detect(images).search(images[:4].flip(-1))
    for a, b in zip(first, second, strict=True):
        assert not isinstance(a, torch.Tensor) or torch.equal(a, b)


def test_a_kept_index_is_searched_in_as_many_lists_as_now(images, monkeypatch):
    monkeypatch.setattr(descriptor_index, "PER_LIST", 10)  # images this few have several lists
    detect(images)
    for probes in (1, 3):
        monkeypatch.setattr(descriptor_index, "PROBES", probes)
        detector = detect(images)
        assert detector.index._resident.index.nprobe == probes
        assert detector.search(images[:4]).items[:, 0].tolist() == [0, 1, 2, 3]


def test_other_pixels_have_another_entry(images):
    detect(images)
    changed = images.clone()
    changed[0, 0, 0, 0] ^= 1
    assert stored(changed[:16]).load() is None
    assert stored(images[:16]).load() is not None


@pytest.mark.parametrize("kind", ["points", "descriptors", "counts", "gray0", "gray1"])
@pytest.mark.parametrize("fault", ["cut short", "missing"])
def test_what_is_not_whole_is_not_read(kind, fault, images):
    pictures = overlap.thumbnails(images[:3])
    features = extract_local_features(images[:3], progress=False)
    stored(images[:3]).keep(as_arrays(features, pictures))
    assert stored(images[:3]).load() is not None
    (path,) = (p for p in files() if f".{kind}." in p.name)
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    assert stored(images[:3]).load() is None


def test_a_folder_that_cannot_be_written_costs_a_warning(images, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("NOVUM_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="not cached: cannot write"):
        assert detect(images).search(images[:2]).items[:, 0].tolist() == [0, 1]
