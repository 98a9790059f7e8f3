"""Callbacks on any Trainer, module and loaders: they fire, or say why they cannot."""

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from novum.callbacks import (
    BestCheckpoint,
    FrechetDistanceCallback,
    KernelDistance,
    LastCheckpoint,
    NearestNeighbours,
    RunSummary,
    SampleGrid,
    TextSamples,
    TrainingHealth,
)
from novum.callbacks.evaluation import EvaluationCallback
from novum.core.errors import InputError
from novum.datamodules import ImageDataModule
from novum.lightning_modules import GAN
from tests.lightning_modules.test_classifier import tiny_classifier
from tests.tiny import TinyImages, tiny_gan

IMAGES = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8)
HELDOUT = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8)
LABELS = torch.arange(60) % 2
QUIET = dict(accelerator="cpu", devices=1, enable_progress_bar=False, enable_model_summary=False,
             log_every_n_steps=1, num_sanity_val_steps=0)  # fmt: skip
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:You .*val_dataloader", "ignore:.*srun",
    "ignore:Trying to infer the `batch_size`",
)  # fmt: skip


class Fires(EvaluationCallback):
    def __init__(self):
        self.steps = []

    def evaluate(self, trainer, pl_module):
        self.steps.append(trainer.global_step)


class Yours(LightningModule):
    """No novum in it: sample alone, and no validation."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, _):
        return self.layer(batch[0].float().mean().view(1, 1)).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-6)

    def sample(self, n, *, seed=None, labels=None):
        generator = torch.Generator().manual_seed(seed or 0)
        return torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)


def loader(*tensors, batch_size=10):
    return DataLoader(TensorDataset(*tensors), batch_size)


def trainer(folder, *callbacks, **settings):
    return Trainer(
        **QUIET | settings, callbacks=list(callbacks), default_root_dir=folder, logger=False
    )


def test_a_module_without_validation_is_judged_at_every_epoch(tmp_path):
    fires, frechet = Fires(), FrechetDistanceCallback(("pixels",), 256, train=IMAGES)
    judges = (frechet, NearestNeighbours(("pixels",), 256, heldout=HELDOUT), SampleGrid())
    best = BestCheckpoint("quality/frechet_distance/pixels")
    made = trainer(tmp_path, fires, *judges, best, LastCheckpoint(), RunSummary(), max_epochs=2)
    made.fit(Yours(), loader(IMAGES))
    assert fires.steps == [6, 12]
    assert best.best_model_score > 0 and (tmp_path / "checkpoints" / "best.ckpt").is_file()
    assert (tmp_path / "report.html").is_file()


def test_and_within_one(tmp_path):
    fires = Fires()
    trainer(tmp_path, fires, max_epochs=1, val_check_interval=0.5, enable_checkpointing=False).fit(
        Yours(), loader(IMAGES)
    )
    assert fires.steps == [3, 6]


@pytest.mark.parametrize(
    "settings, steps",
    [
        (dict(max_epochs=2), [3, 6]),
        (dict(max_steps=6, val_check_interval=2, check_val_every_n_epoch=None), [2, 4, 6]),
        (dict(max_epochs=1, limit_train_batches=2), [2]),
        (dict(max_epochs=2, limit_train_batches=0.67), [2, 4]),
    ],
)
def test_our_data_has_epochs_where_a_trainer_counts_them(tmp_path, settings, steps):
    fires = Fires()
    data = ImageDataModule("digits", image_size=8, batch_size=16, subset=40)
    trainer(tmp_path, fires, enable_checkpointing=False, limit_val_batches=1, **settings).fit(
        tiny_gan(), data
    )
    assert fires.steps == steps


def test_epochs_go_on_where_the_last_ended(tmp_path):
    """The order is that of the endless loader, each image once in each epoch."""
    seen = []

    class Watch(Fires):
        def on_train_batch_start(self, trainer, pl_module, batch, *_):
            seen.append(batch["image"])

    data = ImageDataModule("digits", image_size=8, batch_size=20, subset=40)
    settings = dict(enable_checkpointing=False, limit_val_batches=0)
    trainer(tmp_path, Watch(), max_epochs=2, **settings).fit(tiny_gan(), data)
    epochs, seen = seen, []
    trainer(
        tmp_path,
        Watch(),
        max_steps=4,
        val_check_interval=9,
        check_val_every_n_epoch=None,
        **settings,
    ).fit(tiny_gan(), data)
    assert all(torch.equal(a, b) for a, b in zip(epochs, seen, strict=True))


def test_overfitting_is_on_the_same_batches(tmp_path):
    seen = []

    class Watch(Fires):
        def on_train_batch_start(self, trainer, pl_module, batch, *_):
            seen.append(batch["image"])

    data = ImageDataModule("digits", image_size=8, batch_size=20)
    trainer(tmp_path, Watch(), max_epochs=3, overfit_batches=2, enable_checkpointing=False).fit(
        tiny_gan(), data
    )
    assert len(seen) == 6
    for batch in (0, 1):
        assert all(torch.equal(seen[batch], x) for x in seen[batch::2])
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("batch", ["tensors", "pairs", "mappings", "floats"])
def test_a_gan_takes_batches_of_any_kind(tmp_path, batch):
    signed = IMAGES / 127.5 - 1
    data = {
        "tensors": DataLoader(list(IMAGES), 10),
        "pairs": loader(IMAGES, LABELS),
        "mappings": DataLoader([{"image": x} for x in IMAGES], 10),
        "floats": loader(signed, LABELS),
    }[batch]
    gan = tiny_gan(batch_norm=False)
    settings = dict(max_epochs=1, enable_checkpointing=False)
    health = TrainingHealth("pixels", 256, train=IMAGES, heldout=HELDOUT)
    trainer(tmp_path, health, **settings).fit(gan, data, data)
    assert gan.images_seen == 60
    same = tiny_gan(batch_norm=False)
    trainer(tmp_path, **settings).fit(same, loader(signed))
    for a, b in zip(gan.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_classifier_takes_pairs_and_says_that_labels_are_missing(tmp_path):
    settings = dict(max_epochs=1, enable_checkpointing=False)
    model = tiny_classifier()
    trainer(tmp_path, **settings).fit(model, loader(IMAGES, LABELS), loader(IMAGES, LABELS))
    assert model.images_seen == 60
    with pytest.raises(InputError, match="no labels to learn"):
        trainer(tmp_path, **settings).fit(tiny_classifier(), loader(IMAGES))


class Bare(Yours):
    def sample(self, n):
        return torch.zeros(n, 1, 8, 8, dtype=torch.uint8)


class Floats(Yours):
    def sample(self, n, *, seed=None, labels=None):
        return torch.zeros(n, 1, 8, 8)


@pytest.mark.parametrize(
    "module, callback, data, says",
    [
        (Yours, lambda: FrechetDistanceCallback(("pixels",), 256), loader(IMAGES),
         "the training set is needed, and this run's data has no train_reference: give"),
        (Yours, lambda: NearestNeighbours(("pixels",), 256, train=IMAGES), loader(IMAGES),
         "the held-out set is needed"),
        (Bare, SampleGrid, loader(IMAGES), r"Bare.sample must take \(n, \*, seed=None"),
        (Floats, lambda: KernelDistance(("pixels",), 256, train=IMAGES), loader(IMAGES),
         "must give uint8 images"),
        (Yours, TextSamples, loader(IMAGES), "TextSamples needs a module with sample_text"),
        (tiny_gan, SampleGrid, TinyImages(), "SampleGrid would never be called: the training data"),
        (tiny_gan, SampleGrid, DataLoader(list("abcd")), "a batch must be images"),
        (tiny_gan, SampleGrid, loader(IMAGES[:, 0]), "not images of"),
    ],
)  # fmt: skip
def test_what_cannot_fire_says_why(tmp_path, module, callback, data, says):
    with pytest.raises(InputError, match=says):
        trainer(tmp_path, callback(), max_epochs=1, enable_checkpointing=False).fit(module(), data)


def test_a_limit_of_nothing_is_said_once(tmp_path, caplog):
    with caplog.at_level("INFO"):
        trainer(tmp_path, Fires(), SampleGrid(), max_epochs=1, limit_val_batches=0,
                enable_checkpointing=False).fit(Yours(), loader(IMAGES))  # fmt: skip
    (line,) = [x for x in caplog.messages if "never called" in x]
    assert "Fires, SampleGrid" in line


def test_a_gan_built_in_python_is_loaded_with_its_networks(tmp_path):
    made = trainer(tmp_path, LastCheckpoint(), max_epochs=1)
    gan = tiny_gan()
    made.fit(gan, loader(IMAGES))
    last = tmp_path / "checkpoints" / "last.ckpt"
    with pytest.raises(InputError, match="GAN.load_from_checkpoint.*generator=..., discriminator="):
        GAN.load_from_checkpoint(last)
    blank = tiny_gan()
    again = GAN.load_from_checkpoint(
        last, generator=blank.generator, discriminator=blank.discriminator
    )
    assert torch.equal(again.sample(4, seed=0), gan.sample(4, seed=0))


class Bare(Yours):
    """As the docs ask for it: n and a seed, and nothing more."""

    def sample(self, n, *, seed=None):
        return super().sample(n, seed=seed)


def test_a_module_without_labels_has_pictures_too(tmp_path):
    judges = SampleGrid(), NearestNeighbours("pixels", 256, train=IMAGES.numpy(), heldout=HELDOUT)
    trainer(tmp_path, *judges, max_epochs=1).fit(Bare(), loader(IMAGES))
    assert (tmp_path / "pictures/samples/grid/6.png").is_file()
    assert judges[1].features == ("pixels",) and judges[1].found is not None


def test_a_run_that_ends_before_its_first_evaluation_says_so(tmp_path, caplog):
    fires = Fires()
    trainer(tmp_path, fires, max_epochs=-1, max_steps=2).fit(Yours(), loader(IMAGES))
    said = "Fires: nothing was evaluated, since the run ended at step 2, before the first"
    assert not fires.steps and said in caplog.text
    caplog.clear()
    trainer(tmp_path, fires, max_epochs=1).fit(Yours(), loader(IMAGES))
    assert fires.steps == [6] and "nothing was evaluated" not in caplog.text


@pytest.mark.parametrize(("made", "says"), [
    (lambda: NearestNeighbours(train="data/train"), "train is a str: give images, uint8"),
    (lambda: NearestNeighbours(heldout=[1, 2]), "heldout is a list: give images, uint8"),
    (lambda: NearestNeighbours(num_samples=0), "num_samples is 0: it must be at least 2"),
    (lambda: FrechetDistanceCallback(num_samples=-5), "num_samples is -5"),
    (lambda: TrainingHealth(num_samples=1), "num_samples is 1"),
    (lambda: SampleGrid(rows=0), "rows is 0: it must be at least 1"),
])  # fmt: skip
def test_slips_with_a_callback_are_one_line(made, says):
    with pytest.raises(InputError, match=says):
        made()
