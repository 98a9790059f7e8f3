"""StyleGAN's training: its penalties in closed form, exact resume, roll-back, transfer."""

from copy import deepcopy

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from novum.lightning_modules import AdaptiveAugment, DiffAugment, StyleGAN
from novum.lightning_modules.stylegan.stylegan import lazy_adam
from tests.tiny import TinyImages, states_equal, tiny_stylegan, tiny_trainer, train_tiny


def keeping(tmp_path, steps: int) -> dict:
    keep = ModelCheckpoint(
        tmp_path, filename="mid", every_n_train_steps=steps, enable_version_counter=False
    )
    return {"enable_checkpointing": True, "callbacks": [keep]}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"path_length_weight": 0.0, "style_mixing": 0.0},
        {"r1_gamma": 0.0, "augment": DiffAugment()},
        {"num_classes": 2, "r1_interval": 1, "accumulate": 2},
        {"ema_kimg": 0.1, "ema_ramp": None, "clip_gradient_norm": 1.0},
    ],
    ids=["default", "plain", "augment", "conditional", "ema"],
)
def test_every_variant_moves_both_networks(tmp_path, settings):
    gan = tiny_stylegan(**settings)
    before = {k: v.clone() for k, v in gan.state_dict().items()}
    train_tiny(tmp_path, gan)
    state = gan.state_dict()
    for key in (
        "generator.synthesis.constant",
        "generator.mapping.layers.0.weight",
        "discriminator.dense.weight",
        "ema.synthesis.constant",
    ):
        assert not torch.equal(before[key], state[key]), key
    assert all(v.isfinite().all() for v in state.values())
    assert gan.images_seen == 4 * 8


@pytest.mark.parametrize(
    "settings",
    [
        {"r1_interval": 3, "path_length_interval": 2},
        {"num_classes": 2, "accumulate": 2, "augment": DiffAugment()},
        {"augment": AdaptiveAugment("bgcfnc", p=0.5, interval=3, speed_kimg=1.0)},
    ],
    ids=["lazy", "conditional", "ada"],
)
def test_resume_is_bit_exact(tmp_path, settings):
    """Optimizers, EMA, mean w, mean path length, image counter, random numbers, data order."""
    whole, first, resumed = (tiny_stylegan(**deepcopy(settings)) for _ in range(3))
    train_tiny(tmp_path, whole, max_steps=7)
    train_tiny(tmp_path, first, max_steps=4, **keeping(tmp_path, 4))
    torch.manual_seed(123)  # a new process has another global state
    train_tiny(
        tmp_path,
        resumed,
        ckpt_path=str(tmp_path / "mid.ckpt"),
        max_steps=7,
        **keeping(tmp_path, 4),
    )
    assert states_equal(whole.state_dict(), resumed.state_dict())
    assert whole.images_seen == resumed.images_seen == 7 * 8
    for ours, theirs in zip(resumed.trainer.optimizers, whole.trainer.optimizers, strict=True):
        a, b = ours.state_dict()["state"], theirs.state_dict()["state"]
        assert all(states_equal(a[k], b[k]) for k in a) and a.keys() == b.keys()
    assert float(whole.path_length_mean) > 0
    assert float(whole.ema.mean_w.abs().sum()) > 0


def test_bf16_trains_and_resumes_exactly(tmp_path):
    """Path lengths and logits stay in float32; what is saved goes on bit for bit."""
    mixed = dict(precision="bf16-mixed", max_steps=4)
    whole, resumed = tiny_stylegan(), tiny_stylegan()
    train_tiny(tmp_path, whole, **mixed)
    train_tiny(tmp_path, tiny_stylegan(), **(mixed | {"max_steps": 2}), **keeping(tmp_path, 2))
    start = str(tmp_path / "mid.ckpt")
    train_tiny(tmp_path, resumed, ckpt_path=start, **mixed, **keeping(tmp_path, 2))
    assert all(v.isfinite().all() for v in whole.state_dict().values())
    assert all(v.dtype == torch.float32 for v in whole.generator.state_dict().values())
    assert states_equal(whole.state_dict(), resumed.state_dict())


