"""Extraction of training text by prompting with it (Carlini et al., 2023, arXiv:2202.07646)."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from novum.core.errors import InputError
from novum.core.protocols import TextGenerator
from novum.core.seeds import derived_seed
from novum.core.vocabulary import UNKNOWN, Vocabulary
from novum.datamodules.sources.corpus import TextSource
from novum.metrics.functional.intervals import Interval, clopper_pearson_interval

LOOKED_AT = 64  # characters in which a place where a token begins is looked for


class Prompt(NamedTuple):
    """A place of a text: what stands before it, and how it goes on."""

    prefix: str
    suffix: str
    offset: int  # of the suffix, in characters


class Row(NamedTuple):
    """Shares of prompts that are gone on with word for word."""

    prefix: int  # characters of each prompt that are shown
    tries: int  # samples of which one is enough; 0: the likeliest characters
    train: Interval
    heldout: Interval
    p: float  # of no larger share in training text, one-sided (Fisher's exact test)
    q: float = 1.0  # adjusted for all rows, see `adjusted`


def draw_prompts(
    text: TextSource, n: int, prefix: int, suffix: int, seed: int, vocabulary: Vocabulary
) -> list[Prompt]:
    """At most n prompts from places all over a text in characters, none of which overlap.

    A suffix begins where a token does, or the model would be asked for what it has never seen.

    Raises:
        InputError: If the text is too short for two.
    """
    room = len(text) // (prefix + suffix + LOOKED_AT)
    if room < 2:
        raise InputError(
            f"a text of {len(text):,} characters is too short for prompts of {prefix} and {suffix}"
            " characters: give shorter ones"
        )
    edges = np.linspace(0, len(text), min(n, room) + 1).astype(int)
    rng = np.random.default_rng(seed)
    found = (
        _prompt(text, int(rng.integers(a + prefix, b - suffix - LOOKED_AT + 1)), prefix, suffix,
                vocabulary)
        for a, b in zip(edges, edges[1:], strict=False)
    )  # fmt: skip
    return [prompt for prompt in found if prompt is not None]


def _prompt(
    text: TextSource, start: int, prefix: int, suffix: int, vocabulary: Vocabulary
) -> Prompt | None:
    """The first place from `start` on where a token begins; None if there is none."""
    for offset in range(start, start + LOOKED_AT):
        before, after = text.text(offset - prefix, offset), text.text(offset, offset + suffix)
        if UNKNOWN in before + after:  # which is not written
            return None
        parts = [vocabulary.encode(part) for part in (before, after, before + after)]
        if np.array_equal(np.concatenate(parts[:2]), parts[2]):
            return Prompt(before, after, offset)
    return None


def recited(
    generator: TextGenerator,
    prompts: Sequence[Prompt],
    prefix: int,
    tries: int,
    temperature: float,
    seed: int,
) -> Iterator[bool]:
    """Say of each prompt whether its last `prefix` characters lead to its suffix."""
    for number, prompt in enumerate(prompts):
        texts = generator.sample_text(
            max(tries, 1),
            len(prompt.suffix),
            temperature=temperature if tries else 0.0,
            prime=prompt.prefix[-prefix:],
            seed=derived_seed(seed, number),
        )
        yield prompt.suffix in texts


def compared(prefix: int, tries: int, train: Sequence[bool], heldout: Sequence[bool]) -> Row:
    """Shares with their 95% intervals, and the test between them."""
    from scipy import stats

    test: Any = stats.fisher_exact
    table = [[sum(side), len(side) - sum(side)] for side in (train, heldout)]
    of_train, of_heldout = (
        clopper_pearson_interval(sum(side), len(side)) for side in (train, heldout)
    )
    return Row(prefix, tries, of_train, of_heldout, float(test(table, "greater").pvalue))


def adjusted(rows: Sequence[Row]) -> list[Row]:
    """Rows with q, the expected share of errors if all with a q up to this are called extraction.

    Benjamini & Hochberg (1995): the rows ask the same prompts, so that a row with more hits makes
    the others' likelier, under which it holds as well (Benjamini & Yekutieli, 2001).
    """
    from scipy.stats import false_discovery_control

    q = false_discovery_control([row.p for row in rows]).tolist()
    return [row._replace(q=value) for row, value in zip(rows, q, strict=True)]
