"""How good samples are, and how new: metric classes, extractors, set metrics, exact neighbours."""

from novum.metrics.classes import (
    CopyRate,
    DensityCoverage,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    PrecisionRecall,
    VendiScore,
)
from novum.metrics.features import (
    FeatureExtractor,
    extract_features,
    load_extractor,
    reference_features,
    reference_moments,
    reference_neighbour_distances,
)
from novum.metrics.functional import *  # noqa: F403
from novum.metrics.functional import __all__ as _functional
from novum.metrics.neighbours import (
    Neighbours,
    knn,
    kth_neighbour_radii,
    neighbour_distances,
)

__all__ = [
    "CopyRate",
    "DensityCoverage",
    "FeatureExtractor",
    "FrechetDistance",
    "InceptionScore",
    "KernelDistance",
    "Neighbours",
    "PrecisionRecall",
    "VendiScore",
    "extract_features",
    "knn",
    "kth_neighbour_radii",
    "load_extractor",
    "neighbour_distances",
    "reference_features",
    "reference_moments",
    "reference_neighbour_distances",
    *_functional,
]
