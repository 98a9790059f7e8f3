"""Feature extractors by name, the pass over images that uses them, and the reference cache."""

from typing import TYPE_CHECKING

from novum.core.lazy import lazy_exports

if TYPE_CHECKING:
    from novum.metrics.features.extraction import (
        as_uint8,
        extract_features,
        extract_features_together,
        fingerprint,
    )
    from novum.metrics.features.extractor import FeatureExtractor
    from novum.metrics.features.feature_cache import (
        cache_together,
        reference_features,
        reference_moments,
        reference_neighbour_distances,
        references_of,
    )
    from novum.metrics.features.loading import load_extractor

__getattr__, __dir__ = lazy_exports(__name__, __file__)

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
    "references_of",
    "as_uint8",
]
