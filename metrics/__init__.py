"""How good samples are, and how new: extractors, set metrics and exact neighbours."""

from novum.metrics.features import (
    FeatureExtractor,
    extract_features,
    load_extractor,
    reference_features,
    reference_moments,
)
from novum.metrics.functional import *  # noqa: F403
from novum.metrics.functional import __all__ as _functional
from novum.metrics.neighbours import Neighbours, knn, kth_neighbour_radii

__all__ = [
    "FeatureExtractor",
    "Neighbours",
    "extract_features",
    "knn",
    "kth_neighbour_radii",
    "load_extractor",
    "reference_features",
    "reference_moments",
    *_functional,
]
