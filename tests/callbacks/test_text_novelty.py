import json
import warnings

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from novum.callbacks import RunSummary, StopOnCopying, TextNovelty
from novum.evaluation.text_records import copy_records
from novum.metrics.novelty.text import TextReferences, judge_text
from novum.report.novelty_record import read_rows, read_timeline
from novum.report.text_copies import copies_markdown
from tests.metrics.novelty.text.markov import chain, plant, source
from tests.report.pages import check_against_verdict, read
from tests.tiny import tiny_trainer

TRAIN, HELDOUT = chain(30_000, seed=1), chain(20_000, seed=2)


class Parrot(LightningModule):
    """Repeats some training text, the more the longer it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.tokens_seen = 0

    def training_step(self, batch, batch_idx):
        self.tokens_seen += 1000
        return self.weight * 0

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def sample_text(self, n, length, *, temperature=1.0, prime="", seed=None):
        copied = min(60 * self.tokens_seen // 1000, length)
        places = np.random.default_rng(seed).integers(0, len(TRAIN) - copied, n)
        own = chain(n * length, seed=9)
        rows = [own[i * length : (i + 1) * length - copied] for i in range(n)]
        return [row + TRAIN[p : p + copied] for row, p in zip(rows, places, strict=True)]


class Texts(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(torch.zeros(6))

    val_dataloader = train_dataloader

    def train_reference(self):
        return source(TRAIN)

    def heldout_reference(self):
        return source(HELDOUT, "heldout.txt")


def train(tmp_path, *callbacks, **settings):
    trainer = tiny_trainer(
        tmp_path,
        max_epochs=6,
        max_steps=-1,
        limit_train_batches=1,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(tmp_path, name="", version=""),
        callbacks=list(callbacks),
        **settings,
    )
    trainer.fit(Parrot(), Texts())
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    return trainer, events


def test_copies_are_logged_against_tokens_seen(tmp_path):
    trainer, events = train(tmp_path, TextNovelty(num_texts=30, length=400))
    rate = events.Scalars("novelty/copy_rate/folded")
    assert [event.step for event in rate] == [1000, 2000, 3000, 4000, 5000, 6000]
    share = [event.value for event in events.Scalars("novelty/copied_share/verbatim")]
    assert share == sorted(share) and share[0] > 0.1 and share[-1] > 0.8
    assert events.Tags()["images"] == ["novelty/copies"]
    assert "train&#46;txt" in str(events.Tensors("novelty/copies/text_summary")[-1])
    assert trainer.callback_metrics["novelty/copies_flagged/folded"] == 30
    assert "novelty/permutation_p/folded" in trainer.callback_metrics


def test_the_page_of_a_run_has_the_verdict_of_what_was_judged(tmp_path):
    """With every copied passage beside its source, and the curves of the run."""
    judge = TextNovelty(num_texts=30, length=400)
    train(tmp_path, judge, RunSummary())
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["finding"] == "copying" and len(report["facts"]) >= 20
    assert report["samples"]["n"] == 12_000 and report["samples"]["texts"] == 30
    assert report["verdict"].startswith(f"Copying found: {len(report['facts'])} passages")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    check_against_verdict(html, report)
    page = read(html)
    assert {"Passages beside their sources", "Samples", "During training"} <= set(page.sections)
    assert TRAIN[report["copies"][0]["train"] :][:40] in page.text
    line = read_timeline(tmp_path)
    assert [e.step for e in line] == [1000, 2000, 3000, 4000, 5000, 6000]
    assert line[-1].finding == "copying" and line[-1].kind == "text"
    (first, *_) = read_rows(tmp_path, 6000).passages
    assert first.named and "".join(part.text for part in first.source) in TRAIN


def test_stop_on_copying_ends_the_run(tmp_path):
    stop = StopOnCopying(limit=0.1)
    trainer, _ = train(tmp_path, TextNovelty(num_texts=30, length=400), stop)
    assert stop.onset == trainer.lightning_module.tokens_seen < 6000
    assert f"By {stop.onset:,} characters at least " in stop.reason


def test_another_kind_of_module_is_told(tmp_path):
    with pytest.raises(ValueError, match="needs a module with sample_text and tokens_seen"):
        TextNovelty().evaluate(None, LightningModule())


def test_too_little_text_is_refused():
    with pytest.raises(ValueError, match="a copy has 50 characters"):
        TextNovelty(length=20)


def test_nothing_in_a_text_is_taken_for_markdown():
    hostile = "| <b> `x` [a](b) *c* _d_ \\ \n # e" * 3
    train = source(TRAIN + hostile)
    planted = plant(chain(2000, seed=4), TRAIN, [60], seed=1)
    texts = [planted.text, hostile]
    judged = judge_text(TextReferences(train, source(HELDOUT)), texts)
    parts = copies_markdown(copy_records(judged, train), judged.text, train).split("\n\n")
    assert len(parts) >= 2 and parts[0].startswith("**1.** ")
    for about, table in zip(parts[::2], parts[1::2], strict=True):
        rows = table.split("\n")
        assert len(rows) == 3 and all(row.count("|") == 3 for row in rows)
        shown = rows[2].replace("<strong>", "").replace("</strong>", "")
        assert not set("<>`[]*_\\") & set(about.replace("**", "") + shown)


def test_differences_are_bold_where_tensorboard_shows_them():
    train = source(TRAIN)
    own = TRAIN[500:560] + "@" + TRAIN[561:700]  # a character is another
    judged = judge_text(TextReferences(train, source(HELDOUT)), [chain(2000, seed=4) + own])
    copies = copy_records(judged, train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorBoard's HTML library
        from tensorboard.plugin_util import markdown_to_safe_html
    html = markdown_to_safe_html(copies_markdown(copies, judged.text, train))
    assert "<strong>1.</strong>" in html and "&lt;" not in html
    assert "<strong>&#64;</strong>" in html and "<table>" in html
