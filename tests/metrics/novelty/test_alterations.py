"""Each alteration is what its name says."""

import pytest
import torch

from novum.metrics.novelty.alterations import LADDER, alter
from tests.metrics.novelty.textures import textures


@pytest.fixture(scope="module")
def images():
    return textures(24)


@pytest.mark.parametrize("attack", LADDER)
@pytest.mark.parametrize(("channels", "side"), [(3, 32), (1, 28), (1, 8)])
def test_every_rung_alters_any_images_by_the_seed(attack, channels, side):
    images, others = textures(6, 1, channels, side), textures(6, 2, channels, side)
    altered = alter(images, attack, 3, others)
    assert altered.shape == images.shape and altered.dtype == torch.uint8
    assert torch.equal(altered, alter(images, attack, 3, others))
    assert torch.equal(altered, images) == (attack == "identical")


def test_mirrored(images):
    assert torch.equal(alter(images, "mirrored"), images.flip(3))


def test_turned(images):
    for altered, image in zip(alter(images, "turned 90° or more"), images, strict=True):
        assert any(torch.equal(altered, image.rot90(quarters, (1, 2))) for quarters in (1, 2, 3))


def test_shifted_by_three_pixels(images):
    """The middle moved by three pixels along one axis, and by up to three along the other."""
    offsets = [(y, x) for y in range(-3, 4) for x in range(-3, 4)]
    seen = set()
    for altered, image in zip(alter(images, "shifted 10%"), images, strict=True):
        middle = altered[:, 3:-3, 3:-3]
        (offset,) = (
            o for o in offsets if torch.equal(image.roll(o, (1, 2))[:, 3:-3, 3:-3], middle)
        )
        assert max(map(abs, offset)) == 3
        seen.add(offset)
    assert len(seen) > 5


def test_shifted_images_have_three_kinds_of_border():
    white = torch.full((60, 1, 32, 32), 255, dtype=torch.uint8)
    white[:, :, 16:] = 100
    altered = alter(white, "shifted 10%")
    black = int((altered == 0).flatten(1).any(1).sum())
    assert 10 < black < 30  # the others repeat the border's pixel, or wrap


@pytest.mark.parametrize(
    ("attack", "size"), [("cropped to 88%", 28), ("cropped to 75%", 24), ("corner of 50%", 16)]
)
def test_crops_show_that_share_of_a_ramp(attack, size):
    ramp = (torch.arange(32) * 8).to(torch.uint8).expand(40, 1, 32, 32)
    altered = alter(ramp, attack).float()
    slope = (altered[..., 24] - altered[..., 8]) / 16
    torch.testing.assert_close(slope, torch.full_like(slope, size / 4), atol=0.05, rtol=0)
    left = (altered[:, 0, 0, 16] / 8 - size / 2).round()
    expected = {0, 16} if "corner" in attack else set(range(33 - size))
    assert set(left.int().tolist()) <= expected and len(left.unique()) > 1


def test_rotated_about_the_centre(images):
    """A turn back gives the middle again, and both ways occur."""
    from torchvision.transforms.functional import rotate

    signs = set()
    for altered, image in zip(alter(images, "rotated 15°"), images, strict=True):
        errors = {
            sign: (rotate(altered[None].float(), sign * 15.0) - image)[..., 10:22, 10:22].abs()
            for sign in (1, -1)
        }
        sign = min(errors, key=lambda s: float(errors[s].mean()))
        assert float(errors[sign].mean()) < 15
        signs.add(sign)
    assert signs == {1, -1}


def test_brightness_and_contrast(images):
    gray = torch.full((40, 1, 16, 16), 100, dtype=torch.uint8)
    assert set(alter(gray, "brightness ±20%").unique().tolist()) == {80, 120}
    middle = (images.float() / 4 + 96).round().to(torch.uint8)
    altered = alter(middle, "contrast ±20%").float()
    ratio = altered.std((1, 2, 3)) / middle.float().std((1, 2, 3))
    assert set(ratio.mul(10).round().tolist()) == {8, 12}
    assert (altered - middle).mean((1, 2, 3)).abs().max() < 0.6


def test_noise_has_its_sigma():
    gray = torch.full((20, 3, 32, 32), 128, dtype=torch.uint8)
    assert float(alter(gray, "noise 8").float().std()) == pytest.approx(8, rel=0.03)
    assert float(alter(gray, "noise 24").float().std()) == pytest.approx(24, rel=0.03)


def test_jpeg_loses_more_at_lower_quality(images):
    losses = [
        float((alter(images, f"JPEG {quality}").float() - images).abs().mean())
        for quality in (75, 50, 30, 10)
    ]
    assert 0 < losses[0] < losses[1] < losses[2] < losses[3] < 30


def test_blur_is_the_mean_of_nine_pixels(images):
    mean = images[:, :, 9:12, 19:22].float().mean((2, 3))
    assert (alter(images, "blurred 3x3")[:, :, 10, 20] - mean).abs().max() <= 0.5 + 1e-4


def test_pastes_keep_the_rest_of_the_other_image(images):
    others = textures(24, 5)
    half, quarter = (alter(images, a, 0, others) for a in ("left half pasted", "quarter pasted"))
    assert torch.equal(half[..., :16], images[..., :16])
    assert torch.equal(half[..., 16:], others[..., 16:])
    assert torch.equal(quarter[..., :16, :16], images[..., :16, :16])
    assert torch.equal(quarter[..., 16:, :], others[..., 16:, :])
    with pytest.raises(ValueError, match=r"pasting needs \(24, 3, 32, 32\) other images"):
        alter(images, "left half pasted")


def test_an_unknown_attack_is_one_line():
    with pytest.raises(ValueError, match="no attack is called 'swirl': choose from identical, "):
        alter(textures(1), "swirl")
