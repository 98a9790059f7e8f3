"""Formats with checksums: a flipped bit is refused, or changes nothing that is read."""

from pathlib import Path

import numpy as np
import pytest
import torch

from novum.core.checkpoints import read_checkpoint
from novum.datamodules.resolve_source import read_array
from novum.datamodules.sources.builtin_datasets import read_idx
from novum.datamodules.sources.decode import ImageTransform
from tests.fuzz import strategies as hostile


def weights(path: Path) -> np.ndarray:
    state = read_checkpoint(path)["state_dict"]
    return torch.cat([w.flatten().float() for w in state.values()]).numpy()


FORMATS = {
    "png": (lambda: hostile.image_bytes("PNG"), lambda path: ImageTransform(8, 3)(path).numpy()),
    "npz": (lambda: hostile.array_bytes(compressed=True), read_array),
    "gz": (hostile.gz_bytes, read_idx),
    "ckpt": (lambda: hostile.checkpoint_bytes("images"), weights),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_flipped_bit_is_not_read_silently(suffix, tmp_path):
    make, read = FORMATS[suffix]
    whole, path = make(), tmp_path / f"x.{suffix}"
    path.write_bytes(whole)
    right = np.array(read(path))
    places = np.random.default_rng(0).permutation(len(whole))[:150]
    refused = 0
    for place in places.tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = np.array(read(path))
        except (ValueError, OSError, SyntaxError):
            refused += 1
        else:
            np.testing.assert_array_equal(found, right)
    assert refused > len(places) // 3
