"""Every trained technique in every precision of Lightning's, by its own plugins."""

import pytest
import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins import MixedPrecision

from novum.core.protocols import Discriminator, ImageGenerator, TextGenerator
from novum.datamodules import SingleImageDataModule
from novum.lightning_modules import (
    EDM,
    PGD,
    AdaptiveAugment,
    Classifier,
    DeepDream,
    DiffAugment,
    Heun,
)
from novum.lightning_modules.networks import Backbone, SmallCNN
from novum.lightning_modules.training_utils import update_ema
from tests.lightning_modules.test_classifier import Halves
from tests.tiny import TinyImages, tiny_flow, tiny_gan, tiny_stylegan, tiny_trainer
from tests.tiny_text import text_data, tiny_char_lstm, tiny_char_transformer

WEIGHTS = {"bf16-true": torch.bfloat16, "64-true": torch.float64}
SCALE = 256.0  # of losses in 16-mixed: at torch's 65,536 it takes some steps to find it
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true")


class Validated(TinyImages):
    """With a loader of held-out batches; a list of one would be a list of loaders."""

    def val_dataloader(self):
        return self.train_dataloader()


def gan(tmp_path) -> tuple[LightningModule, LightningDataModule]:
    """With everything that computes penalties, clips and augments."""
    module = tiny_gan(
        2, r1_gamma=1.0, gradient_penalty=1.0, augment=DiffAugment(), clip_gradient_norm=1.0
    )
    return module, Validated(12, num_classes=2)  # memory is asked for above 8


def stylegan(tmp_path) -> tuple[LightningModule, LightningDataModule]:
    augment = AdaptiveAugment("bgc", p=0.5, interval=2, speed_kimg=1.0)
    lazy = dict(r1_interval=2, path_length_interval=2, clip_gradient_norm=1.0)
    return tiny_stylegan(2, augment=augment, **lazy), Validated(12, num_classes=2)


def classifier(tmp_path) -> tuple[LightningModule, LightningDataModule]:
    module = Classifier(
        SmallCNN(8, 1, 2, width=4), lr=0.05, attack=PGD(steps=2), augment=DiffAugment()
    )
    return module, Halves()


def char_lstm(tmp_path) -> tuple[LightningModule, LightningDataModule]:
    data = text_data(tmp_path)
    return tiny_char_lstm(data, {"dropout": 0.1}), data


def char_transformer(tmp_path) -> tuple[LightningModule, LightningDataModule]:
    data = text_data(tmp_path, order="random")
    return tiny_char_transformer(data, {"dropout": 0.1}), data


TEXT = (
    char_lstm,
    char_transformer,
)


def flow_matching(tmp_path) -> tuple[LightningModule, LightningDataModule]:
    return tiny_flow(2, guidance=2.0, likelihood_images=2), Validated(num_classes=2)


def flow_matching_edm(tmp_path) -> tuple[LightningModule, LightningDataModule]:
    """Noise levels from the normal distribution's quantiles."""
    module = tiny_flow(2, process=EDM(), sampler=Heun(steps=2), likelihood_images=2)
    return module, Validated(num_classes=2)


TECHNIQUES = (
    gan,
    stylegan,
    classifier,
    *TEXT,
    flow_matching,
    flow_matching_edm,
)


