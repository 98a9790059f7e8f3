"""Differences between a passage and its source."""

from bisect import bisect_left
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import groupby
from typing import NamedTuple

GRAM = 12  # characters that anchor both sides to each other, where they occur once on each
GAP = 600  # characters between two anchors that are compared; longer ones are replaced whole


class Piece(NamedTuple):
    """A stretch of one side that is the same on the other, or not."""

    text: str
    same: bool


class Differences(NamedTuple):
    own: list[Piece]
    source: list[Piece]
    identity: float  # share of the longer side that is the same, in order
    edits: int  # stretches replaced, inserted or left out


def differences(own: str, source: str) -> Differences:
    """Align a passage with its source, case and kinds of space aside.

    Between n-grams that occur once on each side, and in the same order (Cohen's patience diff),
    characters are compared.
    """
    keys = _keys(own), _keys(source)
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    same = edits = 0
    for equal, group in groupby(_blocks(*keys), key=lambda block: block[0]):
        spans = [block[1:] for block in group]
        edits += not equal
        for side, text, (first, stop) in (
            (sides[0], own, (spans[0][0], spans[-1][1])),
            (sides[1], source, (spans[0][2], spans[-1][3])),
        ):
            if stop > first:
                side.append(Piece(text[first:stop], equal))
        same += spans[-1][1] - spans[0][0] if equal else 0
    return Differences(*sides, same / max(len(own), len(source), 1), edits)


_Block = tuple[bool, int, int, int, int]  # is it the same? from and to, on each side


def _keys(text: str) -> str:
    """Characters in lower case, any white space as one, as many as the text has."""
    return "".join(" " if c.isspace() else low if len(low := c.lower()) == 1 else c for c in text)


def _blocks(a: str, b: str) -> Iterator[_Block]:
    at = at_source = 0
    for first, second in [*_anchors(a, b), (len(a), len(b))]:
        if first < at or second < at_source:
            continue  # inside of what the last anchor grew to
        yield from _gap(a, b, at, first, at_source, second)
        stop, stop_source = first, second
        while stop < len(a) and stop_source < len(b) and a[stop] == b[stop_source]:
            stop, stop_source = stop + 1, stop_source + 1
        if stop > first:
            yield True, first, stop, second, stop_source
        at, at_source = stop, stop_source


def _gap(a: str, b: str, low: int, high: int, low_b: int, high_b: int) -> Iterator[_Block]:
    if low == high and low_b == high_b:
        return
    if max(high - low, high_b - low_b) > GAP:
        yield False, low, high, low_b, high_b
        return
    matcher = SequenceMatcher(None, a[low:high], b[low_b:high_b], autojunk=False)
    for tag, i, j, k, m in matcher.get_opcodes():
        yield tag == "equal", low + i, low + j, low_b + k, low_b + m


def _anchors(a: str, b: str) -> list[tuple[int, int]]:
    """Places of n-grams that occur once on each side: the longest row that ascends on both."""
    once = _once(b)
    pairs = sorted((i, once[gram]) for gram, i in _once(a).items() if gram in once)
    ends: list[int] = []  # the least place on which a row of each length ends
    rows: list[int] = []
    before: list[int] = []
    for number, (_, place) in enumerate(pairs):
        length = bisect_left(ends, place)
        before.append(rows[length - 1] if length else -1)
        if length == len(ends):
            ends.append(place)
            rows.append(number)
        else:
            ends[length], rows[length] = place, number
    found, number = [], rows[-1] if rows else -1
    while number >= 0:
        found.append(pairs[number])
        number = before[number]
    return found[::-1]


def _once(text: str) -> dict[str, int]:
    places: dict[str, int] = {}
    for i in range(len(text) - GRAM + 1):
        gram = text[i : i + GRAM]
        places[gram] = -1 if gram in places else i
    return {gram: i for gram, i in places.items() if i >= 0}
