"""Pictures and figures of a style space, from a tiny StyleGAN."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningModule

from novum.core.pixels import signed_to_uint8
from novum.core.protocols import require_styles
from novum.evaluation.latent_figures import feature_distance, path_lengths, separability
from novum.lightning_modules.stylegan.style_space import directions, recover
from novum.metrics.features import load_extractor
from novum.metrics.features.extractor import FeatureExtractor
from novum.report.pictures import encode_gif
from novum.report.style_grids import (
    direction_sheet,
    labels_in_turn,
    mixing_sheet,
    sample_styles,
    style_walk,
    truncation_sheet,
)
from tests.tiny import tiny_gan, tiny_stylegan


def squared(a, b):
    return (a.double() - b.double()).square().mean((1, 2, 3))


def cell(sheet: Image.Image, row: int, column: int) -> np.ndarray:
    """Of a sheet of 8 px images, enlarged to 64 px, 2 px apart."""
    pixels = np.asarray(sheet)[:, 60:]
    y, x = 2 + 66 * row, 2 + 66 * column
    return pixels[y : y + 64, x : x + 64]


def test_mixing_sheet_puts_styles_where_it_says():
    module = tiny_stylegan()
    sheet = mixing_sheet(module, rows=2, columns=3, psi=1.0)
    assert sheet.size == (60 + 2 + 66 * 4, 2 + 66 * 5)  # coarse and fine: two rows each
    ws = module.map_latents(module.sample_latents(5, seed=0))
    mixed = ws[1].clone()
    mixed[0] = ws[2 + 2][0]  # the coarse style of the third image above
    expected = module.synthesize(mixed[None], psi=1.0)[0, 0].numpy().repeat(8, 0).repeat(8, 1)
    assert np.array_equal(cell(sheet, 2, 3)[..., 0], expected)
    assert (cell(sheet, 0, 0) == 255).all()


def test_truncation_sheet_shows_the_mean_image_at_0():
    sheet = truncation_sheet(tiny_stylegan(), rows=2, psis=(0.0, 1.0))
    assert sheet.width > 2 * 64
    pixels = np.asarray(sheet)
    assert pixels.std() > 0


def test_walk_is_closed_and_smooth():
    module = tiny_stylegan()
    frames = style_walk(module, rows=2, stops=2, frames=4)
    assert len(frames) == 8
    gif = Image.open(io.BytesIO(encode_gif(frames)))
    assert gif.n_frames >= 1
    first = module.synthesize(module.map_latents(module.sample_latents(4, seed=0))[:1])
    assert np.array_equal(frames[0][2:66:8, 2:66:8, 0], first[0, 0].numpy())


def test_direction_sheet():
    module = tiny_stylegan()
    found, _ = directions(module.ema, 2)
    assert direction_sheet(module, found, columns=3).width > 3 * 64


def test_path_lengths_of_a_generator_that_ignores_w_are_0():
    module = tiny_stylegan()
    found = path_lengths(module, squared, n=20)
    assert set(found) == {f"path_length_{s}_{e}" for s in "zw" for e in ("full", "end")}
    assert all(v.value > 0 for v in found.values())
    for name, parameter in module.ema.named_parameters():
        if "affine.weight" in name:
            parameter.data.zero_()
    assert all(v.value == 0 for v in path_lengths(module, squared, n=20).values())


class Flat(FeatureExtractor):
    def features(self, images):
        assert images.shape[1] == 3
        return images.flatten(1)


def test_feature_distance_sees_steps_below_a_gray_level():
    distance = feature_distance(Flat("flat"))
    a = torch.rand(2, 1, 4, 4) * 2 - 1
    assert (distance(a, a + 1e-5 * torch.randn_like(a)) > 0).all()
    assert torch.equal(distance(a, a), torch.zeros(2, dtype=torch.float64))


def test_extractors_of_8_bit_images_are_refused():
    with pytest.raises(ValueError, match="cannot be measured in pixels, which takes 8-bit"):
        feature_distance(load_extractor("pixels"))


class Labeller:
    """Brighter at the left, or at the right."""

    def classify(self, images):
        left, right = images.float().chunk(2, dim=3)
        p = torch.sigmoid((left - right).mean((1, 2, 3)))
        return torch.stack([p, 1 - p], dim=1)


def test_separability_of_z_and_w():
    found = separability(tiny_stylegan(), Labeller(), n=300)
    assert set(found) == {"separability_z", "separability_w"}
    assert all(1 <= v.low <= v.value <= v.high <= 2 for v in found.values())


def test_what_the_generator_made_is_recovered_better():
    module = tiny_stylegan()
    made = module.sample(12, seed=0)
    noise = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8)
    found, figures = recover(module, {"train": made, "heldout": noise}, n=12, steps=60)
    assert figures["recovery_gap"] > 0.5
    assert figures["recovery_p"] < 0.01
    assert signed_to_uint8(found["train"].images).shape == (12, 1, 8, 8)
    same = recover(module, {"train": noise, "heldout": noise}, n=12, steps=3)[1]
    assert same["recovery_gap"] == 0
    assert same["recovery_p"] > 0.3


def test_other_generators_are_refused():
    with pytest.raises(ValueError, match="needs a generator with styles, such as StyleGAN"):
        require_styles(tiny_gan(), "StyleMixing")
    assert isinstance(require_styles(tiny_stylegan(), "x"), LightningModule)


def test_psi_0_is_the_mean_of_the_class():
    module = tiny_stylegan(num_classes=3)
    z = module.sample_latents(6, seed=0)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    ws = module.map_latents(z, labels=labels)
    of_class = module.synthesize(ws, psi=0.0, labels=labels)
    assert torch.equal(of_class[0], of_class[1]) and torch.equal(of_class[4], of_class[5])
    assert not torch.equal(of_class[0], of_class[2])
    of_all = module.synthesize(ws, psi=0.0)
    assert torch.equal(of_all[0], of_all[2])
    means = module.ema.class_means()
    torch.testing.assert_close(module.ema.truncate(ws, 0.0, means=means[labels])[2, 0], means[1])


def test_a_class_alone():
    module = tiny_stylegan(num_classes=3)
    ws = sample_styles(module, 4, 0, label=2)
    twos = module.map_latents(module.sample_latents(4, seed=0), labels=torch.full((4,), 2))
    assert torch.equal(ws, twos)
    assert not torch.equal(ws, sample_styles(module, 4, 0))
    assert labels_in_turn(module, 4).tolist() == [0, 1, 2, 0]
    assert labels_in_turn(tiny_stylegan(), 4, None) is None
