"""Feature extractors by name, the pass over images that uses them, and the reference cache."""

from novum.metrics.features.cache import (
    cache_together,
    fingerprint,
    reference_features,
    reference_moments,
    reference_neighbour_distances,
)
from novum.metrics.features.extractor import (
    FeatureExtractor,
    extract_features,
    extract_features_together,
    to_uint8,
)
from novum.metrics.features.loading import load_extractor

__all__ = [
    "FeatureExtractor",
    "cache_together",
    "extract_features",
    "extract_features_together",
    "fingerprint",
    "load_extractor",
    "reference_features",
    "reference_moments",
    "reference_neighbour_distances",
    "to_uint8",
]
