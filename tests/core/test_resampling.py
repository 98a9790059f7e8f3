"""Resizing by matrices is torch's antialiased resize."""

import pytest
import torch
from torch.nn import functional as F

from novum.core import resampling
from novum.core.resampling import by_matrices, parts_to_resize, resize_antialiased


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "shape, size", [((96, 64), (3, 2)), ((2100, 40), (64, 50)), ((9, 7), (9, 7))]
)
def test_matrices_compute_torchs_filter(mode, shape, size):
    images = torch.rand(2, 3, *shape, dtype=torch.float64)
    expected = F.interpolate(images, size, mode=mode, antialias=True)
    torch.testing.assert_close(by_matrices(images, size, mode), expected, rtol=0, atol=1e-12)
    assert torch.equal(resize_antialiased(images, size, mode), expected)  # on a CPU it is torch's


def test_gradients_and_half_precision():
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    by_matrices(images, (4, 4), "bilinear").sum().backward()
    assert images.grad is not None
    assert images.grad.sum() == pytest.approx(48, rel=1e-5)
    half = images.detach().bfloat16()
    found = by_matrices(half, (4, 4), "bilinear")
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(
        found.float(), by_matrices(half.float(), (4, 4), "bilinear"), rtol=1e-2, atol=1e-2
    )


def test_parts_are_all_images_in_order_and_small(monkeypatch):
    images = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8)
    monkeypatch.setattr(resampling, "PART_BYTES", 4 * 3 * 3 * 64)
    parts = parts_to_resize(images)
    assert [len(part) for part in parts] == [3, 3, 3, 1]
    assert torch.equal(torch.cat(parts), images)
    monkeypatch.setattr(resampling, "PART_BYTES", 1)
    assert len(parts_to_resize(images)) == 10
    assert [len(part) for part in parts_to_resize(images[:0])] == [0]
