import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning import Trainer
from torch import nn

from novum.datamodules import SingleImageDataModule
from novum.lightning_modules import DeepDream
from novum.lightning_modules.dreams.deep_dream import normalised, resized, tiles, zoomed
from novum.lightning_modules.dreams.gradient_blur import smooth
from novum.lightning_modules.networks import Backbone

pytestmark = pytest.mark.filterwarnings("ignore:.*litlogger.*")


class Tiny(nn.Module):
    """Three layers whose activations change with every pixel."""

    num_classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 6, 3, stride=2, padding=1)
        self.act = nn.ReLU()
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.act(self.second(self.first(x))).mean((2, 3)))


@pytest.fixture
def tiny(monkeypatch) -> Backbone:
    from novum.lightning_modules.networks.backbones import backbone, building

    torch.manual_seed(0)
    network = building.Network(Tiny(), 32, (0.5,) * 3, (0.5,) * 3, ["a", "b", "c", "d"])
    monkeypatch.setattr(backbone, "build", lambda name, weights: network)
    return Backbone("tiny", "none")


def dream(
    backbone: Backbone,
    max_steps: int = -1,
    size: int = 24,
    resume: str | None = None,
    **settings,
) -> DeepDream:
    settings = {"layers": ["act"], "steps": 3, "octaves": (-1, 0), "octave_scale": 1.5} | settings
    module = DeepDream(backbone, **settings)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, SingleImageDataModule("flower.jpg", size=size), ckpt_path=resume)
    return module


def test_the_objective_grows(tiny):
    still, moved = (dream(tiny, octaves=(0, 0), step_size=size) for size in (0.0, 0.01))
    with torch.no_grad():
        before, after = (m.objective(tiny, m.image) for m in (still, moved))
    assert after > 1.05 * before


def test_the_module_knows_its_length_and_sizes(tiny):
    module = dream(tiny)
    assert module.images_seen == module.total_steps == 6
    assert module.image.shape == (1, 3, 16, 24)
    assert module.sample(2).shape == (2, 3, 16, 24) and module.sample(1).dtype == torch.uint8
    assert [s.size for s in module.stages((16, 24))] == [(11, 16), (16, 24)]


def test_the_same_seed_gives_the_same_dream(tiny):
    first, again, other = (dream(tiny, seed=seed).sample(1) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_step_is_tensorflows_recipe(tiny):
    """x + step * g / std(g), clipped, without jitter (the tutorial's simple form)."""
    module = dream(tiny, max_steps=1, octaves=(0, 0), jitter=0, step_size=0.1)
    image = SingleImageDataModule("flower.jpg", size=24).train_reference()[:] / 255
    image.requires_grad_()
    tiny.network(image * 2 - 1)
    x = tiny.network.act(tiny.network.second(tiny.network.first(image * 2 - 1))).mean()
    (g,) = torch.autograd.grad(x, image)
    expected = (image + 0.1 * g / g.std()).clamp(0, 1)
    assert torch.allclose(module.image, expected, atol=1e-5)


def test_reinjection_adds_the_dream_to_the_source_at_each_size(tiny):
    """With steps of no length nothing is dreamt, and each octave starts from the source itself."""
    kept = dream(tiny, reinject=True, step_size=0.0)
    lost = dream(tiny, reinject=False, step_size=0.0)
    assert torch.allclose(kept.image, kept.source, atol=1e-6)
    assert not torch.allclose(lost.image, lost.source, atol=1e-2)  # enlarged from the small one


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(64, 1024))
def test_tiles_cover_every_pixel_once(height, width, largest):
    rows = sorted({(r.start, r.stop) for r, _ in tiles((height, width), largest)})
    columns = sorted({(c.start, c.stop) for _, c in tiles((height, width), largest)})
    for cuts, side in ((rows, height), (columns, width)):
        assert cuts[0][0] == 0 and cuts[-1][1] == side
        assert all(a[1] == b[0] for a, b in zip(cuts, cuts[1:], strict=False))
        assert all(0 < stop - start <= largest for start, stop in cuts)


def test_a_tiled_gradient_is_that_of_the_whole_away_from_the_seams(tiny):
    module = DeepDream(tiny, ["act"], tile=64)
    image = torch.rand(1, 3, 96, 64)
    value, tiled = module.gradient(image)
    module.tile = 512
    whole_value, whole = module.gradient(image)
    apart = [row for row in range(96) if abs(row - 48) > 4]
    assert torch.allclose(tiled[:, :, apart], whole[:, :, apart], atol=1e-7)
    assert value == pytest.approx(float(whole_value), rel=0.05)


