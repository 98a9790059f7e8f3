"""Feature extractors by name, the pass over images that uses them, and the reference cache."""

from novum.metrics.features.cache import (
    fingerprint,
    reference_features,
    reference_moments,
    reference_neighbour_distances,
)
from novum.metrics.features.extractor import FeatureExtractor, extract_features, to_uint8
from novum.metrics.features.loading import load_extractor

__all__ = [
    "FeatureExtractor",
    "extract_features",
    "fingerprint",
    "load_extractor",
    "reference_features",
    "reference_moments",
    "reference_neighbour_distances",
    "to_uint8",
]
