"""Training against a bare loop; samples, guidance, edits, checkpoints, and validation's figures."""

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from novum.core.seeds import derived_seed
from novum.datamodules import ImageDataModule
from novum.lightning_modules import EDM, RK45, Euler, FlowMatching, Heun, RectifiedFlow
from novum.lightning_modules.networks import DCGANGenerator, DiT
from novum.lightning_modules.training_utils import ema_decay
from tests.tiny import TinyImages, awake, states_equal, tiny_flow, tiny_trainer

SOLVERS = {"Euler": Euler(5), "Heun": Heun(3), "RK45": RK45(0.1, 0.1)}
PROCESSES = {"rectified flow": RectifiedFlow(), "EDM": EDM()}


def trained(tmp_path, module=None, data=None, ckpt_path=None, **settings) -> FlowMatching:
    module = module if module is not None else tiny_flow()
    trainer = tiny_trainer(tmp_path, **settings)
    data = data if data is not None else TinyImages(num_classes=module.num_classes)
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return module


def moving(num_classes: int = 3, **settings) -> FlowMatching:
    """A network that is not zero at its end."""
    module = tiny_flow(num_classes, **settings)
    awake(module.ema)
    return module


# -- training ------------------------------------------------------------------------------------


def test_same_weights_as_a_bare_loop(tmp_path):
    """Lipman et al. (2023), with Adam: one random time of the batch, the others evenly after it."""
    ours, reference = trained(tmp_path, max_steps=4), tiny_flow()
    network, average = reference.network, reference.ema
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for step in range(4):
        rate = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / 4)))
        optimizer.param_groups[0]["lr"] = 1e-3 * float(rate)
        x1 = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(step)) * 2 - 1
        torch.manual_seed(derived_seed(0, 8 * step, 0))
        t = (torch.rand(1) + torch.arange(8) / 8) % 1
        torch.rand(8)  # of labels that are hidden
        x0 = torch.randn(8, 1, 8, 8)
        s = t[:, None, None, None]
        loss = (network(s * x1 + (1 - s) * x0, t) - (x1 - x0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay = ema_decay(8, 0.05 * 8 * (step + 1) / 1000)
        for a, w in zip(average.parameters(), network.parameters(), strict=True):
            a.data.lerp_(w.data, 1 - decay)
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-4, atol=1e-6)
    assert ours.images_seen == 32


@pytest.mark.parametrize("settings", [
    {}, {"process": EDM()}, {"optimal_transport": True}, {"optimizer": torch.optim.AdamW},
])  # fmt: skip
def test_resumes_bit_for_bit(settings, tmp_path):
    def run(folder, **options):
        kept = ModelCheckpoint(tmp_path / folder, "{step}", every_n_train_steps=3, save_top_k=-1)
        options |= {"max_steps": 6, "callbacks": [kept], "enable_checkpointing": True}
        return trained(tmp_path, tiny_flow(2, **settings), **options)

    whole = run("whole")
    parts = run("parts", ckpt_path=str(tmp_path / "whole" / "step=3.ckpt"))
    assert states_equal(whole.state_dict(), parts.state_dict())
    assert whole.images_seen == parts.images_seen == 48


def test_accumulated_batches_differ_and_the_average_follows_the_images(tmp_path):
    module, times = tiny_flow(ema_kimg=0.001), []
    module.process = type("Spy", (RectifiedFlow,), {
        "draw_times": lambda self, u: times.append(u.clone()) or u})()  # fmt: skip
    trained(tmp_path, module, max_steps=2, accumulate_grad_batches=3)
    assert len(times) == 6 and module.images_seen == 48
    assert len({float(t[0]) for t in times}) == 6
    for t in times:  # spread evenly
        torch.testing.assert_close(t.sort()[0].diff(), torch.full((7,), 1 / 8))


def test_labels_are_hidden_at_their_rate(tmp_path):
    module, seen = tiny_flow(2, label_dropout=0.25), []
    forward = module.network.forward
    module.network.forward = lambda x, t, y: seen.append(y.clone()) or forward(x, t, y)
    trained(tmp_path, module, max_steps=40)
    labels = torch.cat(seen)
    assert set(labels.tolist()) == {0, 1, 2}
    assert float((labels == 2).double().mean()) == pytest.approx(0.25, abs=0.08)


def test_training_lowers_the_loss_of_images_it_has_seen_and_not(tmp_path):
    data = ImageDataModule("digits", image_size=8, batch_size=32)
    module = tiny_flow(10, lr=3e-3, likelihood_images=8)
    data.setup()
    held = data.heldout_reference()
    rows = torch.arange(64)
    before = module.item_losses(held[rows], labels=held.labels[rows]).mean()
    bits = module.bits_per_dim(held[rows[:16]], labels=held.labels[rows[:16]]).bits.mean()
    trained(tmp_path, module.train(), data, max_steps=150)
    after = module.item_losses(held[rows], labels=held.labels[rows]).mean()
    assert after < 0.5 * before
    assert (
        module.bits_per_dim(held[rows[:16]], labels=held.labels[rows[:16]]).bits.mean() < bits - 1
    )


# -- sampling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_samples_depend_on_the_seed_alone(process, solver, guidance):
    settings = {"process": PROCESSES[process], "sampler": SOLVERS[solver], "guidance": guidance}
    module = moving(**settings)
    whole = module.sample(67, seed=3)
    assert whole.dtype == torch.uint8 and whole.shape == (67, 1, 8, 8)
    assert torch.equal(module.sample(67, seed=3), whole)
    assert torch.equal(module.sample(5, seed=3), whole[:5])
    labels = torch.arange(67) % 3
    assert torch.equal(module.sample(67, seed=3, labels=labels), whole)
    assert not torch.equal(module.sample(5, seed=4), whole[:5])
    latents = module.sample_latents(67, seed=3)
    assert torch.equal(module.decode(latents[:9], labels=labels[:9]), whole[:9])


@pytest.mark.parametrize(("process", "solver", "expected"), [
    ("rectified flow", "Euler", 6), ("rectified flow", "Heun", 7), ("EDM", "Heun", 7),
])  # fmt: skip
@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_evaluations_are_counted(process, solver, expected, guidance):
    module = moving(process=PROCESSES[process], sampler=SOLVERS[solver], guidance=guidance)
    asked = []
    module.ema.register_forward_hook(lambda _, inputs, out: asked.append(len(inputs[0])))
    module.sample(64, seed=0)
    assert sum(asked) / 64 == expected * (2 if guidance != 1 else 1)
    assert module.evaluations == [sum(asked), 64]


def test_guidance_is_its_formula():
    module = moving(3, guidance=3.0)
    x, t, labels = torch.randn(4, 64), torch.rand(4), torch.tensor([0, 1, 2, 0])
    images = x.view(4, 1, 8, 8)
    with torch.no_grad():
        given, free = module.ema(images, t, labels), module.ema(images, t, None)
        found = module._flow().velocity(x, t, labels).view_as(images)
        assert torch.equal(free, module.ema(images, t, torch.full((4,), 3)))
    torch.testing.assert_close(found, free + 3 * (given - free))
    assert not torch.allclose(given, free)


def test_classes_make_different_images():
    module = moving(3)
    one, other = (module.sample(4, seed=0, labels=torch.full((4,), y)) for y in (0, 1))
    assert not torch.equal(one, other)
    with pytest.raises(ValueError, match="a label of the data is 3"):
        module.sample(1, labels=torch.tensor([3]))


# -- editing -------------------------------------------------------------------------------------

ASKED = torch.randint(256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_known_pixels_stay_and_the_hole_is_filled_alike_in_any_batch(process, solver):
    module = moving(process=PROCESSES[process], sampler=SOLVERS[solver])
    hole = torch.zeros(8, 8, dtype=torch.bool)
    hole[:, 4:] = True
    found = module.inpaint(ASKED, hole, seed=0, labels=torch.arange(5) % 3)
    assert torch.equal(found[..., :4], ASKED[..., :4])
    assert not torch.equal(found[..., 4:], ASKED[..., 4:])
    assert torch.equal(module.inpaint(ASKED[:2], hole, seed=0, labels=torch.arange(2)), found[:2])
    changed = ASKED.clone()
    changed[..., 4:] = 0  # what is in the hole is not looked at
    assert torch.equal(module.inpaint(changed, hole, seed=0, labels=torch.arange(5) % 3), found)
    changed[..., :4] = 255 - changed[..., :4]  # what is beside it is
    other = module.inpaint(changed, hole, seed=0, labels=torch.arange(5) % 3)
    assert not torch.equal(other[..., 4:], found[..., 4:])


@pytest.mark.parametrize("process", PROCESSES)
def test_less_strength_stays_nearer(process):
    module = moving(process=PROCESSES[process])
    far = [
        float((module.vary(ASKED, strength, seed=0).float() - ASKED.float()).abs().mean())
        for strength in (0.02, 0.4, 1.0)
    ]
    assert far[0] < 12 and far[0] < far[1] < far[2] * 1.5
    assert torch.equal(module.vary(ASKED[:2], 0.4, seed=0), module.vary(ASKED, 0.4, seed=0)[:2])


@pytest.mark.parametrize(("call", "says"), [
    (lambda m: m.vary(ASKED, 0.0), "strength is 0.0"),
    (lambda m: m.vary(ASKED, 1.5), "strength is 1.5"),
    (lambda m: m.vary(ASKED[..., :4]), r"images are \(1, 8, 4\)"),
    (lambda m: m.inpaint(ASKED, torch.ones(8, 8)), "the hole must be a mask"),
    (lambda m: m.inpaint(ASKED, torch.ones(4, 4, dtype=torch.bool)), "the hole must be a mask"),
    (lambda m: m.vary(ASKED, labels=torch.full((5,), 7)), "a label of the data is 7"),
])  # fmt: skip
def test_edits_that_cannot_be(call, says):
    with pytest.raises(ValueError, match=says):
        call(moving())


# -- validation, checkpoints, mistakes -----------------------------------------------------------


def validated(tmp_path, batch_size: int, **settings) -> dict[str, float]:
    module = tiny_flow(10, likelihood_images=12, **settings)
    data = ImageDataModule("digits", image_size=8, batch_size=batch_size, split_seed=1)
    trainer = tiny_trainer(tmp_path, limit_val_batches=48 // batch_size)
    trainer.validate(module, data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_validation_does_not_depend_on_batches(tmp_path):
    one, other = validated(tmp_path, 16), validated(tmp_path, 4)
    names = {"val/loss", "val/train_loss", "val/bits_per_dim", "val/bits_per_dim_error"}
    assert one.keys() == names
    assert other == pytest.approx(one, rel=1e-5)
    assert validated(tmp_path, 16, process=EDM()).keys() == names
    # of noise that answers nothing: the variance of image - noise, and bits of a wide Gaussian
    assert one["val/loss"] == pytest.approx(one["val/train_loss"], rel=0.1)
    assert 7 < one["val/bits_per_dim"] < 10


def test_the_loss_of_an_image_is_a_function_of_it():
    module = moving(3)
    labels = torch.arange(5) % 3
    whole = module.item_losses(ASKED, labels=labels)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(module.item_losses(ASKED[order], labels=labels[order]), whole[order])
    assert len(whole.unique()) == 5


def test_a_checkpoint_holds_the_module(tmp_path):
    module = trained(tmp_path, tiny_flow(2, guidance=1.5), max_steps=2)
    module.trainer.save_checkpoint(tmp_path / "x.ckpt")
    again = FlowMatching.load_from_checkpoint(tmp_path / "x.ckpt", network=tiny_flow(2).network)
    assert torch.equal(again.sample(3, seed=0), module.sample(3, seed=0))
    assert again.images_seen == 16 and again.guidance == 1.5


@pytest.mark.parametrize(("make", "says"), [
    (lambda: FlowMatching(DCGANGenerator(8, 1)), "DCGANGenerator.*has no image_size"),
    (lambda: tiny_flow(guidance=2.0), "guidance is 2.0: it needs a network with classes"),
    (lambda: tiny_flow(2, guidance=2.0, label_dropout=0.0), "label_dropout above 0"),
    (lambda: tiny_flow(2, label_dropout=1.5), "label_dropout is 1.5"),
    (lambda: tiny_flow(likelihood_images=-1), "likelihood_images is -1"),
])  # fmt: skip
def test_settings_out_of_range(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_classes_are_left_out_where_they_are_not_wanted(tmp_path):
    module, seen = tiny_flow(2, use_labels=False), []
    forward = module.network.forward
    module.network.forward = lambda x, t, y: seen.append(y) or forward(x, t, y)
    trained(tmp_path, module, TinyImages(num_classes=2), max_steps=2)
    assert seen == [None, None]
    assert module.num_classes == 0
    given = module.sample(3, seed=0, labels=torch.tensor([0, 1, 1]))
    assert torch.equal(given, module.sample(3, seed=0))


def test_images_of_another_size_are_refused(tmp_path):
    torch.manual_seed(0)
    module = FlowMatching(DiT(12, 1, 0, width=8, depth=1, heads=1))
    with pytest.raises(ValueError, match=r"images are \(1, 8, 8\), and the model's \(1, 12, 12\)"):
        trained(tmp_path, module, max_steps=1)


def test_data_without_labels_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the data has no labels"):
        trained(tmp_path, tiny_flow(2), TinyImages(), max_steps=1)


def test_a_transformer_learns_as_well(tmp_path):
    torch.manual_seed(0)
    module = FlowMatching(DiT(8, 1, 10, width=32, depth=2, heads=2), lr=2e-3)
    data = ImageDataModule("digits", image_size=8, batch_size=32)
    trainer = tiny_trainer(tmp_path, max_steps=120)
    trainer.fit(module, data)
    rows = torch.arange(64)
    held = data.heldout_reference()
    assert module.item_losses(held[rows], labels=held.labels[rows]).mean() < 0.9
