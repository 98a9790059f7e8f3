"""Checks of what enters the metrics: one clear line for each of the user's mistakes."""

import torch
from torch import Tensor

from novum.core.errors import InputError, NotComputable
from novum.metrics.candidate_filter import Rows


def check_features(features: Tensor, name: str = "features", *, at_least: int = 1) -> Tensor:
    """Return `features` if it is a finite (n, d) tensor with enough rows, else raise ValueError."""
    if not isinstance(features, Tensor) or features.ndim != 2 or features.shape[1] == 0:
        shape = tuple(getattr(features, "shape", ())) or type(features).__name__
        raise InputError(f"{name} must be an (n, d) tensor, got {shape}")
    if len(features) < at_least:
        raise NotComputable(
            f"{name} has {len(features)} samples, this metric needs at least {at_least}: add some"
        )
    if not len(features) or not features.is_floating_point():
        return features
    if not all(map(torch.isfinite, features.aminmax())):
        rows = sum(int((~block.isfinite()).any(1).sum()) for block in features.split(4096))
        raise NotComputable(
            f"{name} has NaN or infinite values in {rows} of {len(features)} rows: drop those rows"
            " or check the extractor"
        )
    return features


def check_same_width(**features: Tensor | Rows) -> None:
    """Raise ValueError unless all the named (n, d) tables have one d."""
    widths = {name: x.shape[1] for name, x in features.items()}
    if len(set(widths.values())) > 1:
        listed = ", ".join(f"{name} has d = {d}" for name, d in widths.items())
        raise InputError(f"features differ in width ({listed}): use one extractor for all sets")
