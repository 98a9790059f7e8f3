"""The Wasserstein-2 distance of features to a Gaussian, with its gradient in closed form.

Of covariances S and T it needs F = tr (T^1/2 S T^1/2)^1/2, and the optimal transport map from S to
T, P = T^1/2 (T^1/2 S T^1/2)^-1/2 T^1/2 (Olkin & Pukelsheim, 1982). One symmetric eigenvalue problem
gives both, and nothing is differentiated through a matrix root: a feature's gradient is twice its
share times its distance from where the map sends it.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

RIDGE = 1e-4  # added to both covariances' diagonals, so that every map between them exists


class Gaussian(NamedTuple):
    """Mean (b, c), and the covariance plus RIDGE by its eigenvalues and eigenvectors in float64."""

    mean: Tensor
    values: Tensor  # (b, c), ascending
    vectors: Tensor  # (b, c, c), columns

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor) -> "Gaussian":
        values, vectors = torch.linalg.eigh(covariance.double())
        return cls(mean, values.clamp_min(0) + RIDGE, vectors)


class Wasserstein(torch.autograd.Function):
    """Squared distance (b,) of the Gaussian of features (b, n, c) to a target Gaussian.

    |m - m'|^2 + tr (S + T - 2 (T^1/2 S T^1/2)^1/2), S and T the covariances plus RIDGE. In float64
    where small differences matter; `shares` (b, n), of sum 1, weighs the features.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, shares: Tensor, mean: Tensor, values: Tensor, vectors: Tensor
    ) -> Tensor:
        own = (shares[:, None] @ features).squeeze(1)
        root = features - own[:, None]
        root *= shares.sqrt()[:, :, None]  # root^T root = S - RIDGE
        overlap, transport = overlap_and_map(root, values, vectors)
        ctx.save_for_backward(features, shares, own, mean, transport)
        variance = root.square_().sum((1, 2)) + RIDGE * root.shape[2]
        apart = (own - mean).square().sum(1)
        return apart + variance + (values.sum(1) - 2 * overlap).to(variance)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        features, shares, own, mean, transport = ctx.saved_tensors
        pull = -transport  # x - (mean + P (x - own)) = x (1 - P) + P own - mean
        pull.diagonal(dim1=1, dim2=2).add_(1)
        start = own[:, None] @ transport - mean[:, None]
        moved = torch.baddbmm(start, features, pull)
        moved *= (2 * gradient[:, None] * shares)[:, :, None]
        return moved, None, None, None, None


def overlap_and_map(root: Tensor, values: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """F (b,) in float64 and P (b, c, c) of S = root^T root + RIDGE, root (b, n, c), and T.

    A root of fewer rows than T has dimensions is handled in the subspace that it spans with the
    leading eigenvectors of T: in the rest both covariances are RIDGE, and P is 1.
    """
    c = values.shape[1]
    spread = int((values > 1.001 * RIDGE).sum(1).max())  # directions in which T is more
    k = min(spread + root.shape[1], c)
    basis, scales = vectors, values.sqrt()
    if k < c:
        leading = vectors[:, :, c - spread :]
        basis = torch.linalg.qr(torch.cat([leading, root.mT.double()], 2))[0]  # +-leading first
        scales = torch.full_like(values[:, :k], RIDGE**0.5)
        scales[:, :spread] = values[:, c - spread :].sqrt()
    basis = basis.to(root)
    reduced = root @ basis  # (b, n, k)
    covariance = (reduced.mT @ reduced).double()
    covariance.diagonal(dim1=1, dim2=2).add_(RIDGE)
    m, v = torch.linalg.eigh(scales[:, :, None] * covariance * scales[:, None])
    m = m.clamp_min(RIDGE**2).sqrt()  # no eigenvalue is less, but by rounding
    v = scales[:, :, None] * v
    transport = ((v / m[:, None]) @ v.mT).to(root)  # within the basis
    if k < c:
        transport.diagonal(dim1=1, dim2=2).sub_(1)
    transport = basis @ transport @ basis.mT
    if k < c:
        transport.diagonal(dim1=1, dim2=2).add_(1)
    return m.sum(1) + (c - k) * RIDGE, transport
