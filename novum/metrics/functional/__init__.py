"""Set metrics: pure functions of (n, d) feature tensors."""

from typing import TYPE_CHECKING

from novum.core.lazy import lazy_exports

if TYPE_CHECKING:
    from novum.metrics.functional.clipped import ClippedDensityCoverage, clipped_density_coverage
    from novum.metrics.functional.diversity import inception_score, vendi_score
    from novum.metrics.functional.frechet import (
        Moments,
        covariance_factor,
        frechet_distance,
        frechet_distance_from_features,
        frechet_distance_infinity,
        frechet_distance_interval,
    )
    from novum.metrics.functional.intervals import (
        Interval,
        clopper_pearson_interval,
        normal_interval,
        wilson_interval,
    )
    from novum.metrics.functional.kernel import kernel_distance, kernel_distance_interval
    from novum.metrics.functional.likelihood import (
        feature_likelihood_divergence,
        feature_likelihood_gap,
    )
    from novum.metrics.functional.manifold import (
        density_coverage,
        expected_coverage,
        precision_recall,
        rarity,
        realism,
    )
    from novum.metrics.functional.memorization import (
        authenticity,
        data_copying_test,
        memorization_distance,
        memorization_informed_frechet_distance,
    )
    from novum.metrics.functional.parzen import LogLikelihood, parzen_log_likelihood, parzen_sigma
    from novum.metrics.functional.path_length import perceptual_path_length
    from novum.metrics.functional.separability import linear_separability
    from novum.metrics.functional.sliced import sliced_wasserstein_distance
    from novum.metrics.novelty.attribution import attribution
    from novum.metrics.novelty.carlini_distance import calibrated_distance
    from novum.metrics.novelty.copying import copy_rate, copy_test
    from novum.metrics.novelty.permutation import train_heldout_permutation_test

__getattr__, __dir__ = lazy_exports(__name__, __file__)

__all__ = [
    "ClippedDensityCoverage",
    "Interval",
    "LogLikelihood",
    "Moments",
    "attribution",
    "authenticity",
    "calibrated_distance",
    "clipped_density_coverage",
    "clopper_pearson_interval",
    "copy_rate",
    "copy_test",
    "covariance_factor",
    "data_copying_test",
    "density_coverage",
    "expected_coverage",
    "feature_likelihood_divergence",
    "feature_likelihood_gap",
    "frechet_distance",
    "frechet_distance_from_features",
    "frechet_distance_infinity",
    "frechet_distance_interval",
    "inception_score",
    "kernel_distance",
    "kernel_distance_interval",
    "linear_separability",
    "memorization_distance",
    "memorization_informed_frechet_distance",
    "normal_interval",
    "parzen_log_likelihood",
    "parzen_sigma",
    "perceptual_path_length",
    "precision_recall",
    "rarity",
    "realism",
    "sliced_wasserstein_distance",
    "train_heldout_permutation_test",
    "vendi_score",
    "wilson_interval",
]