def trained(tmp_path, technique, precision: str, **settings) -> tuple[Trainer, LightningModule]:
    torch.manual_seed(0)
    module, data = technique(tmp_path)
    if precision == "16-mixed":  # by name Lightning takes bf16-mixed on a CPU
        scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
        settings["plugins"] = [MixedPrecision("16-mixed", "cpu", scaler)]
    else:
        settings["precision"] = precision
    if technique in TEXT:
        settings |= {"gradient_clip_val": 1.0}
    trainer = tiny_trainer(
        tmp_path,
        max_steps=3,
        limit_val_batches=1,
        val_check_interval=3,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        **settings,
    )
    trainer.fit(module, data)
    return trainer, module


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda f: f.__name__)
def test_learns_in(technique, precision, tmp_path):
    trainer, module = trained(tmp_path, technique, precision)
    weights = {x.dtype for name, x in module.named_parameters() if not name.startswith("ema.")}
    assert weights == {WEIGHTS.get(precision, torch.float32)}
    for name, parameter in module.named_parameters():
        assert parameter.isfinite().all(), name
    losses = {k: v for k, v in trainer.callback_metrics.items() if k.startswith("loss/")}
    assert losses and all(value.isfinite() for value in losses.values())
    if isinstance(module, ImageGenerator):
        assert module.sample(3, seed=0).dtype == torch.uint8
    if isinstance(module, Discriminator):
        assert module.discriminate(module.sample(2), labels=torch.tensor([0, 1])).shape == (2,)
    if isinstance(module, TextGenerator):
        assert len(module.sample_text(1, 5, seed=0)[0]) == 5
    if isinstance(module, Classifier):
        assert module.classify(Halves().train_reference()[:3]).isfinite().all()


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_times_of_a_large_batch_differ_in(precision, tmp_path):
    """In bfloat16 they would coincide, and the last would be 1: no noise at all, or endless."""
    drawn = []

    class Noted(EDM):
        def draw_times(self, uniform: torch.Tensor) -> torch.Tensor:
            drawn.append(super().draw_times(uniform))
            return drawn[-1]

    data = Validated(2000, num_classes=2)
    tiny_trainer(tmp_path, max_steps=1, precision=precision).fit(tiny_flow(process=Noted()), data)
    assert drawn[0].isfinite().all()
    assert len(drawn[0].unique()) == len(drawn[0]) == 2000


@pytest.mark.parametrize("technique", [gan, stylegan, flow_matching], ids=lambda f: f.__name__)
def test_averages_are_not_rounded_to_half_precision(technique, tmp_path):
    module, _ = technique(tmp_path)
    before = [x.clone() for x in module.averages()]
    module.bfloat16()
    for average, kept in zip(module.averages(), before, strict=True):
        assert torch.equal(average, kept) and average.dtype == kept.dtype
    ema, network = module.ema, getattr(module, "generator", None) or module.network
    for parameter in ema.parameters():
        parameter.data.fill_(1)
    for parameter in network.parameters():
        parameter.data.fill_(2)
    update_ema(ema, network, 0.999)  # 1.001 is 1 in bfloat16
    assert all(torch.allclose(x, torch.tensor(1.001)) for x in ema.parameters())
    assert {x.dtype for x in module.double().averages()} <= {torch.float64, torch.int64}


def test_float16_skips_what_overflows_and_takes_the_other_steps(tmp_path):
    """R1 and path length come every other step, each with a step of an optimizer of its own."""
    trainer, module = trained(tmp_path, stylegan, "16-mixed")
    scaler = trainer.precision_plugin.scaler
    steps = [
        max((int(state["step"]) for state in optimizer.state.values()), default=0)
        for optimizer in trainer.optimizers
    ]
    # five updates of each network in three steps; each that overflowed has halved the scale
    skipped = 2 * 5 - sum(steps)
    assert scaler.get_scale() == SCALE / 2**skipped
    assert min(steps) > 2


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_an_image_is_not_optimised_in_other_precisions(precision, tmp_path):
    module = DeepDream(Backbone("efficientnet_lite0", "none"), ["blocks.1"])
    trainer = tiny_trainer(tmp_path, precision=precision)
    with pytest.raises(ValueError, match=f"precision is {precision}.*32-true or bf16-mixed"):
        trainer.fit(module, SingleImageDataModule("flower.jpg", size=32))


@pytest.mark.parametrize("interval, expected", [(2, [2, 3]), (0, [])])
@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda f: f.__name__)
def test_losses_are_logged_at_each_interval_and_at_the_end(technique, interval, expected, tmp_path):
    torch.manual_seed(0)
    module, data = technique(tmp_path)
    logger, seen = CSVLogger(tmp_path), []
    logger.log_metrics = lambda metrics, step=None: seen.append((step, set(metrics)))
    settings = dict(max_steps=3, log_every_n_steps=interval, limit_val_batches=0)
    tiny_trainer(tmp_path, logger=logger, **settings).fit(module, data)
    losses = [step for step, names in seen if any(name.startswith("loss/") for name in names)]
    assert len(losses) == len(expected)