def test_channels_and_units_move_only_what_they_see(tiny):
    module = DeepDream(tiny, ["second"], channels=[2], unit=(4, 4))
    _, gradient = module.gradient(torch.rand(1, 3, 32, 32))
    rows, columns = gradient[0].abs().sum(0).nonzero(as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (6, 10)  # the unit's receptive field
    assert (int(columns.min()), int(columns.max())) == (6, 10)


def test_a_guide_draws_towards_itself(tiny):
    """Google's guided gradient: the layer's, towards each place's best match in the guide."""
    module = DeepDream(tiny, ["second"])
    guide, image = torch.rand(2, 1, 3, 16, 16).unbind()
    module.objective.look_at(tiny, guide)
    x = tiny.activations(image, ["second"])["second"].flatten(2)[0].requires_grad_()
    y = tiny.activations(guide, ["second"])["second"].flatten(2)[0]
    best = y[:, (x.detach().T @ y).argmax(1)]
    (gradient,) = torch.autograd.grad(module.objective._value("second", x[None]), x)
    assert torch.allclose(gradient, best / best.numel(), atol=1e-7)


def test_the_animation_keeps_one_frame_per_enlargement(tiny):
    module = dream(tiny, zoom_frames=3, zoom_steps=2, octaves=(0, 0))
    assert len(module.frames) == 4
    assert module.images_seen == 3 + 3 * 2


def test_zooming_keeps_the_middle():
    image = torch.zeros(1, 3, 33, 33)
    image[:, :, 16, 16] = 1
    assert zoomed(image, 1.2)[0, 0].argmax() == 16 * 33 + 16


def test_normalisations():
    g = torch.randn(1, 3, 8, 8) + 2
    assert normalised(g, "std").std() == pytest.approx(1, abs=1e-5)
    assert normalised(g, "mean").abs().mean() == pytest.approx(1, abs=1e-5)
    assert normalised(g, "standardise").mean() == pytest.approx(0, abs=1e-5)


def test_smoothing_is_three_gaussian_blurs():
    x = torch.randn(1, 3, 20, 20, dtype=torch.float64)
    place = torch.arange(9, dtype=torch.float64) - 4
    expected = 0
    for sigma in (0.35, 0.7, 1.4):
        row = (-0.5 * (place / sigma) ** 2).exp()
        kernel = torch.outer(row, row)
        kernel = (kernel / kernel.sum()).expand(3, 1, 9, 9)
        padded = nn.functional.pad(x, [4] * 4, mode="reflect")
        expected = expected + nn.functional.conv2d(padded, kernel, groups=3) / 3
    assert torch.allclose(smooth(x, 0.7), expected, atol=1e-6)


def test_resizing_to_the_same_size_is_a_copy():
    x = torch.rand(1, 3, 5, 5)
    y = resized(x, (5, 5))
    assert torch.equal(x, y) and y is not x


def test_a_resumed_dream_goes_on_bit_for_bit(tiny, tmp_path):
    """From within the second octave, whose size the checkpoint's image has."""
    whole, half = dream(tiny, reinject=True), dream(tiny, max_steps=4, reinject=True)
    half.trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = dream(tiny, reinject=True, resume=str(tmp_path / "half.ckpt"))
    assert resumed.images_seen == 6
    assert torch.equal(resumed.image, whole.image)


def test_checkpoints_hold_the_image_alone(tiny):
    assert list(DeepDream(tiny, ["act"]).state_dict()) == ["image"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": ["akt"]}, "no layer 'akt'; near it are .*act"),
        ({"layers": []}, "layers is empty"),
        ({"layers": ["head"]}, "layer 'head' has no spatial positions"),
        ({"channels": [6]}, "channels 0 to 7, not 99|channels 0 to 5, not 6"),
        ({"octaves": (2, 1)}, "octaves are 2 to 1"),
        ({"octave_scale": 1.0}, "octave_scale is 1.0"),
        ({"steps": 0}, "steps is 0"),
        ({"tile": 8}, "tile is 8"),
    ],
)
def test_mistakes_are_told(tiny, settings, message):
    with pytest.raises(ValueError, match=message):
        DeepDream(tiny, **({"layers": ["second"]} | settings))


def test_a_unit_outside_is_told(tiny):
    module = DeepDream(tiny, ["second"], unit=(40, 0))
    with pytest.raises(ValueError, match="unit is 40, 0, but the layer has 16 x 16 places"):
        module.gradient(torch.rand(1, 3, 32, 32))
