"""Callbacks on generators whose answers are known, without any of Novum's models."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from novum.callbacks import (
    BestCheckpoint,
    Evaluation,
    FilmStrip,
    Interpolation,
    SampleGrid,
    StopOnCopying,
    TrainingHealth,
)
from novum.callbacks.health import PhaseClock, class_coverage, diversity, duplicate_rate
from novum.callbacks.samples import closed_walk, format_count, slerp
from novum.callbacks.summary import flat_settings, quality_trend
from novum.core.thinning import most_crowded
from novum.report.model import Finding
from tests.report.reports import report


class Painter(LightningModule):
    """The least that the protocol asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.images_seen = 100
        self.calls: list[int] = []

    def sample(self, n: int, *, seed: int | None = None, labels: Tensor | None = None) -> Tensor:
        self.calls.append(n)
        generator = torch.Generator().manual_seed(seed or 0)
        return torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=generator)


@pytest.fixture
def trainer(tmp_path):
    return Trainer(
        logger=False,
        accelerator="cpu",
        devices=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )


def test_one_pass_serves_every_callback(trainer):
    painter = Painter()
    first = Evaluation.of(trainer, painter).features("pixels", 300)
    calls = len(painter.calls)
    again = Evaluation.of(trainer, painter)
    assert torch.equal(again.features("pixels", 200), first[:200])
    assert torch.equal(again.samples(256), again.samples(300)[:256])
    assert len(painter.calls) == calls == 2  # two blocks, drawn once
    painter.images_seen += 1
    Evaluation.of(trainer, painter).features("pixels", 10)
    assert len(painter.calls) == calls + 1  # the generator has moved on


class TestHealth:
    def test_diversity_of_scaled_data(self):
        data = torch.randn(500, 5)
        assert diversity(data, data * 0.25) == pytest.approx(0.25, rel=1e-5)

    def test_duplicates_are_found(self):
        data = torch.randn(400, 6)
        fresh = torch.randn(400, 6)
        assert duplicate_rate(data, fresh) < 0.05
        collapsed = fresh[:10].repeat(40, 1) + 1e-3 * torch.randn(400, 6)
        assert duplicate_rate(data, collapsed) > 0.9

    def test_class_coverage(self):
        centers = 10 * torch.eye(4)
        labels = torch.arange(400) % 4
        data = centers[labels] + 0.1 * torch.randn(400, 4)
        assert class_coverage(data, labels, data) == pytest.approx(1)
        assert class_coverage(data, labels, data[labels == 2]) == pytest.approx(0.25)

    def test_verdict_names_the_trouble(self, trainer):
        health = TrainingHealth()
        figures = {"diversity": 0.1, "duplicate_rate": 0.01, "discriminator_gap": 0.9}
        verdict = health._judge(trainer, Painter(), figures)
        assert verdict.startswith("Trouble:")
        assert "samples vary 10%" in verdict
        assert "memorises" in verdict
        assert "near-twin" not in verdict
        assert health._judge(trainer, Painter(), {"diversity": 0.9}) == "Healthy."

    def test_verdict_remembers_better_days(self, trainer):
        health, painter = TrainingHealth(), Painter()
        tag = "quality/frechet_distance/pixels"
        trainer.callback_metrics[tag] = torch.tensor(50.0)
        assert health._judge(trainer, painter, {}) == "Healthy."
        painter.images_seen = 200
        trainer.callback_metrics[tag] = torch.tensor(90.0)
        verdict = health._judge(trainer, painter, {})
        assert "is 90, and was 50 at 100 images" in verdict
        restored = TrainingHealth()
        restored.load_state_dict(health.state_dict())
        assert restored.best == health.best

    def test_clock_counts_training_alone(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr("time.perf_counter", lambda: now[0])
        clock = PhaseClock()
        clock.start(1000)
        for seen in (1010, 1020):
            now[0] += 1  # data
            clock.enter("step", 0)
            now[0] += 3  # step
            clock.enter("data", seen)
        clock.enter("evaluation", 0)
        now[0] += 100
        clock.enter("data", 0)
        figures = clock.figures()
        assert figures["speed/step_seconds"] == 3
        assert figures["speed/data_seconds"] == 1
        assert figures["speed/images_per_second"] == 20 / 8
        assert figures["speed/evaluation_seconds"] == 100


class TestSamples:
    def test_conditional_grid_has_a_row_per_class(self, trainer, monkeypatch):
        drawn = []
        monkeypatch.setattr(
            "novum.callbacks.samples.log_picture", lambda t, tag, draw, step: drawn.append(draw())
        )

        class Classes(Painter):
            num_classes = 3

            def sample(self, n, *, seed=None, labels=None):
                return (labels * 100).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 64, 64)

        SampleGrid(columns=2).evaluate(trainer, Classes())
        picture = np.asarray(Image.open(io.BytesIO(drawn[0])))[:, :, 0]
        rows = [picture[2 + 66 * i + 30, 2:130] for i in range(3)]
        assert picture.shape == (3 * 66 + 2, 2 * 66 + 2)
        assert [int(np.median(row)) for row in rows] == [0, 100, 200]

    def test_film_strip_keeps_evenly_spaced_columns_and_survives_a_checkpoint(self, trainer):
        strip, painter = FilmStrip(rows=2, columns=5), Painter()
        for step in range(1, 41):
            painter.images_seen = 100 * step
            strip.evaluate(trainer, painter)
        times = sorted(strip.history)
        assert len(times) == 5
        assert times[0] == 100 and times[-1] == 4000
        ratios = [b / a for a, b in zip(times, times[1:], strict=False)]
        assert max(ratios) / min(ratios) < 3
        restored = FilmStrip(rows=2, columns=5)
        restored.load_state_dict(strip.state_dict())
        assert all(torch.equal(restored.history[t], strip.history[t]) for t in times)

    def test_most_crowded_is_never_an_end(self):
        assert most_crowded([1, 10, 11, 100]) in (10, 11)
        assert most_crowded([1, 2, 1000]) == 2

    def test_slerp_keeps_the_norm_and_the_ends(self):
        a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0])
        points = slerp(a, b, torch.linspace(0, 1, 5))
        torch.testing.assert_close(points.norm(dim=-1), torch.full((5,), 3.0))
        torch.testing.assert_close(points[0], a)
        torch.testing.assert_close(points[-1], b)
        torch.testing.assert_close(points[2], torch.full((2,), 3 / math.sqrt(2)))

    def test_slerp_of_equal_latents(self):
        a = torch.randn(4)
        points = slerp(a, a, torch.linspace(0, 1, 3))
        torch.testing.assert_close(points, a.expand(3, 4), atol=1e-3, rtol=1e-3)

    def test_walk_visits_every_stop_and_returns(self):
        stops = torch.randn(2, 3, 5)
        walk = closed_walk(stops, frames=4)
        assert walk.shape == (2, 12, 5)
        torch.testing.assert_close(walk[:, ::4], stops)

    def test_interpolation_needs_latents_and_says_so(self, trainer):
        with pytest.raises(ValueError, match="Interpolation needs .* Painter lacks"):
            Interpolation().evaluate(trainer, Painter())

    def test_counts_in_short(self):
        assert [format_count(n) for n in (950, 12_800, 2_500_000)] == ["950", "12.8k", "2.5M"]


