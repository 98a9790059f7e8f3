"""Adaptive augmentation: exact where the transformations are, twice differentiable, and tuned."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from novum.lightning_modules.ada import (
    LETTERS,
    ORDER,
    SYM2,
    AdaptiveAugment,
    Draw,
    _filter_bands,
    _recolor,
    filter_bank,
)
from novum.lightning_modules.affine import (
    SYM6,
    moved,
    rearrange,
    reflected,
    scaled,
    transform,
    turned,
)

ONE = torch.ones(2)


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("taps", [SYM6, SYM2])
def test_wavelet_filters_are_orthonormal(taps):
    taps = torch.tensor(taps, dtype=torch.float64)
    assert float(taps.sum()) == pytest.approx(math.sqrt(2), abs=1e-6)
    for shift in range(0, len(taps), 2):
        product = float((taps[shift:] * taps[: len(taps) - shift]).sum())
        assert product == pytest.approx(float(shift == 0), abs=1e-6)


def test_bands_sum_to_the_identity():
    total = torch.tensor(filter_bank(), dtype=torch.float64).view(4, 43).sum(0)
    expected = torch.zeros(43, dtype=torch.float64)
    expected[21] = 1
    torch.testing.assert_close(total, expected, atol=1e-6, rtol=0)


def test_nothing_happens_at_p_0():
    x = images(2, 1, 8, 8)
    assert AdaptiveAugment("bgcfnc")(x) is x


def waves(h: int, w: int) -> torch.Tensor:
    """Smooth, and without symmetry."""
    y, x = torch.meshgrid(torch.arange(h) / h, torch.arange(w) / w, indexing="ij")
    return (torch.sin(5 * x + 3 * y) + torch.cos(7 * y - 2 * x * x))[None, None]


def test_whole_pixel_shifts_are_exact():
    x = images(2, 3, 16, 24)
    torch.testing.assert_close(transform(x, moved(ONE * 0, ONE * 0)), x, rtol=1e-4, atol=1e-4)
    found = transform(x, moved(ONE * 2, -ONE))[:, :, 4:-4, 4:-4]
    expected = x.roll((1, -2), (2, 3))[:, :, 4:-4, 4:-4]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


MOVES = {
    "mirror": (scaled(-ONE[:1], ONE[:1]), lambda x: x.flip(3)),
    "half turn": (turned(ONE[:1] * math.pi), lambda x: x.rot90(2, (2, 3))),
    "quarter turn": (turned(ONE[:1] * math.pi / 2), lambda x: x.rot90(1, (2, 3))),
}


@pytest.mark.parametrize("name", MOVES)
def test_turns_keep_the_center(name):
    """The wavelet is not quite symmetric: its delay must not shift what is turned."""
    matrix, expected = MOVES[name]
    x = waves(24, 24)
    inner = slice(4, -4)
    found = transform(x, matrix)[:, :, inner, inner]
    torch.testing.assert_close(found, expected(x)[:, :, inner, inner], rtol=0, atol=0.03)


@pytest.mark.parametrize("name", MOVES)
def test_mirroring_and_turns_by_pixels_are_exact(name):
    matrix, expected = MOVES[name]
    for size in (15, 16):
        x = images(1, 3, size, size)
        assert torch.equal(rearrange(x, matrix), expected(x))


def test_shifts_by_pixels_are_exact_and_reflect():
    x = images(2, 3, 16, 24)
    found = rearrange(x, moved(ONE * 2, -ONE))
    assert torch.equal(found[:, :, 1:, :-2], x[:, :, :-1, 2:])
    assert torch.equal(found[:, :, 0, :-2], x[:, :, 1, 2:])  # row -1 is row 1


def test_blit_alone_only_rearranges_pixels():
    torch.manual_seed(0)
    x = images(64, 1, 8, 8).abs() + torch.arange(64.0).view(64, 1, 1, 1) * 100
    moved_about = AdaptiveAugment("blit", p=1.0)(x)
    for before, after in zip(x, moved_about, strict=True):
        assert set(after.flatten().tolist()) <= set(before.flatten().tolist())
    assert not torch.equal(x, moved_about)


def test_p_moves_on_the_device_as_its_arithmetic_says():
    augment, p = AdaptiveAugment(speed_kimg=3.0, interval=4, p=0.3), 0.3
    for sign in (0.9, 0.6, 0.1, -0.5, 0.7):
        augment.observe(torch.tensor(sign))
        augment.adjust(augment.mean_sign(), 12)
        p += math.copysign(12 * 4 / 3000, float(torch.tensor(sign)) - 0.6)
    assert augment.p == pytest.approx(p, abs=1e-6)


def test_reflection_folds_at_the_outer_pixels():
    found = reflected(torch.tensor([-2.0, -0.5, 0.0, 3.0, 4.0, 7.0]), 4)
    assert found.tolist() == [2.0, 0.5, 0.0, 3.0, 2.0, 1.0]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("pipe", [*ORDER, *LETTERS])
def test_every_pipe_changes_images_and_lets_gradients_pass_twice(pipe, channels):
    torch.manual_seed(0)
    x = images(4, channels, 16, 16).requires_grad_(True)
    augmented = AdaptiveAugment(pipe, p=1.0)(x)
    assert augmented.shape == x.shape
    assert augmented.isfinite().all()
    assert not torch.allclose(augmented, x)
    weights = torch.randn(1, requires_grad=True)
    (gradient,) = torch.autograd.grad((augmented * weights).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert weights.grad.abs() > 0


def test_derivatives_of_a_transformation():
    x = images(1, 1, 8, 8).double().requires_grad_(True)
    matrix = turned(torch.tensor([0.4])) @ moved(torch.tensor([0.3]), torch.tensor([1.2]))

    def square(x):
        return transform(x, matrix).square()

    # positions are float32, so that derivatives are those of a nearby transformation: linear in x
    assert gradcheck(square, [x], atol=1e-4)
    assert gradgradcheck(square, [x], atol=1e-4)


def test_color_leaves_alpha_and_gray_stays_gray():
    torch.manual_seed(0)
    x = images(8, 4, 4, 4)
    draw = Draw(1.0, x)
    assert torch.equal(_recolor(x, draw)[:, 3], x[:, 3])
    gray = images(8, 1, 4, 4).expand(-1, 3, -1, -1)
    colored = _recolor(gray, draw)
    torch.testing.assert_close(colored, colored.mean(1, keepdim=True).expand_as(colored))


def test_bands_keep_the_expected_power():
    torch.manual_seed(0)
    x = images(1, 1, 16, 16).expand(64, -1, -1, -1)
    filtered = _filter_bands(x, Draw(0.0, x))
    torch.testing.assert_close(filtered, x, atol=1e-4, rtol=1e-3)  # no gain changes at p 0
    assert not torch.allclose(_filter_bands(x, Draw(1.0, x)), x, atol=0.1)


def test_p_follows_the_signs_and_stays_a_probability():
    augment = AdaptiveAugment(speed_kimg=1.0, interval=4)
    assert [augment.due(step) for step in range(4)] == [False, False, False, True]
    augment.observe(torch.tensor([1.0, 2.0, 3.0, -1.0]).sign().mean())
    augment.observe(torch.ones(4).sign().mean())
    assert float(augment.mean_sign()) == 0.75
    augment.adjust(augment.mean_sign(), batch_size=32)
    assert augment.p == pytest.approx(0.128, rel=1e-6)
    for _ in range(20):
        augment.adjust(torch.tensor(1.0), 32)
    assert augment.p == 1.0
    for _ in range(20):
        augment.adjust(torch.tensor(0.0), 32)
    assert augment.p == 0.0


def test_state_is_kept_whole():
    augment = AdaptiveAugment(p=0.25)
    augment.observe(torch.tensor([1.0, 1.0, -1.0]).sign().mean())
    other = AdaptiveAugment()
    other.load_state_dict(augment.state_dict())
    assert other.p == 0.25
    assert torch.equal(other.mean_sign(), augment.mean_sign())


def test_bad_probability():
    with pytest.raises(ValueError, match="p is 2: it is a probability"):
        AdaptiveAugment(p=2)
