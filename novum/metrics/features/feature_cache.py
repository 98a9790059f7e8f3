"""Cache of reference sets on disk, under a key of everything that an entry depends on."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novum.core import distributed
from novum.core.cache import entry, load_array, missing_somewhere, once_a_host, store
from novum.core.errors import InputError
from novum.datamodules.sources.reference_bundle import BundledImages
from novum.metrics.features.extraction import (
    extract_features,
    extract_features_together,
    fingerprint,
)
from novum.metrics.features.extractor import FeatureExtractor
from novum.metrics.functional.frechet import Moments
from novum.metrics.neighbours import knn_together, neighbour_distances
from novum.metrics.subsets import choose_rows

NEIGHBOURS = 5  # precision and recall look at the third, density and coverage at the fifth
SCHEMA = 1  # raise it whenever the same key would mean other numbers


def reference_features(
    source: Any,
    extractor: FeatureExtractor,
    batch_size: int = 256,
    *,
    progress: bool = True,
    device: torch.device | str | None = None,
) -> Tensor:
    """Features float32 (n, d) of a reference set, mapped from the cache or extracted into it."""
    features = _known_features(source, extractor)
    if features is None:
        path = _path(source, extractor, "features.npy")
        features = extract_features(extractor, source, batch_size, progress=progress, device=device)
        _store_rows(path, features)
    return features


def reference_moments(
    source: Any,
    extractor: FeatureExtractor,
    batch_size: int = 256,
    *,
    progress: bool = True,
    device: torch.device | str | None = None,
) -> Moments:
    """Moments of a reference set with their covariance factor, from the cache or computed once."""
    path = _path(source, extractor, "moments.npz")
    moments = _bundled_moments(source, extractor) or _load_moments(path, len(source))
    if moments is None:
        features = reference_features(
            source, extractor, batch_size, progress=progress, device=device
        )
        moments = Moments().update(features)
        arrays: dict[str, Any] = {name: x.numpy() for name, x in moments.state().items()}
        store(path, lambda file: np.savez(file, **arrays))
    return moments


def reference_neighbour_distances(
    source: Any,
    extractor: FeatureExtractor,
    size: int,
    batch_size: int = 256,
    *,
    progress: bool = True,
    device: torch.device | str | None = None,
) -> Tensor | None:
    """`neighbour_distances` of `choose_rows(features, size)`, from the cache or computed once.

    Of the NEIGHBOURS nearest; None of fewer rows than these need.
    """
    size = min(size, len(source))
    if size <= NEIGHBOURS:
        return None
    near = _known_distances(source, extractor, size)
    if near is None:
        path = _path(source, extractor, f"{size}-near.npy")
        features = reference_features(
            source, extractor, batch_size, progress=progress, device=device
        )
        near = neighbour_distances(choose_rows(features, size), NEIGHBOURS)
        _store_rows(path, near)
    return near


def cache_together(source: Any, extractor: FeatureExtractor, size: int | None = None) -> None:
    """All ranks compute at once what the functions above would, each a part, where it is missing.

    That is features, and neighbour distances if a size is given. One rank of each host writes.
    """
    if distributed.world_size() == 1:
        return
    if missing_somewhere(_known_features(source, extractor)):
        path = _path(source, extractor, "features.npy")
        features = extract_features_together(extractor, source)
        once_a_host(lambda: _store_rows(path, features))
    size = 0 if size is None else min(size, len(source))
    if size <= NEIGHBOURS:
        return
    near_path = _path(source, extractor, f"{size}-near.npy")
    if missing_somewhere(_known_distances(source, extractor, size)):
        chosen = choose_rows(reference_features(source, extractor), size)
        near = neighbour_distances(chosen, NEIGHBOURS, search=knn_together)
        once_a_host(lambda: _store_rows(near_path, near))


def references_of(
    extractor: FeatureExtractor, train: Any, heldout: Any | None
) -> tuple[str | int, ...]:
    """Name of the features of two sets, all that they depend on."""
    sides = [str(fingerprint(side)) for side in (train, heldout) if side is not None]
    return (SCHEMA, extractor.spec, *sides)


def _known_features(source: Any, extractor: FeatureExtractor) -> Tensor | None:
    """Features that a reference bundle or the cache has."""
    known = _bundled(source, extractor, "features", len(source))
    if known is None:
        path = _path(source, extractor, "features.npy")
        known = _load_rows(path, len(source), np.float32)
    return known


def _known_distances(source: Any, extractor: FeatureExtractor, size: int) -> Tensor | None:
    known = _bundled(source, extractor, near_name(size), size)
    if known is None:
        known = _load_rows(_path(source, extractor, f"{size}-near.npy"), size, np.float64)
    return known


def near_name(size: int) -> str:
    """Name in a bundle of the neighbour distances of so many rows."""
    return f"near/{size}"


def _bundled(source: Any, extractor: FeatureExtractor, what: str, rows: int) -> Tensor | None:
    """An array of a reference bundle, None if the source is none or lacks it."""
    if not isinstance(source, BundledImages):
        return None
    array = source.known(extractor.name, extractor.spec, what)
    if array is not None and (array.ndim != 2 or len(array) != rows):
        raise InputError(f"{source.bundle.where} is damaged: its {what} are not of its images")
    return array


def _bundled_moments(source: Any, extractor: FeatureExtractor) -> Moments | None:
    if not isinstance(source, BundledImages):
        return None
    parts = ("mean", "scatter", "factor")
    known = {x: source.known(extractor.name, extractor.spec, f"moments/{x}") for x in parts}
    state = {x: array for x, array in known.items() if array is not None}
    if len(state) < len(parts):
        return None
    return Moments.from_state({"n": torch.tensor(len(source)), **state})


def _path(source: Any, extractor: FeatureExtractor, suffix: str) -> Path:
    return entry([SCHEMA, fingerprint(source), len(source), extractor.spec], f".{suffix}")


def _store_rows(path: Path, rows: Tensor) -> None:
    store(path, lambda file: np.save(file, rows.numpy()))


def _load_rows(path: Path, n: int, dtype: type) -> Tensor | None:
    """The file as a private, memory-mapped tensor, or None if it is not whole and ours."""
    array = load_array(path, dtype)
    if array is not None and array.ndim == 2 and len(array) == n:
        return torch.from_numpy(array)
    return None


def _load_moments(path: Path, n: int) -> Moments | None:
    with suppress(Exception):  # a damaged zip raises about anything
        with np.load(path, allow_pickle=False) as file:
            moments = Moments.from_state({name: torch.from_numpy(file[name]) for name in file})
        if moments.n == n:
            return moments
    return None
