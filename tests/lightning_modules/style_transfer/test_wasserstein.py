"""The closed form against its definition in float64, values and gradients."""

import pytest
import torch

from novum.lightning_modules.style_transfer.wasserstein import RIDGE, Gaussian, Wasserstein


def definition(x, shares, mean, covariance):
    """By matrix roots, differentiated by autograd (eigenvalues alone are smooth)."""
    own = (shares[:, :, None] * x).sum(1)
    apart = x - own[:, None]
    ridge = RIDGE * torch.eye(x.shape[2], dtype=x.dtype)
    s, t = apart.mT @ (shares[:, :, None] * apart) + ridge, covariance + ridge
    values, vectors = torch.linalg.eigh(t)
    root = vectors @ (values.sqrt()[:, :, None] * vectors.mT)
    overlap = torch.linalg.eigvalsh(root @ s @ root).sqrt().sum(1)
    trace = torch.diagonal(s + t, dim1=1, dim2=2).sum(1)
    return (own - mean).square().sum(1) + trace - 2 * overlap


@pytest.mark.parametrize(
    ("places", "spread", "channels"), [(50, 60, 20), (8, 5, 20), (8, 60, 20), (2, 1, 9)]
)
def test_value_and_gradient(places, spread, channels):
    """Also of fewer places than channels, where a subspace is enough."""
    torch.manual_seed(0)
    x = (torch.randn(2, places, channels, dtype=torch.float64) * 0.3 + 1).requires_grad_()
    shares = torch.rand(2, places, dtype=torch.float64)
    shares = shares / shares.sum(1, keepdim=True)
    mean = torch.randn(2, channels, dtype=torch.float64)
    factor = torch.randn(2, spread, channels, dtype=torch.float64)
    covariance = factor.mT @ factor / spread
    target = Gaussian.of(mean, covariance)
    ours = Wasserstein.apply(x, shares, *target)
    theirs = definition(x, shares, mean, covariance)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    for a, b in zip(*(torch.autograd.grad(d.sum(), x) for d in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_float32_is_good_to_six_digits():
    torch.manual_seed(0)
    x = torch.randn(1, 300, 64)
    mean, factor = torch.randn(1, 64), torch.randn(1, 40, 64)
    target = Gaussian.of(mean, factor.mT @ factor / 40)
    shares = torch.full((1, 300), 1 / 300)
    ours = Wasserstein.apply(x, shares, *target)
    exact = Wasserstein.apply(x.double(), shares.double(), mean.double(), *target[1:])
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=0)


def test_an_image_is_at_distance_0_of_itself():
    torch.manual_seed(0)
    x = torch.randn(1, 100, 8, dtype=torch.float64)
    shares = torch.full((1, 100), 0.01, dtype=torch.float64)
    mean = x.mean(1)
    apart = x - mean[:, None]
    target = Gaussian.of(mean, apart.mT @ apart / 100)
    assert Wasserstein.apply(x, shares, *target).abs().item() < 1e-12
