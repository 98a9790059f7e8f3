"""Attribution: training items that samples copy, and how often."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.metrics.neighbours import distinct_rows
from novum.metrics.novelty.nearest_matches import TRAIN, Matches, find_matches, margin_of


class Attribution(NamedTuple):
    """The training items that samples come near, the most certainly copied first."""

    train_rows: Tensor  # (t,) int64, the first of equal rows
    counts: Tensor  # (t,) int64: samples it is plainly the nearest of, at the ratio or more
    matches: Tensor  # (t,) int64: samples it is the nearest of at all
    p_values: Tensor  # (t,) float64
    q_values: Tensor  # (t,) float64 (Benjamini & Hochberg, 1995)
    duplicates: Tensor | None = None  # (t,) int64: training rows equal to it, itself included


def attribution(train: Tensor, heldout: Tensor, fake: Tensor, ratio: float = 2.0) -> Attribution:
    """Rank the training items that samples come `ratio` times nearer to than to other items.

    Finds one item copied many times, which tests that count items cannot. Samples count as
    independent draws: a collapsed generator that repeats one sample near a training item is told
    from a copier by `copy_test` alone.
    """
    found = attribution_from_matches(find_matches(train, heldout, fake), margin_of(ratio))
    _, inverse = distinct_rows(train)
    return found._replace(duplicates=inverse.bincount()[inverse[found.train_rows]])


def attribution_from_matches(matches: Matches, margin: float) -> Attribution:
    """Are matches of an item at this margin more than the share of held-out items' that are?

    p is the binomial tail of that share, by the rule of succession: samples are never copies of
    held-out items, and how many fall near an item does not matter, so neither does truncation.
    """
    from scipy.stats import binom, false_discovery_control

    item, inverse, total = matches.item.unique(return_inverse=True, return_counts=True)
    plain = torch.zeros_like(total).index_add_(0, inverse, (matches.margin >= margin).long())
    trained = torch.zeros_like(item, dtype=torch.bool)
    trained[inverse] = matches.side == TRAIN
    chance = float((1 + plain[~trained].sum()) / (2 + total[~trained].sum()))
    rows, counts, totals = (x[trained].cpu().numpy() for x in (item, plain, total))
    p = binom.sf(counts - 1, totals, chance)
    q = false_discovery_control(p) if len(p) else p
    order = np.lexsort((-counts, p))
    order = order[counts[order] > 0]
    table = (torch.from_numpy(x[order]).to(item.device) for x in (rows, counts, totals, p, q))
    return Attribution(*table)
