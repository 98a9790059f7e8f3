"""The GAN against a bare PyTorch loop, and everything a training run must not get wrong."""

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins import MixedPrecision

from novum.core.pixels import signed_to_uint8, uint8_to_signed
from novum.core.seeds import derived_seed
from novum.lightning_modules import GAN, DiffAugment, losses
from novum.lightning_modules.networks import DCGANDiscriminator, MaxoutGenerator
from novum.lightning_modules.sampling import SAMPLE_CHUNK
from novum.lightning_modules.training_utils import LossWindow, ema_decay
from tests.tiny import (
    TinyImages,
    states_equal,
    tiny_gan,
    tiny_trainer,
    train_tiny,
)


def weights(gan: GAN) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in gan.state_dict().items()}


def batch_of(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.rand(8, 1, 8, 8, generator=generator) * 2 - 1


def bare_loop(gan: GAN, steps: int) -> GAN:
    """The algorithm of Goodfellow et al. (2014), written out."""
    generator, discriminator = gan.generator, gan.discriminator
    g_opt = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    d_opt = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    softplus = torch.nn.functional.softplus
    for step in range(steps):
        torch.manual_seed(derived_seed(0, step, 0))
        real = batch_of(step)
        fake = generator(torch.randn(8, 4))
        d_opt.zero_grad()
        d_real, d_fake = discriminator(real), discriminator(fake.detach())
        (softplus(-d_real).mean() + softplus(d_fake).mean()).backward()
        d_opt.step()
        g_opt.zero_grad()
        softplus(-discriminator(fake)).mean().backward()
        g_opt.step()
    return gan


def test_same_weights_as_a_bare_loop(tmp_path):
    ours, reference = train_tiny(tmp_path, max_steps=5), bare_loop(tiny_gan(), 5)
    for name in ("generator", "discriminator"):
        a, b = getattr(ours, name).state_dict(), getattr(reference, name).state_dict()
        for key in a:
            # parameters alone: the bare loop's generator step also leaves D gradients behind
            torch.testing.assert_close(a[key], b[key], rtol=1e-5, atol=1e-6)


def test_global_step_counts_batches_and_images_are_counted(tmp_path):
    gan = tiny_gan(discriminator_steps=2)
    trainer = tiny_trainer(tmp_path, max_steps=6)
    trainer.fit(gan, TinyImages())
    assert trainer.global_step == 6
    assert gan.images_seen == 6 * 8


def test_generator_moves_every_kth_step(tmp_path):
    gan = tiny_gan(discriminator_steps=3)
    before = weights(gan)
    train_tiny(tmp_path, gan, max_steps=2)
    after = weights(gan)
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("ema"))
    parameters = dict(gan.generator.named_parameters())
    assert all(torch.equal(before[f"generator.{k}"], p) for k, p in parameters.items())
    assert not torch.equal(
        before["discriminator.score.weight"], after["discriminator.score.weight"]
    )
    gan = train_tiny(tmp_path, tiny_gan(discriminator_steps=3), max_steps=3)
    assert not torch.equal(before["generator.project.weight"], gan.generator.project.weight)


def test_ema_is_its_closed_form(tmp_path):
    class Recorder(GAN):
        def _step_raw(self, optimizer):
            super()._step_raw(optimizer)
            self.seen.append(self.generator.project.weight.detach().clone())

    gan = tiny_gan(ema_kimg=0.02)
    gan.__class__ = Recorder
    gan.seen = []
    start = gan.ema.project.weight.clone()
    train_tiny(tmp_path, gan, max_steps=4)
    decay = 0.5 ** (8 / 20)
    assert ema_decay(8, 0.02) == decay
    expected = start * decay**4
    for i, w in enumerate(gan.seen):
        expected = expected + (1 - decay) * decay ** (3 - i) * w
    torch.testing.assert_close(gan.ema.project.weight, expected)
    bn, ema_bn = gan.generator.layers[0], gan.ema.layers[0]
    assert torch.equal(bn.running_mean, ema_bn.running_mean)


