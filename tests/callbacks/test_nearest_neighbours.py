"""The verdict in training: a generator that copies is found, and is not the best."""

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import CSVLogger

from novum.callbacks import BestCheckpoint, NearestNeighbours, StopOnCopying
from novum.callbacks.nearest_neighbours import last_judgement
from novum.callbacks.summary import RunSummary
from novum.datamodules import ImageDataModule
from novum.lightning_modules import GAN
from novum.lightning_modules.networks import DCGANDiscriminator, DCGANGenerator
from novum.report.model import Finding


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
