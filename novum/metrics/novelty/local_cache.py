"""Cache of what the detector of parts reads of a reference set: local features and thumbnails."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from novum.core.cache import entry, load_array, missing_somewhere, once_a_host, store
from novum.metrics.features.extraction import Images, fingerprint
from novum.metrics.novelty import local_features, overlap
from novum.metrics.novelty.local_features import LocalFeatures, starts_of

SCHEMA = 1  # raise it whenever the same key would mean other numbers
Read = tuple[LocalFeatures, list[Tensor]]


def load(source: Images, together: bool = False) -> Read | None:
    """Local features and thumbnails of a set, mapped from the cache; None if they are not there.

    Args:
        together: All ranks call at once; it is None on all if it is on one.
    """
    sides = overlap.sides_of(*source[:1].shape[-2:])
    found = _load(_path(source), len(source), sides)
    return None if together and missing_somewhere(found) else found


def keep(source: Images, read: Read, together: bool = False) -> None:
    """Write them; with `together`, one rank of each host does."""
    path = _path(source)
    if together:
        once_a_host(lambda: _keep(path, read))
    else:
        _keep(path, read)


def _path(source: Images) -> Path:
    import cv2

    settings = [
        SCHEMA,
        cv2.__version__,
        local_features.SMALLEST,
        local_features.LARGEST,
        local_features.MOST_POINTS,
        local_features.LEAST_CONTRAST,
        overlap.SIDES,
    ]
    return entry(["local", *settings, fingerprint(source), len(source)])


def _keep(path: Path, read: Read) -> None:
    features, pictures = read
    parts = {"points": features.points, "descriptors": features.descriptors}
    parts |= {f"gray{i}": picture for i, picture in enumerate(pictures)}
    parts |= {"counts": features.starts.diff()}  # last: without it the rest is not read
    for name, tensor in parts.items():
        _store(path.with_suffix(f".{name}.npy"), tensor.numpy())


def _store(path: Path, array: np.ndarray) -> None:
    store(path, lambda file: np.save(file, array))


def _load(path: Path, n: int, sides: list[int]) -> Read | None:
    counts = load_array(path.with_suffix(".counts.npy"), np.int64)
    if counts is None or counts.shape != (n,):
        return None
    total = int(counts.sum())
    points = load_array(path.with_suffix(".points.npy"), np.float32)
    descriptors = load_array(path.with_suffix(".descriptors.npy"), np.uint8)
    if points is None or descriptors is None:
        return None
    if points.shape != (total, 4) or descriptors.shape != (total, local_features.WIDTH):
        return None
    pictures = []
    for i, side in enumerate(sides):
        gray = load_array(path.with_suffix(f".gray{i}.npy"), np.uint8)
        if gray is None or gray.shape != (n, side, side):
            return None
        pictures.append(torch.from_numpy(gray))
    starts = starts_of(torch.from_numpy(counts))
    return LocalFeatures(torch.from_numpy(points), torch.from_numpy(descriptors), starts), pictures
