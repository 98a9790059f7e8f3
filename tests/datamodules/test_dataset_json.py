"""Folders as dataset_tool.py of stylegan3 writes them: numbered folders and a dataset.json."""

import json

import pytest
import torch
from PIL import Image

from novum.datamodules import ImageDataModule
from novum.datamodules.sources.folders import load_folder
from tests.tiny import tiny_stylegan, tiny_trainer

CLASSES = [6, 0, 2, 6, 1, 0, 3, 6, 0, 2, 4, 5]


@pytest.fixture
def written(tmp_path, pictures):
    """Twelve images in the tool's two folders, with a function that writes labels for them."""
    root = tmp_path / "cifar10-32x32"
    names = [f"{i // 10:05d}/img{i:08d}.png" for i in range(12)]
    for name, image in zip(names, pictures(12), strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / name)

    def write(labels):
        text = labels if isinstance(labels, str) else json.dumps({"labels": labels})
        (root / "dataset.json").write_text(text)
        return root

    return names, write


def test_labels_come_from_the_file_not_from_the_folders(written):
    names, write = written
    pairs = list(zip(names, CLASSES, strict=True))
    raw = load_folder(write(pairs[::-1])).train
    assert raw.labels.tolist() == CLASSES and raw.labels.dtype == torch.int64
    assert raw.num_classes == 7 and raw.class_names is None
    backslashes = [(name.replace("/", "\\"), label) for name, label in pairs]
    assert load_folder(write(backslashes)).train.labels.tolist() == CLASSES


def test_a_conditional_model_trains_on_them(written, tmp_path):
    names, write = written
    root = write(list(zip(names, CLASSES, strict=True)))
    data = ImageDataModule("folder", str(root), image_size=8, channels=1, batch_size=4)
    assert data.num_classes == 7
    batch = next(iter(data.train_dataloader()))
    kept = {name: label for name, label in zip(names, CLASSES, strict=True)}
    source = data.train_reference()
    assert source.labels.tolist() == [kept[name] for name in source.ids]
    assert set(batch["label"].tolist()) <= set(CLASSES)
    tiny_trainer(tmp_path, max_steps=2).fit(tiny_stylegan(num_classes=7), data)


def test_null_is_a_set_without_labels(written):
    names, write = written
    assert load_folder(write(None)).train.labels is None
    (write(None) / "dataset.json").unlink()
    assert load_folder(write("{}")).train.num_classes == 2  # of something else: folders count


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pairs: pairs[1:], "no label for 1 images, such as 00000/img00000000.png"),
        (lambda pairs: [(n, -1) for n, _ in pairs], "labels that are no classes"),
        (lambda pairs: [(n, [0.5, 0.5]) for n, _ in pairs], "labels that are no classes"),
    ],
)
def test_labels_that_do_not_do_are_said_to_be_left_out(written, change, words):
    names, write = written
    root = write(change(list(zip(names, CLASSES, strict=True))))
    with pytest.warns(UserWarning, match=words):
        assert load_folder(root).train.labels is None


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "dataset.json cannot be read"), ('{"labels": [1, 2]}', "must be a list of pairs")],
)
def test_a_damaged_file_is_named(written, text, words):
    with pytest.raises(ValueError, match=words):
        load_folder(written[1](text))


def test_both_sides_of_a_split_have_their_own(written, tmp_path):
    names, write = written
    write(list(zip(names, CLASSES, strict=True))).rename(tmp_path / "train")
    (tmp_path / "test" / "00000").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "test" / "00000" / "a.png")
    (tmp_path / "test" / "dataset.json").write_text('{"labels": [["00000/a.png", 2]]}')
    sides = load_folder(tmp_path)
    assert sides.train.labels.tolist() == CLASSES and sides.heldout.labels.tolist() == [2]


def test_a_zip_is_to_be_unpacked(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="set.zip is a file: unpack it"):
        load_folder(tmp_path / "set.zip")
