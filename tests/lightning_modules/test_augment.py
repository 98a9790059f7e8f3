"""DiffAugment: what each operation may do to an image, and that gradients pass."""

import torch

from novum.lightning_modules.augment import DiffAugment, cutout, jitter_color, translate


def test_translate_moves_whole_images():
    image = torch.zeros(64, 1, 16, 16)
    image[:, 0, 8, 8] = 1
    moved = translate(image)
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(64))  # none lost: shifts are at most 2 px
    places = moved[:, 0].flatten(1).argmax(1)
    rows, columns = places // 16, places % 16
    assert set(rows.tolist()) == set(range(6, 11))
    assert set(columns.tolist()) == set(range(6, 11))


def test_cutout_blanks_a_square():
    blanked = (cutout(torch.ones(200, 3, 16, 16)) == 0)[:, 0]
    areas = blanked.flatten(1).sum(1)
    assert int(areas.max()) == 64  # half of 16, squared
    assert int(areas.min()) >= 16  # cut off by two borders at most
    rows = blanked.any(2).sum(1)
    columns = blanked.any(1).sum(1)
    assert torch.equal(rows * columns, areas)


def test_jitter_keeps_structure():
    image = torch.rand(8, 3, 4, 4)
    jittered = jitter_color(image)
    assert jittered.shape == image.shape
    assert not torch.allclose(jittered, image)


def test_gray_has_no_saturation():
    gray = torch.rand(4, 1, 4, 4)
    jittered = jitter_color(gray)
    flat, before = jittered.flatten(1), gray.flatten(1)
    # brightness and contrast alone: an affine map of the pixels
    a = flat - flat.mean(1, keepdim=True)
    b = before - before.mean(1, keepdim=True)
    ratio = (a * b).sum(1) / b.square().sum(1)
    assert torch.allclose(a, ratio[:, None] * b, atol=1e-5)


def test_gradients_pass_and_each_image_is_drawn_anew():
    images = torch.rand(6, 1, 16, 16, requires_grad=True)
    augmented = DiffAugment()(images)
    augmented.sum().backward()
    assert images.grad.abs().sum() > 0
    same = DiffAugment()(torch.rand(1, 1, 16, 16).expand(6, -1, -1, -1))
    assert not torch.allclose(same[0], same[1])