def test_accumulation_is_the_whole_batch(tmp_path):
    """Without batch norm, parts of a batch give the same gradient as the batch."""

    def gan(**settings):
        # plain SGD: Adam would blow rounding differences of tiny gradients up
        def sgd(parameters):
            return torch.optim.SGD(parameters, lr=0.1)

        torch.manual_seed(0)
        return FixedLatents(
            MaxoutGenerator(8, 1, latent_dim=4, width=8),
            DCGANDiscriminator(8, 1, width=8, batch_norm=False),
            generator_optimizer=sgd,
            discriminator_optimizer=sgd,
            **settings,
        )

    class FixedLatents(GAN):
        def on_fit_start(self):
            pass

        def _latents(self, n):
            latents = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
            start = self.taken % 8
            self.taken += n
            return latents[start : start + n]

    trained = []
    for parts in (1, 4):
        made = gan(accumulate=parts)
        made.taken = 0
        trained.append(weights(train_tiny(tmp_path, made, max_steps=1)))
    for key in trained[0]:
        torch.testing.assert_close(trained[0][key], trained[1][key], rtol=1e-4, atol=1e-6)


def test_clipping_limits_the_gradient(tmp_path):
    norms = []

    class Recorder(GAN):
        def on_before_optimizer_step(self, optimizer):
            super().on_before_optimizer_step(optimizer)
            grads = [p.grad for g in optimizer.param_groups for p in g["params"]]
            norms.append(float(torch.cat([g.flatten() for g in grads]).norm()))

    gan = tiny_gan(clip_gradient_norm=0.01)
    gan.__class__ = Recorder
    train_tiny(tmp_path, gan, max_steps=2)
    assert len(norms) == 4  # both networks, twice
    assert all(norm <= 0.01 * 1.001 for norm in norms)


@pytest.mark.parametrize(
    "settings",
    [
        {"generator_loss": losses.minimax_generator_loss},
        {
            "generator_loss": losses.linear_generator_loss,
            "discriminator_loss": losses.hinge_discriminator_loss,
        },
        {
            "generator_loss": losses.least_squares_generator_loss,
            "discriminator_loss": losses.least_squares_discriminator_loss,
        },
        {
            "generator_loss": losses.linear_generator_loss,
            "discriminator_loss": losses.wasserstein_discriminator_loss,
            "gradient_penalty": 10.0,
        },
        {"r1_gamma": 1.0, "r1_interval": 2, "augment": DiffAugment()},
        {"num_classes": 3},
    ],
    ids=["minimax", "hinge", "least-squares", "wasserstein-gp", "r1+augment", "conditional"],
)
def test_every_variant_moves_both_networks(tmp_path, settings):
    gan = tiny_gan(**settings)
    before = weights(gan)
    train_tiny(tmp_path, gan)
    for key in ("generator.project.weight", "discriminator.score.weight", "ema.project.weight"):
        assert not torch.equal(before[key], gan.state_dict()[key])
        assert gan.state_dict()[key].isfinite().all()


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision(tmp_path, precision):
    plugin = MixedPrecision(precision, device="cpu")
    gan = tiny_gan(r1_gamma=1.0, clip_gradient_norm=10.0)
    full = weights(train_tiny(tmp_path, tiny_gan(r1_gamma=1.0, clip_gradient_norm=10.0)))
    before = weights(tiny_gan())
    train_tiny(tmp_path, gan, plugins=[plugin])
    for key in ("generator.project.weight", "discriminator.score.weight"):
        step = full[key] - before[key]
        mixed = gan.state_dict()[key] - before[key]
        assert torch.cosine_similarity(step.flatten(), mixed.flatten(), dim=0) > 0.8
    if plugin.scaler is not None:
        assert plugin.scaler.get_scale() > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_networks_train_alike(tmp_path):
    compiled = weights(train_tiny(tmp_path, tiny_gan(compile_networks=True, r1_gamma=1.0)))
    eager = weights(train_tiny(tmp_path, tiny_gan(r1_gamma=1.0)))
    assert compiled.keys() == eager.keys()
    for key in eager:
        torch.testing.assert_close(compiled[key], eager[key], rtol=1e-3, atol=1e-4)


