"""Many samples of a generator, kept in blocks on disk: drawing goes on where it was stopped."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novum.core.bars import progress
from novum.core.cache import load_array
from novum.core.errors import InputError
from novum.core.files import remove_partial_files, whole_file, write_json
from novum.core.protocols import BLOCK, ImageGenerator
from novum.core.seeds import derived_seed

MADE_BY = "drawn.json"  # what the blocks depend on


class DrawnSamples:
    """The first n samples of a generator at a seed, those that `evaluate.py` judges.

    Block b is `sample(256)` at the seed's b-th seed, so that it depends on nothing else.

    Args:
        folder: Where the blocks are, or will be.
        n: Number of samples.
        made_by: All that they depend on, as JSON has it: the checkpoint's digest, seed and class.
    """

    def __init__(self, folder: Path, n: int, made_by: dict[str, Any]) -> None:
        self.folder, self.n = folder, n
        self.seed, self.label = made_by["seed"], made_by["class"]
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial_files(folder)
        self._require_own(made_by)

    def draw(self, generator: ImageGenerator) -> int:
        """Draw the blocks that are missing; return the number of samples that were there."""
        missing = [b for b in range(self._blocks) if self._block(b) is None]
        with progress(total=len(missing) * BLOCK, doing="sampling", unit="img", delay=1) as bar:
            for b in missing:
                seed = derived_seed(self.seed, b) if self.seed else b
                labels = labels_of(generator, self.label)
                images = generator.sample(BLOCK, seed=seed, labels=labels).cpu()
                if images.dtype != torch.uint8 or images.ndim != 4 or len(images) != BLOCK:
                    raise InputError(
                        f"{type(generator).__name__}.sample({BLOCK}) must give uint8 images (n, c,"
                        f" h, w), not {images.dtype} {tuple(images.shape)}"
                    )
                with whole_file(self._path(b)) as file:
                    np.save(file, images.numpy())
                bar.update(BLOCK)
        return self.n - sum(min(BLOCK, self.n - b * BLOCK) for b in missing)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the blocks in order, uint8 (256, c, h, w), the last one with what is left of n."""
        for b in range(self._blocks):
            yield self._known(b)[: self.n - b * BLOCK]

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.stack([self._known(r // BLOCK)[r % BLOCK] for r in rows.tolist()])

    @property
    def _blocks(self) -> int:
        return -(-self.n // BLOCK)

    def _path(self, block: int) -> Path:
        return self.folder / f"{block:06d}.npy"

    def _block(self, block: int) -> np.ndarray | None:
        found = load_array(self._path(block), np.uint8)
        return found if found is not None and found.ndim == 4 and len(found) == BLOCK else None

    def _known(self, block: int) -> Tensor:
        found = self._block(block)
        if found is None:
            raise InputError(f"{self._path(block)} is damaged: remove it and run this again")
        return torch.from_numpy(found)

    def _require_own(self, made_by: dict[str, Any]) -> None:
        """Refuse a folder of other samples, or of files that are none of ours."""
        path = self.folder / MADE_BY
        try:
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        except ValueError:
            known = {}
        if known is None and any(self.folder.iterdir()):
            raise InputError(f"{self.folder} holds other files: give another --output")
        if known not in (None, made_by):
            raise InputError(
                f"{self.folder} holds samples of another checkpoint, seed or class: give another"
                " --output, or remove it"
            )
        if known is None:
            write_json(path, made_by)


def labels_of(generator: ImageGenerator, label: int | None = None) -> Tensor | None:
    """Classes (256,) of a block: one for all, or all in turn; None for a generator without any."""
    classes = getattr(generator, "num_classes", 0)
    if not classes:
        return None
    return torch.arange(BLOCK) % classes if label is None else torch.full((BLOCK,), label)
