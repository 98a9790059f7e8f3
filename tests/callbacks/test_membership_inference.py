"""Memorisation from inside: what is logged and reported, of images, texts and discriminators."""

import json

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from novum.callbacks import MembershipInference, NearestNeighbours, RunSummary, TextNovelty
from novum.core.errors import InputError
from novum.datamodules.sources.corpus import TextSource
from novum.datamodules.sources.image_sources import ImageArray
from novum.report.model import Finding
from novum.report.schema import read_report
from tests.report.pages import check_against_verdict, read
from tests.tiny import tiny_trainer

SETS = ("train", "heldout")
IMAGES = {
    split: torch.randint(256, (60, 1, 8, 8), generator=torch.Generator().manual_seed(i)).byte()
    for i, split in enumerate(SETS)
}


class Rememberer(LightningModule):
    """Knows its first 30 training images the better the longer it trains; copies nothing."""

    item_loss = "squared error"
    gain = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.images_seen = 0

    def training_step(self, batch, batch_idx):
        self.images_seen += 100
        return self.weight * 0

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def sample(self, n, *, seed=None, labels=None):
        generator = torch.Generator().manual_seed(100 + (seed or 0))
        return torch.randint(256, (n, 1, 8, 8), generator=generator).byte()

    def item_losses(self, images, *, labels=None):
        hard = images.float().flatten(1).mean(1) / 10  # for any model
        known = (images[:, None] == IMAGES["train"][:30]).flatten(2).all(2).any(1)
        return hard - self.gain * self.images_seen / 100 * known


class Images(LightningDataModule):
    def __init__(self, **sources) -> None:
        super().__init__()
        self.sources = IMAGES | sources

    def train_dataloader(self):
        return DataLoader(torch.zeros(6))

    val_dataloader = train_dataloader

    def train_reference(self):
        return ImageArray(self.sources["train"])

    def heldout_reference(self):
        return ImageArray(self.sources["heldout"])


def train(tmp_path, *callbacks, module=None, data=None, ckpt_path=None, epochs=3, **settings):
    trainer = tiny_trainer(
        tmp_path, max_epochs=epochs, max_steps=-1, limit_train_batches=1, limit_val_batches=1,
        num_sanity_val_steps=0, logger=TensorBoardLogger(tmp_path, name="", version=""),
        callbacks=list(callbacks), **settings,
    )  # fmt: skip
    trainer.fit(module or Rememberer(), data or Images(), ckpt_path=ckpt_path)
    return trainer


def events(tmp_path) -> EventAccumulator:
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    return found


def test_scalars_pictures_and_report(tmp_path):
    inside = MembershipInference()
    neighbours = NearestNeighbours(features=("pixels",), num_samples=100)
    train(tmp_path, inside, neighbours, RunSummary())
    logged = events(tmp_path)
    auc = [e.value for e in logged.Scalars("novelty/membership_auc/losses")]
    steps = [e.step for e in logged.Scalars("novelty/membership_auc/losses")]
    assert steps == [100, 200, 300] and auc == sorted(auc) and auc[-1] > 0.6
    assert {"novelty/membership_p/losses", "novelty/membership_auc_low/losses",
            "novelty/items_known/losses"} <= set(logged.Tags()["scalars"])  # fmt: skip
    assert {"novelty/losses", "novelty/items_known"} <= set(logged.Tags()["images"])
    report = read_report(tmp_path / "report.json")
    found = report.membership
    assert found.loss == "squared error" and found.calibrated_by == "this run after 100 images"
    assert found.calibrated_auc.value == pytest.approx(0.75)  # half are known, half are even
    assert found.p <= 0.001 and found.control_p > 0.01
    assert {item.item for item in found.known} == set(range(30))
    assert all(item.loss < item.reference_loss for item in found.known)
    logged = report.features["losses"].novelty["membership_auc"]
    assert logged.value == pytest.approx(found.auc.value) and logged.low < logged.value


def test_the_verdict_says_it_and_finds_no_copying_by_it(tmp_path):
    judge = NearestNeighbours(features=("pixels",), num_samples=300)
    train(tmp_path, MembershipInference(), judge, RunSummary())
    verdict = read_report(tmp_path / "report.json").verdict
    assert verdict.finding is not Finding.COPYING
    assert "the model knows what it was trained on" in verdict.text
    assert "by itself no proof that it reproduces any of them" in verdict.text
    page = read((tmp_path / "report.html").read_text())
    written = json.loads((tmp_path / "report.json").read_text())
    check_against_verdict((tmp_path / "report.html").read_text(), written)
    assert "From inside the model" in page.text
    assert "18 more are in report.json" in page.text


def test_a_model_that_remembers_nothing_is_said_to(tmp_path):
    module = Rememberer()
    module.gain = 0.0
    train(tmp_path, MembershipInference(), RunSummary(), module=module)
    report = read_report(tmp_path / "report.json")
    assert report.membership.known == [] and report.membership.p > 0.01
    assert "does not tell training from held-out items" in report.verdict.text