def test_lazy_adam_is_corrected():
    optimizer = lazy_adam(torch.nn.Linear(2, 2), 0.0025, (0.0, 0.99), 4)
    group = optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(0.002)
    assert group["betas"] == (0.0, pytest.approx(0.99**0.8))
    assert lazy_adam(torch.nn.Linear(2, 2), 1.0, (0.0, 0.5), None).param_groups[0]["lr"] == 1.0


def test_path_length_is_the_norm_of_the_jacobian_product(tmp_path):
    """Against J^T y, the Jacobian taken row by row."""
    gan = tiny_stylegan(style_mixing=0.0)
    gan.trainer = tiny_trainer(tmp_path)
    gan.generator.eval()
    torch.manual_seed(3)
    found = gan._path_lengths(2, None).detach()
    torch.manual_seed(3)
    ws = gan._styles(2, None).detach()
    y = torch.randn(2, 1, 8, 8) / 8
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(gan.generator.synthesis, ws[i : i + 1])
        product = torch.einsum("abhwcsd,abhw->sd", jacobian, y[i : i + 1])
        torch.testing.assert_close(found[i], product.square().sum(1).mean().sqrt())


def test_auto_settings_follow_size_and_batch(tmp_path):
    gan = tiny_stylegan(r1_interval=1, path_length_weight=0.0)
    assert gan._half_life(32) == 0.0  # the ramp's start
    gan.images_seen = 10**9
    assert gan._half_life(32) == 10.0
    gan.images_seen = 0
    trainer = tiny_trainer(tmp_path, max_steps=1)
    trainer.fit(gan, TinyImages())
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0025  # no lazy penalty on it
    assert trainer.optimizers[1].param_groups[0]["lr"] == pytest.approx(0.0025 / 2)


def test_styles_are_mixed_from_a_random_layer_on(tmp_path):
    gan, plain = tiny_stylegan(style_mixing=1.0), tiny_stylegan(style_mixing=0.0)
    gan.trainer = plain.trainer = tiny_trainer(tmp_path)
    ws = gan._styles(3, None)
    changes = (ws[:, 1:] != ws[:, :-1]).any(2)
    assert torch.equal(changes.sum(1), torch.ones(3, dtype=torch.long))
    same = plain._styles(3, None)
    assert torch.equal(same, same[:, :1].expand_as(same))


class Breaks(StyleGAN):
    """Not a number at the steps in `at`."""

    at: set[int] = set()

    def training_step(self, batch, batch_idx):
        self.number = self.global_step  # which the discriminator's update advances
        super().training_step(batch, batch_idx)

    def _logits(self, images, labels):
        bad = self.number in self.at
        return super()._logits(images, labels) * (float("nan") if bad else 1.0)


def breaking(at: set[int]) -> Breaks:
    gan = tiny_stylegan()
    gan.__class__, gan.at = Breaks, at
    return gan


def test_nan_rolls_back_to_the_last_checkpoint(tmp_path):
    gan = breaking({3})
    with pytest.warns(UserWarning, match=r"loss/\w+ is nan at step 3.*went back to .*mid.ckpt"):
        train_tiny(tmp_path, gan, max_steps=6, **keeping(tmp_path, 2))
    assert gan.rollbacks == 1
    assert all(v.isfinite().all() for v in gan.state_dict().values())
    assert (
        gan.images_seen == 4 * 8
    )  # 2 before the checkpoint, 2 after; the broken ones do not count
    assert torch.load(tmp_path / "mid.ckpt", weights_only=True)["rollbacks"] == 1


@pytest.mark.filterwarnings("ignore:loss/")
def test_the_fourth_nan_stops(tmp_path):
    gan = breaking({3, 4, 5, 6})
    with pytest.raises(FloatingPointError, match="stopped after 3 roll-backs: loss/"):
        train_tiny(tmp_path, gan, max_steps=9, **keeping(tmp_path, 2))


def test_nan_without_a_checkpoint_stops(tmp_path):
    with pytest.raises(FloatingPointError, match="stopped before any checkpoint: loss/"):
        train_tiny(tmp_path, breaking({1}), max_steps=4)