def test_best_checkpoint_names_what_is_logged(trainer):
    trainer.callback_metrics["quality/frechet_distance/pixels"] = torch.tensor(1.0)
    with pytest.raises(ValueError, match="no callback logs; logged: quality/frechet_dist"):
        BestCheckpoint(monitor="fid").on_validation_end(trainer, Painter())


def test_what_became_of_the_first_frechet_distance():
    tag = "quality/frechet_distance/pixels"
    history = [(1, {tag: 10.0}), (2, {tag: 5.0})]
    assert quality_trend(history) == [
        "The Fréchet distance in pixels is 50% of the first evaluation's 10."
    ]
    assert quality_trend(history[:1]) == []


class TestStopOnCopying:
    def trained(self, trainer, low: float, **options) -> StopOnCopying:
        stop = StopOnCopying(**options)
        trainer.callback_metrics["novelty/drawn_to_training/pixels"] = torch.tensor(low)
        stop.on_validation_end(trainer, Painter())
        return stop

    def test_stops_at_the_first_evaluation_that_shows_copies(self, trainer):
        assert self.trained(trainer, 0.0).onset is None
        assert not trainer.should_stop
        stop = self.trained(trainer, 0.02)
        assert trainer.should_stop
        assert stop.onset == 100
        assert "By 100 images at least 2.00% of the samples owed their likeness" in stop.reason

    def test_a_bound_is_none_where_held_out_images_allow_no_judgement(self, trainer, monkeypatch):
        """Training images themselves look like copies, so that the bound is of another thing."""
        judged = report(share={"value": 0.35, "low": 0.3, "high": 0.4})
        assert judged.verdict.finding is Finding.CANNOT_JUDGE
        monkeypatch.setattr("novum.callbacks.stop_on_copying.last_judgement", lambda _: judged)
        assert self.trained(trainer, 0.5).onset is None and not trainer.should_stop

    def test_mark_goes_on_and_remembers_the_first(self, trainer):
        stop = self.trained(trainer, 0.02, action="mark")
        assert not trainer.should_stop
        again = StopOnCopying(action="mark")
        again.load_state_dict(stop.state_dict())
        later = Painter()
        later.images_seen = 999
        again.on_validation_end(trainer, later)
        assert again.onset == 100

    def test_limit_is_a_share_that_may_be_copies(self, trainer):
        assert self.trained(trainer, 0.02, limit=0.02).onset is None
        with pytest.raises(ValueError, match="limit is 2"):
            StopOnCopying(limit=2)

    def test_needs_the_neighbours(self, trainer):
        with pytest.raises(ValueError, match="needs NearestNeighbours"):
            StopOnCopying().on_validation_end(trainer, Painter())


def test_settings_become_a_flat_table():
    settings = {
        "_class_path": "novum.lightning_modules.GAN",
        "generator": {"class_path": "novum.x.DCGANGenerator", "init_args": {"width": 32}},
        "betas": (0.5, 0.9),
        "augment": None,
        "lr": 0.1,
    }
    assert flat_settings(settings) == {
        "generator": "DCGANGenerator", "generator.width": 32, "betas": "(0.5, 0.9)", "lr": 0.1,
    }  # fmt: skip
