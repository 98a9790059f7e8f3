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
    spread: int  # directions in which a covariance is more than RIDGE

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor) -> "Gaussian":
        values, vectors = torch.linalg.eigh(covariance.double())
        values = values.clamp_min(0) + RIDGE
        return cls(mean, values, vectors, int((values > 1.001 * RIDGE).sum(1).max()))


class Wasserstein(torch.autograd.Function):
    """Squared distance (b,) of the Gaussian of features (b, n, c) to a target Gaussian.

    |m - m'|^2 + tr (S + T - 2 (T^1/2 S T^1/2)^1/2), S and T the covariances plus RIDGE. In float64
    where small differences matter; `shares` (b, n), of sum 1, weighs the features.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        shares: Tensor,
        mean: Tensor,
        values: Tensor,
        vectors: Tensor,
        spread: int,
    ) -> Tensor:
        own = (shares[:, None] @ features).squeeze(1)
        root = features - own[:, None]
        root *= shares.sqrt()[:, :, None]  # root^T root = S - RIDGE
        variance, overlap, pull = compare(root, values, vectors, spread)
        ctx.save_for_backward(features, shares, own, mean, pull)
        apart = (own - mean).square().sum(1)
        return apart + (variance + values.sum(1) - 2 * overlap).to(apart)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None, None, None, None]:
        features, shares, own, mean, pull = ctx.saved_tensors
        start = (own - mean)[:, None] - own[:, None] @ pull
        moved = torch.baddbmm(start, features, pull)  # x - (mean + P (x - own))
        moved *= (2 * gradient[:, None] * shares)[:, :, None]
        return moved, None, None, None, None, None


def compare(
    root: Tensor, values: Tensor, vectors: Tensor, spread: int
) -> tuple[Tensor, Tensor, Tensor]:
    """tr S and F (b,) in float64, and 1 - P (b, c, c), of S = root^T root + RIDGE and T.

    A root (b, n, c) of fewer rows than T has dimensions is handled in the subspace that it spans
    with the leading eigenvectors of T: in the rest both covariances are RIDGE, and P is 1.
    """
    n, c = root.shape[1:]
    k = min(spread + n, c)
    if k < c:
        leading = vectors[:, :, c - spread :]
        basis = torch.cat([leading, rest_of_span(leading, root.mT.double())], 2)
        scales = torch.full_like(values[:, :k], RIDGE**0.5)
        scales[:, :spread] = values[:, c - spread :].sqrt()
    else:
        basis, scales = vectors, values.sqrt()
    narrow = basis.to(root)
    if n > 2 * c:  # the smaller products
        covariance = basis.mT @ (root.mT @ root).double() @ basis
    else:
        reduced = root @ narrow  # (b, n, k)
        covariance = (reduced.mT @ reduced).double()
    covariance.diagonal(dim1=1, dim2=2).add_(RIDGE)
    m, v = torch.linalg.eigh(scales[:, :, None] * covariance * scales[:, None])
    m = m.clamp_min(RIDGE**2).sqrt()  # no eigenvalue is less, but by rounding
    half = narrow @ (scales[:, :, None] * v / m.sqrt()[:, None]).to(root)
    if k < c:
        pull = narrow @ narrow.mT
    else:
        pull = torch.eye(c, dtype=root.dtype, device=root.device).expand(len(root), c, c)
    pull = torch.baddbmm(pull, half, half.mT, alpha=-1)  # P is half half^T in the basis
    variance = covariance.diagonal(dim1=1, dim2=2).sum(1)
    return variance + (c - k) * RIDGE, m.sum(1) + (c - k) * RIDGE, pull


def rest_of_span(basis: Tensor, vectors: Tensor) -> Tensor:
    """Orthonormal columns, some of them zero, that span the vectors (b, c, n) with the basis'."""
    rest = vectors - basis @ (basis.mT @ vectors)
    rest = rest - basis @ (basis.mT @ rest)  # what rounding had left of the basis
    squares, turn = torch.linalg.eigh(rest.mT @ rest)
    lengths = squares.clamp_min(0).sqrt()
    longest = torch.linalg.vector_norm(vectors, dim=(1, 2))[:, None]
    found = rest @ (turn / lengths.clamp_min(1e-300)[:, None])
    return torch.where((lengths > 1e-7 * longest)[:, None], found, 0)
