"""Work that is large asks for its memory first: refused in one line, not killed in its middle."""

import pytest
import torch
from pytorch_lightning import Trainer

from novum.core.errors import InputError
from novum.datamodules import ImageDataModule, SingleImageDataModule
from novum.lightning_modules import Adversarial, Classifier, ClassVisualisation, DeepDream
from novum.lightning_modules.attacks import PGD
from novum.lightning_modules.networks import SmallCNN
from novum.lightning_modules.step_memory import require_batch_memory
from novum.metrics.features import extract_features, load_extractor
from novum.metrics.novelty.altered_copies import AlteredCopyDetector
from novum.metrics.novelty.local_copies import LocalCopyDetector
from novum.metrics.novelty.pool import draw_pool
from tests.tiny import small_backbone, tiny_gan, tiny_stylegan, tiny_trainer
from tests.tiny_text import text_data, tiny_char_lstm, tiny_char_transformer

IMAGES = torch.randint(0, 256, (40, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
ROWS = torch.rand(100, 64, generator=torch.Generator().manual_seed(0))


def pool():
    return draw_pool(ROWS, ROWS + 1)


def local():
    large = IMAGES.repeat_interleave(4, 2).repeat_interleave(4, 3)
    LocalCopyDetector(large, None, pool=draw_pool(ROWS[:40], None), progress=False)


WORK = {  # what it is, the bytes that it takes at least, the words that it is refused with
    "a table of features": (
        lambda: extract_features(load_extractor("pixels"), IMAGES),
        40 * 768 * 4,
        "a table of the pixels features of 40 images, 768 of each,",
    ),
    "a pool": (pool, 200 * 64 * 4, "a pool of 200 rows of 64 features"),
    "altered copies": (
        lambda: AlteredCopyDetector(IMAGES, progress=False).match(IMAGES),
        40 * 3 * 1024,
        "the search of 40 samples for altered copies",
    ),
    "local copies": (local, 4000, "local features of 40 images"),
}


@pytest.mark.parametrize("name", WORK)
def test_work_that_does_not_fit_is_refused(name, free_memory):
    work, least, words = WORK[name]
    work()
    free_memory(least / 2)
    with pytest.raises(InputError, match=words) as error:
        work()
    assert "GB are free: judge " in str(error.value)


def test_pixels_at_a_huge_size_are_refused(free_memory):
    with pytest.raises(InputError, match=r"resizing 32 images to 99999 px .* give NAME@\d+"):
        extract_features(load_extractor("pixels@99999"), IMAGES)
    free_memory(2e9)
    with pytest.raises(InputError, match="resizing 32 images to 2000 px") as error:
        extract_features(load_extractor("pixels@2000"), IMAGES)
    size = int(str(error.value).split("NAME@")[1].split()[0])
    assert 32 * 3 * size**2 * 16 <= 2e9 < 32 * 3 * (size + 2) ** 2 * 16
    assert 0 < size < 2000


def dream(size: int):
    return DeepDream(small_backbone(), ["blocks.1"], octaves=(0, 0), steps=1), size


def attack(size: int):
    return Adversarial(small_backbone(), PGD(0.01, steps=1, restarts=2)), size


def fit(tmp_path, module, size: int) -> None:
    Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        num_sanity_val_steps=0,
    ).fit(module, SingleImageDataModule("flower.jpg", size=size))  # fmt: skip


def test_a_network_that_does_not_fit_at_its_native_size_says_so(tmp_path, free_memory):
    free_memory(40e6)
    with pytest.raises(InputError, match="no --data.size is small enough"):
        fit(tmp_path, *attack(64))


def test_a_dream_that_does_not_fit_names_the_size_that_does(tmp_path, free_memory):
    free_memory(40e6)
    with pytest.raises(InputError, match=r"x \d+ px takes .* give --data.size \d+") as error:
        fit(tmp_path, *dream(640))
    size = int(str(error.value).rsplit(" ", 1)[1])
    assert 32 < size < 640
    fit(tmp_path, *dream(size))
    with pytest.raises(InputError, match="--data.size"):
        fit(tmp_path, *dream(round(size * 1.1)))


def test_class_images_and_their_views_are_asked_for(tmp_path, free_memory):
    settings = dict(per_class=2, steps=1, views=1)
    with pytest.raises(InputError, match="4 images of 99999 px .* give --model.size"):
        ClassVisualisation(small_backbone(), ["1", "2"], size=99999, **settings)
    free_memory(100e6)
    module = ClassVisualisation(small_backbone(), ["1", "2"], size=32, view_size=640, **settings)
    with pytest.raises(InputError, match="4 views of 640 px .* give --model.view_size") as error:
        fit(tmp_path, module, 32)
    size = int(str(error.value).rsplit(" ", 1)[1])
    fit(tmp_path, ClassVisualisation(small_backbone(), ["1", "2"], size=32, view_size=size,
                                     **settings), 32)  # fmt: skip


def tiny_classifier():
    return Classifier(SmallCNN(8, 1, 10, width=4))


@pytest.mark.parametrize("make", [tiny_gan, tiny_stylegan, tiny_classifier])
def test_a_batch_that_does_not_fit_names_one_that_does(tmp_path, make, free_memory):
    def fit_batch(size: int) -> None:
        data = ImageDataModule("digits", image_size=8, batch_size=size)
        data.setup()
        free_memory(2e6)
        tiny_trainer(tmp_path, max_steps=1).fit(make(), data)
        free_memory(1e9)

    free_memory(1e9)
    with pytest.raises(InputError, match="a step on 1,000 images .* --data.batch_size") as error:
        fit_batch(1000)
    size = int(str(error.value).rsplit(" ", 1)[1])
    assert 8 < size < 1000
    free_memory(1e9)
    fit_batch(size)


@pytest.mark.parametrize("make", [tiny_char_lstm, tiny_char_transformer])
def test_streams_that_do_not_fit_name_as_many_as_do(tmp_path, make, free_memory):
    def fit_batch(size: int) -> None:
        data = text_data(tmp_path, batch_size=size, chunk_length=8)
        free_memory(1e6)
        tiny_trainer(tmp_path, max_steps=1).fit(make(data), data)
        free_memory(1e9)

    with pytest.raises(InputError, match="a step on 200 streams .* --data.batch_size") as error:
        fit_batch(200)
    size = int(str(error.value).rsplit(" ", 1)[1])
    assert 8 < size < 200
    free_memory(1e9)
    fit_batch(size)


def test_foreseeing_a_batch_changes_nothing(tmp_path):
    gan = tiny_gan()
    before = {name: value.clone() for name, value in gan.state_dict().items()}
    state = torch.get_rng_state()
    tiny_trainer(tmp_path, max_steps=0).fit(gan, ImageDataModule("digits", image_size=8))
    gan.trainer = tiny_trainer(tmp_path)
    require_batch_memory(gan._forward_few, 64, gan)
    assert all(torch.equal(before[name], value) for name, value in gan.state_dict().items())
    assert torch.equal(state, torch.get_rng_state()) and gan.generator.training
