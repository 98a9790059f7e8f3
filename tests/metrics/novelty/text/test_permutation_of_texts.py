"""The permutation test on texts: label-blind from the search to the p-value."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import binom, kstest

from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty import Matches, permutation_test_from_matches
from novum.metrics.novelty.text import TextReferences
from novum.metrics.novelty.text.near_copies import search
from novum.metrics.novelty.text.readings import read_samples
from novum.metrics.novelty.text.texts import window_matches
from tests.metrics.novelty.text.words import author

DOCUMENTS = [author(900, seed=300 + i) for i in range(48)]
SHUFFLES, PERMUTATIONS = 600, 99


def samples(of) -> list[str]:
    """Texts that quote the documents of these numbers, each once."""
    return [
        f"{author(600, seed=900 + i)}\n{DOCUMENTS[n][200:350]}\n{author(300, seed=990 + i)}"
        for i, n in enumerate(of)
    ]


def matches(texts: list[str], order, trained: int) -> Matches:
    """Best matches of windows in documents dealt to training and held-out text in this order."""
    own, other = ([DOCUMENTS[i] for i in x] for x in (order[:trained], order[trained:]))
    references = TextReferences(
        TextSource.of_documents(own, "t"), TextSource.of_documents(other, "h")
    )
    read = read_samples(texts, references.alphabets)
    found = search(
        references.pool, read.readings["folded"].tokens, read.ends["folded"], read.inner_stops
    )
    return window_matches(references.pool, found)


@cache
def unlabelled() -> Matches:
    """Of samples that quote a third of all documents, with items by their numbers."""
    numbers = range(len(DOCUMENTS))
    return matches(samples(numbers[::3]), numbers, len(DOCUMENTS) // 2)


@pytest.mark.parametrize("trained", [16, 36])
def test_the_search_does_not_see_labels(trained):
    order = np.random.default_rng(trained).permutation(len(DOCUMENTS))
    found, known = matches(samples(range(0, len(DOCUMENTS), 3)), order, trained), unlabelled()
    assert found[3:5] == (trained, len(DOCUMENTS) - trained)
    plain = known.margin > 30
    assert plain.sum() >= 16
    # the order of documents counts for the statistics of n-grams
    assert torch.allclose(found.margin[plain], known.margin[plain], atol=3)
    assert order[found.item[plain].numpy()].tolist() == known.item[plain].tolist()
    assert ((found.side == 1) == (found.item < trained))[plain].all()
    quoted = {int(order[i]) for i in found.item[plain].tolist()}
    assert len(quoted) >= 14 and all(n % 3 == 0 for n in quoted)  # not the documents beside them


@pytest.mark.parametrize("trained", [12, 24, 40])
def test_p_is_uniform_under_shuffled_labels(trained):
    """A right test fails the first bound once in 100 times, each other one once in 1000; the seeds
    are fixed."""
    known, p = unlabelled(), []
    for seed in range(SHUFFLES):
        places = torch.randperm(len(DOCUMENTS), generator=torch.Generator().manual_seed(seed))
        item = places[known.item]
        side = torch.where(item < trained, 1, -1).to(torch.int8) * known.side.abs()
        found = Matches(item, side, known.margin, trained, len(DOCUMENTS) - trained)
        p.append(permutation_test_from_matches(found, PERMUTATIONS, seed))
    p = np.array(p)
    assert kstest(p, "uniform", args=(1 / (2 * (PERMUTATIONS + 1)), 1)).pvalue > 0.01
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).sum() <= binom.ppf(0.999, SHUFFLES, level)


@pytest.mark.slow
def test_p_is_uniform_over_whole_searches():
    """Documents dealt anew and searched again; the bounds of the test above."""
    texts, p = samples(range(0, len(DOCUMENTS), 3)), []
    for seed in range(60):
        order = np.random.default_rng(seed).permutation(len(DOCUMENTS))
        p.append(permutation_test_from_matches(matches(texts, order, 36), PERMUTATIONS, seed))
    p = np.array(p)
    assert kstest(p, "uniform", args=(1 / (2 * (PERMUTATIONS + 1)), 1)).pvalue > 0.01
    assert (p <= 0.05).sum() <= binom.ppf(0.999, len(p), 0.05)


def test_p_is_small_where_training_text_alone_is_quoted():
    p = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(DOCUMENTS))
        found = matches(samples(order[:16]), order, 24)
        p.append(permutation_test_from_matches(found, PERMUTATIONS, seed))
    assert max(p) <= 0.02
