import numpy as np
import pytest
import torch

from novum.datamodules import ImageDataModule
from novum.datamodules.sources.decode import ImageTransform
from novum.datamodules.sources.decode_all import decode_all, drop_bad
from novum.datamodules.sources.image_sources import ImageArray, LazyImages
from novum.datamodules.sources.raw_images import ArrayRows, FileRows
from tests import programs

RGB8 = ImageTransform(8, 3)


def lazy(array: np.ndarray, **kwargs) -> LazyImages:
    return LazyImages(ArrayRows(array, "test"), RGB8, **kwargs)


def lazy_files(root, transform=RGB8) -> LazyImages:
    return LazyImages(
        FileRows(root, sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))),
        transform,
    )


@pytest.fixture(params=["lazy", "array"])
def source(request, pictures):
    images = lazy(pictures(), labels=torch.arange(10), class_names=[*"abcdefghij"])
    return images if request.param == "lazy" else decode_all(images, skip_bad=False)


def test_every_kind_of_index(source, pictures):
    want = torch.from_numpy(pictures()).permute(0, 3, 1, 2)
    assert len(source) == 10 and source.shape == (3, 8, 8)
    assert torch.equal(source[3], want[3]) and torch.equal(source[-1], want[-1])
    assert torch.equal(source[2:8:3], want[2:8:3])
    assert torch.equal(source[[5, 1]], want[[5, 1]])
    assert torch.equal(source[torch.tensor([5, 1])], want[[5, 1]])
    assert source[torch.tensor([], dtype=torch.long)].shape == (0, 3, 8, 8)
    assert source[:].dtype == torch.uint8
    with pytest.raises(IndexError):
        source[10]


def test_select_keeps_labels_and_ids(source):
    part = source.select(torch.tensor([7, 2])).select(torch.tensor([1]))
    assert len(part) == 1 and part.ids == [2] and part.labels.tolist() == [2]
    assert part.class_names == [*"abcdefghij"]
    assert torch.equal(part[0], source[2])


def test_array_takes_uint8_only():
    with pytest.raises(ValueError, match=r"must be uint8 \(n, c, h, w\), not torch.float32"):
        ImageArray(torch.zeros(2, 3, 8, 8))


def test_fingerprint_of_an_array_follows_its_pixels_and_shape(pictures):
    images = torch.from_numpy(pictures()).permute(0, 3, 1, 2).contiguous()
    one = ImageArray(images).fingerprint
    assert ImageArray(images.clone()).fingerprint == one
    assert ImageArray(images.reshape(10, 3, 16, 4)).fingerprint != one
    images[4, 1, 2, 3] ^= 1
    assert ImageArray(images).fingerprint != one


def test_fingerprint_of_files_follows_bytes_names_and_transform(tree):
    one = lazy_files(tree).fingerprint
    assert lazy_files(tree).fingerprint == one
    assert lazy_files(tree, ImageTransform(16, 3)).fingerprint != one
    assert lazy_files(tree).select(torch.arange(10).flip(0)).fingerprint == one
    assert lazy_files(tree).select(torch.arange(9)).fingerprint != one
    file = tree / "cat" / "1.png"
    file.rename(tree / "cat" / "one.png")
    assert lazy_files(tree).fingerprint != one
    (tree / "cat" / "one.png").rename(file)
    assert lazy_files(tree).fingerprint == one
    file.write_bytes(file.read_bytes() + b"\0")
    assert lazy_files(tree).fingerprint != one


def test_fingerprint_is_the_same_in_another_process():
    code = (
        "from novum.datamodules import ImageDataModule as D;"
        "print(*[D(memory_budget_gb=gb).train_reference().fingerprint for gb in (1, 0)])"
    )
    there = programs.run("-c", code)
    here = [ImageDataModule(memory_budget_gb=gb).train_reference().fingerprint for gb in (1, 0)]
    assert there.stdout.split() == here and here[0] != here[1]


def test_bad_file_is_named(tree):
    file = tree / "cat" / "3.png"
    file.write_bytes(file.read_bytes()[:-40])
    for read in (lambda s: s[:], lambda s: decode_all(s, skip_bad=False)):
        with pytest.raises(ValueError, match=r"3\.png: not a readable image .*on_bad_image: skip"):
            read(lazy_files(tree))


def test_bad_files_are_skipped_with_a_count(tree):
    (tree / "cat" / "1.png").write_bytes(b"no image")
    (tree / "dog" / "4.png").write_bytes(b"")
    source = lazy_files(tree)
    source.labels = torch.arange(10)
    for skip in (lambda s: decode_all(s, skip_bad=True), drop_bad):
        with pytest.warns(UserWarning, match=r"skipped 2 of 10 .*cat/1\.png, .*dog/4\.png$"):
            kept = skip(source)
        assert len(kept) == len(kept.ids) == 8 and kept.labels.tolist() == [1, 2, 3, 4, 5, 6, 8, 9]
        assert torch.equal(kept[0], source[1])


def test_nothing_left(tree):
    for file in tree.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="nothing is left without the 10 of 10 images"):
        drop_bad(lazy_files(tree))