def test_nan_stops_with_step_and_name_and_leaves_the_good_checkpoint(tmp_path):
    class Breaks(GAN):
        def _logits(self, images, labels):
            logits = super()._logits(images, labels)
            return logits * float("nan") if self.images_seen == 5 * 8 else logits

    gan = tiny_gan()
    gan.__class__ = Breaks
    keep = ModelCheckpoint(tmp_path, filename="last", every_n_train_steps=4, save_top_k=1)
    with pytest.raises(FloatingPointError, match=r"loss/discriminator is nan at step 5"):
        train_tiny(
            tmp_path,
            gan,
            max_steps=100,
            log_every_n_steps=50,
            enable_checkpointing=True,
            callbacks=[keep],
        )
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4
    assert all(v.isfinite().all() for v in saved["state_dict"].values())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"discriminator_steps": 3, "augment": DiffAugment()},
        {"num_classes": 2, "accumulate": 2},
        {"r1_gamma": 1.0, "r1_interval": 3},
    ],
)
def test_resume_is_bit_exact(tmp_path, settings):
    whole = train_tiny(tmp_path, tiny_gan(**settings), max_steps=7)
    keep = ModelCheckpoint(tmp_path, filename="mid", every_n_train_steps=4, save_top_k=-1)
    train_tiny(
        tmp_path, tiny_gan(**settings), max_steps=4, enable_checkpointing=True, callbacks=[keep]
    )
    resumed = tiny_gan(**settings)
    torch.manual_seed(123)  # a new process has another global state
    train_tiny(
        tmp_path,
        resumed,
        ckpt_path=str(tmp_path / "mid.ckpt"),
        max_steps=7,
        enable_checkpointing=True,
        callbacks=[ModelCheckpoint(tmp_path, filename="mid", every_n_train_steps=4, save_top_k=-1)],
    )
    assert states_equal(whole.state_dict(), resumed.state_dict())
    assert whole.images_seen == resumed.images_seen == 7 * 8


def test_samples_depend_on_the_seed_alone():
    gan = tiny_gan()
    first = gan.sample(70, seed=3)
    assert first.shape == (70, 1, 8, 8)
    assert first.dtype == torch.uint8
    assert torch.equal(first, gan.sample(70, seed=3))
    assert not torch.equal(first, gan.sample(70, seed=4))
    assert not torch.equal(gan.sample(4), gan.sample(4))


def test_samples_do_not_depend_on_batch_splits():
    gan = tiny_gan()
    latents = gan.sample_latents(2 * SAMPLE_CHUNK + 5, seed=0)
    whole = gan.decode(latents)
    parts = torch.cat([gan.decode(z) for z in latents.split(13)])
    assert torch.equal(whole, parts)


def test_sampling_leaves_training_untouched():
    gan = tiny_gan().train()
    before = weights(gan)
    gan.sample(4, seed=0)
    assert states_equal(before, gan.state_dict())
    assert gan.discriminator.training


def test_labels_select_classes():
    gan = tiny_gan(num_classes=3)
    gan.ema.embedding.weight.data.mul_(100)  # as learnt: it starts near zero
    latents = gan.sample_latents(1, seed=0).expand(3, -1)
    images = gan.decode(latents, labels=torch.tensor([0, 1, 0]))
    assert torch.equal(images[0], images[2])
    assert not torch.equal(images[0], images[1])


def test_conditional_model_on_unlabelled_data_says_so(tmp_path):
    with pytest.raises(ValueError, match="num_classes: 2, but the data has no labels"):
        tiny_trainer(tmp_path).fit(tiny_gan(num_classes=2), TinyImages())


def test_checkpoint_of_another_model_is_named():
    other = {"state_dict": {"generator.w": torch.zeros(2)}, "images_seen": 0}
    with pytest.raises(ValueError, match="checkpoint is of another model: .* missing"):
        tiny_gan().on_load_checkpoint(other)


def test_uint8_and_back_is_exact():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(signed_to_uint8(uint8_to_signed(levels)), levels)


def test_loss_window_means_and_empties():
    window = LossWindow()
    window.add(0, a=torch.tensor(1.0), b=torch.tensor(4.0))
    window.add(1, a=torch.tensor(3.0))
    assert window.pop() == {"a": 2.0, "b": 4.0}
    assert window.pop() == {}


def test_derived_seeds_differ():
    seeds = {derived_seed(s, step, r) for s in range(3) for step in range(50) for r in range(4)}
    assert len(seeds) == 600
