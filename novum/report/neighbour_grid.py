"""Samples beside their nearest training and held-out images."""

from typing import Any

import torch
from torch import Tensor

from novum.metrics.novelty import Neighbours
from novum.report.pictures import Pixels, to_rgb


def neighbour_columns(
    samples: Any, sources: dict[str, Any], found: dict[str, Neighbours], rows: int = 8
) -> tuple[list[Pixels], list[str], list[list[str]]]:
    """Arguments of `captioned_table`: the most suspicious samples and their neighbours.

    Args:
        samples: Images (n, c, h, w) by row.
        sources: The images of `train` and, if there are any, of `heldout`.
        found: The neighbours of all samples in each feature space.
        rows: Samples shown.
    """
    suspicion = torch.stack([_relative_distance(neighbours) for neighbours in found.values()])
    shown = suspicion.amin(0).argsort(stable=True)[:rows]
    columns, headings, captions = [to_rgb(samples[shown])], ["sample"], [[]]
    for name, neighbours in found.items():
        for split, source in sources.items():
            distances = getattr(neighbours, f"{split}_distance")[shown].tolist()
            columns.append(to_rgb(source[getattr(neighbours, f"{split}_row")[shown]]))
            captions.append([f"{d:.3g}" for d in distances])
            label = "training" if split == "train" else "held-out"
            headings.append(f"{label}\n{name.split(':')[0]}")
    return columns, headings, captions


def _relative_distance(found: Neighbours) -> Tensor:
    """Distance to training over that to held-out data, or over its mean where there are none."""
    usual = found.heldout_distance
    usual = found.train_distance.mean() if usual is None else usual
    return found.train_distance / usual.clamp_min(1e-12)
