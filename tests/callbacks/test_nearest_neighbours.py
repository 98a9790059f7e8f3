"""The verdict in training: a generator that copies is found, and is not the best."""

import json
import os
import signal

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from novum.callbacks import BestCheckpoint, NearestNeighbours, SampleGrid, StopOnCopying
from novum.callbacks.nearest_neighbours import last_judgement
from novum.callbacks.preemption import Preempted, Preemption
from novum.callbacks.summary import RunSummary
from novum.datamodules import ImageDataModule
from novum.lightning_modules import GAN
from novum.lightning_modules.networks import DCGANDiscriminator, DCGANGenerator
from novum.report.figures import picture
from novum.report.model import Finding
from novum.report.novelty_record import picture_path, read_rows, read_timeline
from novum.report.pictures import to_rgb
from novum.report.reviews import decide
from tests.report.pages import check_against_verdict, read


class Copier(GAN):
    """Gives training images back from its second evaluation on; before, noise."""

    def __init__(self, images, **options) -> None:
        super().__init__(**options)
        self.known = images

    def sample(self, n, *, seed=None, labels=None):
        generator = torch.Generator().manual_seed(seed or 0)
        if self.images_seen > 40:
            return self.known[torch.randperm(len(self.known), generator=generator)[:n]]
        return torch.randint(0, 17, (n, 1, 8, 8), dtype=torch.uint8, generator=generator) * 15


class Distance(Callback):
    """A figure that falls, as that of a copier does."""

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("fid", 1.0 / (1 + pl_module.images_seen))


@pytest.mark.filterwarnings("ignore")
def test_an_evaluation_that_finds_copying_is_not_the_best(tmp_path, capsys):
    data = ImageDataModule("digits", image_size=8, batch_size=16, num_workers=0)
    module = Copier(
        data.train_reference()[:],
        generator=DCGANGenerator(image_size=8, channels=1, width=4),
        discriminator=DCGANDiscriminator(image_size=8, channels=1, width=4),
    )
    neighbours = NearestNeighbours(features=("pixels",), num_samples=256)
    onset = StopOnCopying(limit=0.999, action="mark")  # so that the verdict decides
    summary, best = RunSummary(), BestCheckpoint(monitor="fid")
    trainer = Trainer(
        max_steps=8,
        val_check_interval=2,
        logger=CSVLogger(tmp_path),
        accelerator="cpu",
        default_root_dir=tmp_path,
        callbacks=[neighbours, onset, Distance(), best, summary],
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data)
    found = last_judgement(trainer)
    assert found is neighbours.found and found is not None
    assert found.verdict.finding is Finding.COPYING
    assert len(found.facts) == 256 and {fact.kind for fact in found.facts} == {"identical"}
    assert onset.onset and "256 are named, of 256 training images" in onset.reason
    images = data.train_reference()
    first = found.facts[0]
    row = list(images.ids).index(first.train)
    assert torch.equal(module.sample(256, seed=0)[first.sample], images[row])
    assert best.best_model_score == pytest.approx(1 / 33)  # of the last that copied nothing
    out = capsys.readouterr()
    assert "Verdict: Copying found: " in " ".join(out.out.split())
    html = next(tmp_path.rglob("report.html")).read_text(encoding="utf-8")
    assert html.count('class="pair"') == 12 and "A random choice of what was judged" in html
    assert all(x in html for x in ("on held-out data", "<h3>Model</h3>", "<h3>Cost</h3>"))
    assert summary.history[-1][1]["novelty/copies_flagged/pixels"] > 0
    report = json.loads(next(tmp_path.rglob("report.json")).read_text())
    assert len(report["copies"]) == 256
    check_against_verdict(html, report)
    run = next(tmp_path.rglob("novelty")).parent
    assert (run / "report.json").is_file()
    line = read_timeline(run)
    assert [e.step for e in line] == [n for n, _ in summary.history]
    assert line[-1].finding == "copying" and line[-1].unit == "images"
    assert [e.step for e in line if e.onset] == [onset.onset]
    assert line[0].finding != "copying" and "val/discriminator_loss" in line[0].figures
    rows = read_rows(run, line[-1].step)
    assert len(rows.images) == 64 and {row.fact for row in rows.images} == {"identical"}
    assert picture_path(run, line[-1].step, "rows") is not None


@pytest.mark.filterwarnings("ignore")
def test_a_review_made_while_a_run_goes_on_stands_in_its_report(tmp_path):
    data = ImageDataModule("digits", image_size=8, batch_size=16, num_workers=0)
    module = Copier(
        data.train_reference()[:],
        generator=DCGANGenerator(image_size=8, channels=1, width=4),
        discriminator=DCGANDiscriminator(image_size=8, channels=1, width=4),
    )

    class Person(Callback):
        def on_train_end(self, trainer, pl_module):
            row = read_rows(tmp_path, pl_module.images_seen).images[0]
            decide(tmp_path, row.pair, "rejected")

    trainer = Trainer(
        max_steps=8,
        val_check_interval=8,
        logger=TensorBoardLogger(tmp_path, name="", version=""),
        accelerator="cpu",
        callbacks=[
            NearestNeighbours(features=("pixels",), num_samples=256), SampleGrid(rows=2, columns=2),
            RunSummary(), Person(),
        ],
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, data)
    report = json.loads((tmp_path / "report.json").read_text())
    (review,) = report["reviewed"]
    assert review["decision"] == "rejected" and report["finding"] == "copying"
    (line,) = read_timeline(tmp_path)
    assert picture_path(tmp_path, line.step, "grid") is not None


class Stop(Preemption):
    """Sends SIGTERM in the step after the second evaluation."""

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 10:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore")
def test_a_stopped_run_shows_the_pictures_of_its_last_evaluation(tmp_path, monkeypatch):
    """Samples and pairs as they were judged; nothing is sampled for the report."""
    tens = "^[0-9]*(?=.$)"  # images of ten that follow each other are of one group
    data = ImageDataModule("digits", image_size=8, batch_size=16, groups=tens)
    train = data.train_reference()[:]
    copies = train[:256] + (torch.arange(64).view(1, 1, 8, 8) % 2 == 0) * (train[:256] < 250)
    module = Copier(
        copies.to(torch.uint8),
        generator=DCGANGenerator(image_size=8, channels=1, width=4),
        discriminator=DCGANDiscriminator(image_size=8, channels=1, width=4),
    )
    at = []
    sample = module.sample
    monkeypatch.setattr(
        module, "sample", lambda *a, **k: at.append(module.global_step) or sample(*a, **k)
    )
    summary = RunSummary()
    neighbours = NearestNeighbours(features=("pixels",), num_samples=256)
    trainer = Trainer(
        max_steps=20,
        val_check_interval=4,
        logger=CSVLogger(tmp_path),
        accelerator="cpu",
        callbacks=[neighbours, summary, Stop()],
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
    with pytest.raises(Preempted):
        trainer.fit(module, data)
    report = json.loads(next(tmp_path.rglob("report.json")).read_text())
    html = next(tmp_path.rglob("report.html")).read_text(encoding="utf-8")
    check_against_verdict(html, report)
    assert report["finding"] == "copying" and max(at) == 8 < trainer.global_step
    assert len(report["history"]) == 2
    assert len(neighbours._pool.unit.unique()) == 180  # each is one draw in the tests
    found = read(html)
    assert {"Samples", "Nearest neighbours in pixels", "Copies"} <= set(found.sections)
    assert len(found.all("img")) >= 18 + 3 * 12
    last = sample(256, seed=0)
    shown = to_rgb(last[:1])[0]
    assert str(picture(shown, "a sample")) in html