def test_transfer_takes_weights_and_no_more(tmp_path, caplog):
    source = train_tiny(tmp_path, tiny_stylegan(), max_steps=2, **keeping(tmp_path, 2))
    # of another number of classes: what fits is taken
    target = tiny_stylegan(
        num_classes=2, transfer=str(tmp_path / "mid.ckpt"), freeze_discriminator=1
    )
    frozen = source.discriminator.blocks[0].first.weight.clone()
    caplog.set_level("INFO")
    train_tiny(tmp_path, target, max_steps=1)
    (said,) = (x for x in caplog.messages if x.startswith("transferred "))
    assert "these begin anew: generator.mapping" in said and " in it, " in said
    assert target.images_seen == 8
    assert torch.equal(target.discriminator.blocks[0].first.weight, frozen)
    assert not torch.equal(target.discriminator.last.weight, source.discriminator.last.weight)
    moved = target.generator.synthesis.constant - source.generator.synthesis.constant
    assert 0 < float(moved.detach().abs().max()) < 0.02  # two updates away


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x8c\x02os\x8c\x06system\x93.", b"text"])
def test_files_that_are_no_checkpoints_are_refused(tmp_path, content):
    path = tmp_path / "network.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a Novum checkpoint .* never unpickled"):
        train_tiny(tmp_path, tiny_stylegan(transfer=str(path)))
    with pytest.raises(ValueError, match="does not exist"):
        train_tiny(tmp_path, tiny_stylegan(transfer=str(tmp_path / "none.ckpt")))


def test_samples_depend_on_the_seed_alone_and_heed_truncation():
    gan = tiny_stylegan()
    first = gan.sample(70, seed=3)
    assert first.shape == (70, 1, 8, 8) and first.dtype == torch.uint8
    assert torch.equal(first, gan.sample(70, seed=3))
    assert torch.equal(gan.sample(5, seed=3), gan.decode(gan.sample_latents(5, seed=3)))
    gan.truncation_psi = 0.0
    flat = gan.sample(3, seed=3)
    assert torch.equal(flat[0], flat[1])  # the mean image


def test_at_psi_0_is_the_mean_of_the_class():
    gan = tiny_stylegan(num_classes=3)
    labels = torch.arange(6) % 3
    ws = gan.map_latents(gan.sample_latents(6, seed=3), labels=labels)
    flat = gan.synthesize(ws, psi=0.0, labels=labels)
    means = gan.synthesize(gan.ema.class_means()[:, None].expand(3, gan.ema.num_styles, -1), psi=1)
    assert torch.equal(flat, means[labels])  # whatever the latents
    assert len(flat.unique(dim=0)) == 3
    gan.truncation_psi = 0.0
    assert torch.equal(gan.sample(6, seed=3, labels=labels), flat)


def test_images_from_styles_do_not_depend_on_batch_splits():
    gan = tiny_stylegan(num_classes=3)
    labels = torch.arange(70) % 3
    ws = gan.map_latents(gan.sample_latents(70, seed=0), labels=labels)
    assert ws.shape == (70, gan.ema.num_styles, 4)
    parts = torch.cat([gan.synthesize(w) for w in ws.split(13)])
    assert torch.equal(gan.synthesize(ws), parts)
    assert torch.equal(parts, gan.decode(gan.sample_latents(70, seed=0), labels=labels))


@pytest.mark.parametrize(
    "settings,match",
    [
        ({"style_mixing": 1.5}, "style_mixing is 1.5: it is a share"),
        ({"r1_interval": 0}, "r1_interval is 0: it must be at least 1"),
        ({"lr": -1.0}, "lr is -1.0: it must be at least 0"),
    ],
)
def test_bad_settings(settings, match):
    with pytest.raises(ValueError, match=match):
        tiny_stylegan(**settings)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_networks_train_and_compute_the_same(tmp_path):
    """In evaluation: compiled code draws the pixel noise of training in an order of its own."""
    gan = train_tiny(tmp_path, tiny_stylegan(compile_networks=True)).eval()
    assert gan.state_dict().keys() == tiny_stylegan().state_dict().keys()
    with torch.no_grad():
        ws = gan.generator.map(torch.randn(8, 4))
        images = gan.generator.synthesis(ws)
        torch.testing.assert_close(
            images, gan.generator.synthesis.forward(ws), rtol=1e-3, atol=1e-4
        )
        logits = gan.discriminator(images)
        torch.testing.assert_close(logits, gan.discriminator.forward(images), rtol=1e-3, atol=1e-4)