def test_nothing_is_read_of_sets_that_differ(tmp_path):
    """Held-out images that are smoother: any model finds them easier, or harder."""
    smooth = IMAGES["heldout"] // 64 * 64
    train(tmp_path, MembershipInference(), RunSummary(), data=Images(heldout=smooth))
    report = read_report(tmp_path / "report.json")
    assert report.membership.control_p <= 0.001
    assert "From inside nothing can be read" in report.verdict.text


def test_losses_that_are_not_finite_are_no_figures(tmp_path):
    module = Rememberer()
    module.gain = float("nan")
    with pytest.warns(UserWarning, match="losses are not finite"):
        train(tmp_path, MembershipInference(), RunSummary(), module=module)
    assert read_report(tmp_path / "report.json").membership is None


def test_a_resumed_run_is_held_against_its_first_evaluation(tmp_path):
    kept = str(tmp_path / "kept.ckpt")
    first = MembershipInference()
    train(tmp_path / "a", first, epochs=1).save_checkpoint(kept)
    module, second = Rememberer(), MembershipInference()
    module.images_seen = 100  # ours keep it in checkpoints
    train(tmp_path / "b", second, module=module, ckpt_path=kept)
    assert second.found.membership.calibrated_by == "this run after 100 images"


def test_losses_of_other_items_are_no_reference(tmp_path):
    inside = MembershipInference()
    inside.load_state_dict({"key": "others", "seen": 0})
    train(tmp_path, inside, epochs=1)
    assert inside.found.membership.calibrated_by is None


def test_equal_images_are_one_item(tmp_path):
    twice = torch.cat([IMAGES["train"], IMAGES["train"]])
    inside = MembershipInference()
    train(tmp_path, inside, data=Images(train=twice))
    assert inside.found.membership.train_items == 60


class Reader(Rememberer):
    """Knows the first half of its training text."""

    item_loss = "nats a token"

    def __init__(self, vocabulary) -> None:
        super().__init__()
        del self.images_seen
        self.tokens_seen, self.vocabulary = 0, vocabulary

    def training_step(self, batch, batch_idx):
        self.tokens_seen += 100
        return self.weight * 0

    def sample_text(self, n, length, *, temperature=1.0, prime="", seed=None):
        return ["x" * length] * n

    def item_losses(self, tokens, *, labels=None):
        seeds = map(torch.Generator().manual_seed, tokens.sum(1).tolist())
        hard = torch.stack([torch.rand((), generator=seed) for seed in seeds])
        return hard - self.tokens_seen / 100 * (tokens == 1).any(1)  # of documents with an "a"


class Texts(LightningDataModule):
    def __init__(self, documents: int = 40, length: int = 300) -> None:
        super().__init__()
        random = np.random.default_rng(0)

        def text(first: bool) -> str:
            return "".join(random.choice(list("abcdefg" if first else "bcdefgh"), length))

        self.sides = {
            "train": [text(i < documents // 2) for i in range(documents)],
            "heldout": [text(False) for _ in range(documents)],
        }
        whole = "".join(sum(self.sides.values(), []))
        self.vocabulary = TextSource.of(whole).vocabulary

    def train_dataloader(self):
        return DataLoader(torch.zeros(6))

    val_dataloader = train_dataloader

    def _source(self, side):
        from novum.datamodules.sources.corpus import Piece

        texts = self.sides[side]
        starts = np.cumsum([0, *map(len, texts)])[:-1].tolist()
        pieces = [Piece(start, f"{side}{i}.txt", 0) for i, start in enumerate(starts)]
        return TextSource(self.vocabulary.encode("".join(texts)), self.vocabulary, pieces)

    def train_reference(self):
        return self._source("train")

    def heldout_reference(self):
        return self._source("heldout")


@pytest.mark.parametrize("documents", [40, 10])
def test_passages_of_texts(tmp_path, documents):
    """One of each document, or of few documents evenly spaced ones."""
    data = Texts(documents, 300 if documents == 40 else 1400)
    inside = MembershipInference()
    callbacks = inside, TextNovelty(num_texts=2, length=60), RunSummary()
    train(tmp_path, *callbacks, module=Reader(data.vocabulary), data=data)
    found = inside.found.membership
    assert found.loss == "nats a token" and found.train_items >= documents
    if documents == 40:
        assert found.train_items == 40
        assert {item.file for item in found.known} <= {f"train{i}.txt" for i in range(20)}
        assert found.known and inside.known.passages
        assert "novelty/items_known/text_summary" in events(tmp_path).Tags()["tensors"]
        assert found.known[0].file in read((tmp_path / "report.html").read_text()).text
    else:
        assert found.train_items == 10 * 1400 // 256


def test_too_little_text_is_no_figure(tmp_path):
    data = Texts(3, 100)
    inside = MembershipInference()
    with pytest.warns(UserWarning, match="not computed: .* passages are too few"):
        train(tmp_path, inside, module=Reader(data.vocabulary), data=data)
    assert inside.found is None


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(InputError, match="num_items is 1"):
        MembershipInference(num_items=1)

    class Plain(Rememberer):
        item_losses = None

    with pytest.raises(InputError, match="needs a module with item_losses"):
        train(tmp_path, MembershipInference(), module=Plain())
