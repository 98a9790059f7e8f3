import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule, LightningModule
from torch.utils.data import DataLoader

from novum.callbacks import Guard, WriteSamples
from novum.core.errors import InputError
from novum.core.seeds import random_generator
from novum.datamodules.sources.image_sources import ImageArray
from tests.metrics.novelty.text.markov import chain, source
from tests.metrics.novelty.textures import textures
from tests.tiny import tiny_trainer

POOL = textures(220)
TRAIN, HELDOUT = POOL[:100], POOL[100:]
FRESH = textures(100, 9)
TEXT, OTHER = chain(20_000, seed=1), chain(10_000, seed=2)


class Copier(LightningModule):
    """Every other sample is a training image, at some seeds."""

    images_seen = 0

    def sample(self, n, *, seed=None, labels=None):
        drawn = torch.rand(n, 16, generator=random_generator(seed))
        rows = (drawn[:, 1] * 100).long()
        return torch.where((drawn[:, 0] < 0.5)[:, None, None, None], TRAIN[rows], FRESH[rows])

    def predict_dataloader(self):
        return DataLoader([(0, 12), (12, 12)], batch_size=None)

    def predict_step(self, batch, batch_idx):
        return self.sample(batch[1], seed=batch[0])


class Parrot(Copier):
    tokens_seen = 0
    sample = None

    def sample_text(self, n, length, *, temperature=1.0, prime="", seed=None):
        drawn = torch.rand(n, 2, generator=random_generator(seed)).tolist()
        own = [chain(length, seed=int(b * 2**30)) for _, b in drawn]
        copied = [TEXT[int(b * 10_000) :][:length] for _, b in drawn]
        return [c if a < 0.5 else o for (a, _), o, c in zip(drawn, own, copied, strict=True)]

    def predict_step(self, batch, batch_idx):
        return self.sample_text(batch[1], 300, seed=batch[0])


class Data(LightningDataModule):
    def __init__(self, train, heldout) -> None:
        super().__init__()
        self.train_reference, self.heldout_reference = lambda: train, lambda: heldout


def predict(tmp_path, model, data, guard):
    callbacks = [WriteSamples(str(tmp_path / "samples")), *([guard] if guard else [])]
    trainer = tiny_trainer(tmp_path, callbacks=callbacks)
    if guard:
        guard.data = data  # as the programs do, for a model that says itself what to predict
    trainer.predict(model)
    return sorted((tmp_path / "samples").iterdir())


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*litlogger.*")
def test_predict_writes_no_copy_of_an_image(tmp_path, capsys):
    known = {x.numpy().tobytes() for x in TRAIN}

    def copies(files):
        images = (np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files)
        return sum(image.tobytes() in known for image in images)

    model, data = Copier(), Data(ImageArray(TRAIN), ImageArray(HELDOUT))
    assert copies(predict(tmp_path, model, data, None)) > 5
    files = predict(tmp_path, model, data, Guard())
    assert len(files) == 24 and copies(files) == 0
    assert "samples drawn were refused as copies and drawn again" in capsys.readouterr().out
    assert torch.equal(model.sample(3, seed=0), Copier().sample(3, seed=0))  # the guard is gone


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*litlogger.*")
def test_predict_writes_no_copy_of_a_text(tmp_path):
    model, data = Parrot(), Data(source(TEXT), source(OTHER, "heldout.txt"))
    assert sum(file.read_text() in TEXT for file in predict(tmp_path, model, data, None)) > 5
    files = predict(tmp_path, model, data, Guard())
    assert len(files) == 24 and not any(file.read_text() in TEXT for file in files)


def test_a_guard_without_training_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="Guard compares with training data"):
        predict(tmp_path, Copier(), object(), Guard())
