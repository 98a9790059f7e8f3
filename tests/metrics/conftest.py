import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor


class Goldens(NamedTuple):
    """Sets of features, and what the peers' own code says of them."""

    arrays: dict[str, Tensor]
    values: dict[str, dict[str, float]]  # per generated set

    @property
    def train(self) -> Tensor:
        return self.arrays["train"]

    def fake(self, name: str) -> Tensor:
        return self.arrays[f"gen_{name}"]


@pytest.fixture(scope="session")
def goldens() -> Goldens:
    folder = os.environ.get("NOVUM_GOLDENS")
    if not folder:
        pytest.skip("set NOVUM_GOLDENS to the folder that holds set_metrics.npz and .json")
    with np.load(Path(folder) / "set_metrics.npz") as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file}
    return Goldens(arrays, json.loads((Path(folder) / "set_metrics.json").read_text()))


@pytest.fixture(params=["fresh", "truncated", "underfit", "copying"])
def generator_name(request) -> str:
    return request.param


@pytest.fixture
def normal():
    """Seeded standard normal features: normal(n, d, seed=0)."""

    def draw(n: int, d: int, seed: int = 0) -> Tensor:
        return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))

    return draw
