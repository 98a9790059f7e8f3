"""Noise and images paired by optimal transport within a batch."""

import torch
from torch import Tensor


def paired_noise(images: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
    """The rows of noise in the order of the images that they are nearest to, all together.

    The assignment of the least total squared distance (OT-CFM: Tong et al., 2024,
    arXiv:2302.00482; Pooladian et al., 2023, arXiv:2304.14772). With labels it is made within each
    class, so that the noise of a class stays normal: across classes, noise would tell the class, of
    which sampling knows nothing (Cheng & Schwing, 2025, arXiv:2503.10636). Waits for the device.
    """
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(images.flatten(1).double(), noise.flatten(1).double()).square()
    classes = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels.cpu()
    order = torch.arange(len(images))
    for own in classes.unique():
        rows = (classes == own).nonzero()[:, 0]
        part = cost.cpu()[rows][:, rows]
        order[rows] = rows[torch.from_numpy(linear_sum_assignment(part.numpy())[1])]
    return noise[order.to(noise.device)]
