"""Novelty: what samples owe to the training set, always held against unseen data."""

from typing import TYPE_CHECKING

from novum.core.lazy import lazy_exports

if TYPE_CHECKING:
    from novum.metrics.novelty.attribution import (
        Attribution,
        attribution,
        attribution_from_matches,
    )
    from novum.metrics.novelty.carlini_distance import calibrated_distance
    from novum.metrics.novelty.copying import (
        CopyTest,
        copy_rate,
        copy_rate_from_matches,
        copy_test,
        copy_test_from_matches,
        drawn_to_training,
    )
    from novum.metrics.novelty.nearest import Neighbours, find_neighbours, share_interval
    from novum.metrics.novelty.nearest_matches import Matches, find_matches
    from novum.metrics.novelty.permutation import (
        permutation_test_from_matches,
        train_heldout_permutation_test,
    )

__getattr__, __dir__ = lazy_exports(__name__, __file__)

__all__ = [
    "Attribution",
    "CopyTest",
    "Matches",
    "Neighbours",
    "attribution",
    "attribution_from_matches",
    "calibrated_distance",
    "drawn_to_training",
    "copy_rate",
    "copy_rate_from_matches",
    "copy_test",
    "copy_test_from_matches",
    "find_matches",
    "find_neighbours",
    "permutation_test_from_matches",
    "share_interval",
    "train_heldout_permutation_test",
]
