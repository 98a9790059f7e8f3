"""Bits of text, and how long its n-grams are, wherever a part of it begins and ends."""

import numpy as np
import pytest

from novum.metrics.novelty.text import information
from novum.metrics.novelty.text.information import LONGEST, Scale


@pytest.fixture
def crowded(monkeypatch):
    """A text whose n-grams share the slots of a small table."""
    monkeypatch.setattr(information, "SLOTS", 1 << 9)
    random = np.random.default_rng(0)
    return random.zipf(1.5, 60_000).clip(max=60).astype(np.uint8)


def test_no_character_has_less_than_no_information(crowded):
    assert Scale([crowded]).bits(crowded, 2).min() == 0


def test_n_grams_of_a_part_are_as_long_as_those_of_the_whole(crowded):
    scale = Scale([crowded])
    whole = scale.lengths(crowded)
    for stop in range(500, 59_000, 500):
        assert np.array_equal(scale.lengths(crowded[: stop + LONGEST])[:stop], whole[:stop])
