"""One p-value: do the samples favour training data over held-out data?"""

from collections.abc import Iterator

import torch
from torch import Tensor

from novum.core.errors import InputError
from novum.metrics.novelty.nearest_matches import Matches, find_clusters, find_matches
from novum.metrics.record import Measure, Metric

MOST_SURPRISE = 30.0  # what a match counts for at most
MOST_CLUSTERS = 4000  # the most surprising; the others weigh little


def train_heldout_permutation_test(
    train: Tensor, heldout: Tensor, fake: Tensor, permutations: int = 999, seed: int = 0
) -> float:
    """p-value of "which items were trained on makes no difference to the samples".

    Valid for any generator and any number of samples. It counts items, so it is weak against many
    copies of one item, which `attribution` finds.
    """
    return permutation_test_from_matches(find_matches(train, heldout, fake), permutations, seed)


def permutation_test_from_matches(
    matches: Matches, permutations: int = 999, seed: int = 0
) -> float:
    """p-value of the largest surplus of training items among the j plainest matches / sqrt(j).

    Shuffling the pool's labels gives the matched items labels drawn without replacement.
    """
    if permutations < 1:
        raise InputError(f"{permutations} permutations give no p-value: take some, such as 999")
    clusters = find_clusters(matches)
    margin, observed = clusters.margin.tolist(), clusters.trained.tolist()
    items = matches.train_items + matches.heldout_items
    generator = torch.Generator().manual_seed(seed)
    wins = torch.zeros(1 + permutations, dtype=torch.float64)
    largest = torch.full_like(wins, -torch.inf)
    for j, won in enumerate(_labels(matches, observed, permutations, generator)):
        wins += won
        if j + 1 == len(margin) or margin[j + 1] < margin[j]:  # ties enter together
            surplus = wins - (j + 1) * matches.train_items / items
            torch.maximum(largest, surplus / (j + 1) ** 0.5, out=largest)
    return _p_value(largest, generator)


def surprise_test(matches: Matches, permutations: int = 9999, seed: int = 0) -> float:
    """p-value of the sum of the surprise of all matches with training, a cluster counted once.

    `margin` is how surprising a match is (`combine_matches`). A copy is as surprising as many
    matches by chance, so that few of them show; the test is exact, as that by counts is.
    """
    clusters = find_clusters(matches)
    weight = clusters.margin[:MOST_CLUSTERS].clamp(max=MOST_SURPRISE).tolist()
    observed = clusters.trained[:MOST_CLUSTERS].tolist()
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1 + permutations, dtype=torch.float64)
    labels = _labels(matches, observed, permutations, generator)
    for surprise, won in zip(weight, labels, strict=True):
        total += surprise * won
    return _p_value(total, generator)


def _labels(
    matches: Matches, observed: list[bool], permutations: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield for each cluster if it is of training: as observed, then in each permutation.

    Labels are drawn without replacement from those of the pool.
    """
    items = matches.train_items + matches.heldout_items
    wins = torch.zeros(1 + permutations, dtype=torch.float64)
    for j, trained in enumerate(observed):
        chance = (matches.train_items - wins) / (items - j)
        won = torch.rand(len(wins), generator=generator, dtype=torch.float64) < chance
        won[0] = trained
        wins += won
        yield won


def _p_value(statistic: Tensor, generator: torch.Generator) -> float:
    """p-value of the first statistic among all; ties by chance: exactly uniform if no copy."""
    coin = torch.rand(len(statistic), generator=generator)
    ties = (statistic == statistic[0]) & (coin >= coin[0])
    return float(((statistic > statistic[0]) | ties).double().mean())


MEASURES = (
    Measure(
        (
            Metric(
                "permutation_p",
                "Permutation p",
                "How often a random split into training and held-out items looks as suspicious;"
                " copying makes it small, and so does held-out data of another kind.",
                "novelty",
                "not near 0",
                unit="p-value",
            ),
        ),
        position=202,
    ),
)
