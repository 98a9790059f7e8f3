import pytest
import torch
from pytorch_lightning import Trainer

from novum.datamodules import SingleImageDataModule
from novum.lightning_modules import ClassVisualisation
from novum.lightning_modules.dreams.class_visualisation import total_variation
from novum.lightning_modules.networks import Backbone
from novum.lightning_modules.networks.fourier import FourierImage


@pytest.fixture(scope="module")
def backbone():
    return Backbone("efficientnet_lite0", weights="cache")


def visualise(backbone: Backbone, **settings) -> ClassVisualisation:
    settings = {"classes": ["banana"], "per_class": 2, "size": 48, "steps": 6, "view_size": 32,
                "views": 1} | settings  # fmt: skip
    module = ClassVisualisation(backbone, **settings)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=-1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, SingleImageDataModule("noise", size=8))
    return module


def logit(backbone: Backbone, module: ClassVisualisation) -> float:
    with torch.no_grad():
        return float(backbone.network(backbone.normalise(module.images()))[:, 954].mean())


def test_the_class_grows_on_the_network(backbone):
    start = ClassVisualisation(backbone, ["banana"], per_class=2, size=48)
    grown = visualise(backbone, steps=16, diversity=0)
    assert logit(backbone, grown) > logit(backbone, start) + 0.5


def test_images_titles_and_seeds(backbone):
    module = visualise(backbone, classes=["measuring cup", "954"], steps=2)
    assert module.images_seen == 2
    assert module.sample(4).shape == (4, 3, 48, 48)
    assert module.titles == ["measuring_cup_0", "measuring_cup_1", "banana_0", "banana_1"]
    again = visualise(backbone, classes=["measuring cup", "954"], steps=2)
    assert torch.equal(module.sample(4), again.sample(4))
    other = visualise(backbone, classes=["measuring cup", "954"], steps=2, seed=1)
    assert not torch.equal(module.sample(4), other.sample(4))


def test_diversity_counts_likeness_within_a_class(backbone):
    module = ClassVisualisation(backbone, ["954", "1"], per_class=2, views=1, size=32)
    a, b = torch.randn(2, 5, 3, 3)
    same = module._likeness(torch.stack([a, a, b, b]))
    assert same == pytest.approx(2 * 2, rel=1e-5)  # both pairs of both classes are alike
    assert module._likeness(torch.stack([a, b, a, b])) < same
    visualise(backbone, steps=1, diversity=1.0)


def test_views_of_the_whole_are_the_whole(backbone):
    module = ClassVisualisation(
        backbone,
        ["954"],
        1,
        size=32,
        view_size=32,
        scale=(1, 1),
        rotate=0,
        views=1,
        contrast=0,
        noise=0,
    )
    image = torch.rand(1, 3, 32, 32)
    seen = module.look(torch.zeros(1, 3, 32, 32) + 0.3, torch.Generator().manual_seed(0))
    assert torch.allclose(seen, torch.full_like(seen, 0.3), atol=1e-6)
    shape = module.look(image, torch.Generator().manual_seed(0)).shape
    assert shape == (1, 3, 32, 32)


def test_a_spectrum_of_nothing_is_gray():
    image = FourierImage(2, 10, 7)
    image.spectrum.data.zero_()
    assert torch.allclose(image(), torch.full((2, 3, 10, 7), 0.5))


@pytest.mark.parametrize("decay", [1.0, 1.5])
def test_steep_spectra_are_smooth_and_as_strong(decay):
    seeds = (torch.Generator().manual_seed(0) for _ in range(2))
    with torch.no_grad():
        images, flat = (FourierImage(8, 64, 64, d, generator=next(seeds))() for d in (decay, 0.0))
    assert float(images.std()) == pytest.approx(float(flat.std()), rel=0.5)
    assert total_variation(images).mean() < total_variation(flat).mean() / 2


def test_pixels_are_the_inverse_transform_of_the_spectrum():
    image = FourierImage(1, 8, 8, generator=torch.Generator().manual_seed(0))
    coefficients = torch.view_as_complex(image.spectrum.detach()) * image.frequency_scale
    channels = torch.fft.irfft2(coefficients, s=(8, 8))[0]
    expected = (image.colours @ channels.flatten(1)).view(3, 8, 8).sigmoid()
    assert torch.allclose(image()[0], expected, atol=1e-6)


def test_total_variation_of_a_ramp():
    ramp = torch.arange(4.0).expand(1, 3, 4, 4)
    assert total_variation(ramp).tolist() == [1.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ["hartebeast"]}, "no class 'hartebeast': did you mean hartebeest"),
        ({"steps": 0}, "must each be at least 1"),
        ({"scale": (1.2, 0.5)}, "scale is"),
    ],
)
def test_mistakes_are_told(backbone, settings, message):
    with pytest.raises(ValueError, match=message):
        ClassVisualisation(backbone, **({"classes": ["ant"]} | settings))
