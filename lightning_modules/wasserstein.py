"""The Wasserstein-2 distance between Gaussians, with its gradient in closed form.

Of covariances S and T it needs F = tr (T^1/2 S T^1/2)^1/2. Its gradient in S is P / 2, where
P = T^1/2 (T^1/2 S T^1/2)^-1/2 T^1/2 is the optimal transport map from S to T (Olkin & Pukelsheim,
1982): one symmetric eigenvalue problem gives F and P, and nothing is differentiated through a
matrix root.
"""

from typing import Any

import torch
from torch import Tensor

RIDGE = 1e-4  # added to both covariances' diagonals, so that every map between them exists


def moments(features: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (b, c) and root (b, n, c), root^T root the covariance, of features (b, n, c).

    Args:
        features: One row per place of the image.
        weights: Share of each place (b, n), of sum 1.
    """
    mean = (weights[:, None] @ features).squeeze(1)
    return mean, (features - mean[:, None]) * weights.sqrt()[:, :, None]


class Overlap(torch.autograd.Function):
    """tr (T^1/2 S T^1/2)^1/2, (b,), for S = root^T root + RIDGE and T by its eigenvalues.

    In float64 where small differences matter. A root of fewer rows than S has dimensions is
    handled in the subspace that it spans with the leading eigenvectors of T: in the rest both
    covariances are RIDGE.
    """

    @staticmethod
    def forward(ctx: Any, root: Tensor, values: Tensor, vectors: Tensor) -> Tensor:
        """root (b, n, c); eigenvalues (b, c) ascending and eigenvectors (b, c, c) of T."""
        spread = int((values > 1.001 * RIDGE).sum(1).max())  # directions in which T is more
        c, k = values.shape[1], spread + root.shape[1]
        if k < c:
            leading = vectors[:, :, c - spread :]
            joint = torch.cat([leading, root.mT.double()], 2)
            basis = torch.linalg.qr(joint)[0].to(root)  # (b, c, k), the first columns +-leading
            scales = torch.full_like(values[:, :k], RIDGE)
            scales[:, :spread] = values[:, c - spread :]
        else:
            basis, scales = vectors.to(root), values
        reduced = root @ basis  # (b, n, k)
        covariance = (reduced.mT @ reduced).double()
        covariance.diagonal(dim1=1, dim2=2).add_(RIDGE)
        scales = scales.sqrt()
        m, v = torch.linalg.eigh(scales[:, :, None] * covariance * scales[:, None])
        m = m.clamp_min(RIDGE**2).sqrt()  # no eigenvalue is less, but by rounding
        v = scales[:, :, None] * v
        transport = ((v / m[:, None]) @ v.mT).to(root)  # P within the basis
        ctx.save_for_backward(reduced, basis, transport)
        return (m.sum(1) + max(c - k, 0) * RIDGE).to(root)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        reduced, basis, transport = ctx.saved_tensors
        return gradient[:, None, None] * (reduced @ transport @ basis.mT), None, None
