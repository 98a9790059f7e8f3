"""Twins that write: their texts, and their losses, against both halves of the text."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from novum.core.devices import default_device
from novum.core.errors import NotComputable
from novum.datamodules.halves import HALVES, Units
from novum.datamodules.sources.corpus import Piece, TextSource
from novum.datamodules.text import TextDataModule
from novum.evaluation.generators import evaluating
from novum.evaluation.inside import item_losses
from novum.evaluation.text_sets import NUM_TEXTS, draw_texts
from novum.evaluation.twins import (
    Models,
    Tested,
    collect,
    describe_deal,
    evidence_of,
    facts_p,
    halves_of,
    scored_by,
)
from novum.metrics.novelty.text import JudgedTexts, TextReferences, judge_text
from novum.metrics.novelty.text.spans import inside_of
from novum.metrics.novelty.text.texts import TextCopy
from novum.metrics.novelty.twin_test import FEWEST_UNITS
from novum.report.model import Estimate
from novum.report.twin_page import LIKELIHOOD, REPRODUCTION, Cell, Twin, TwinReport

MOST_WINDOWS = 2_000  # whose losses are compared
WINDOWS = (128, 32)  # tokens of a window; the second where too few units have the first


class TextHalves(NamedTuple):
    """Both halves as one text in characters, spans of half a first."""

    text: TextSource
    starts: NDArray[np.int64]  # (s,) of each span
    unit: Units  # (s,)
    in_a: NDArray[np.bool_]  # (s,)

    @classmethod
    def of(cls, data: TextDataModule) -> "TextHalves":
        """The halves of the data of either twin."""
        sides = [side.as_characters() for side in halves_of(data).values()]
        first = len(sides[0])
        pieces = [*sides[0].pieces]
        pieces += [Piece(first + p.start, p.name, p.offset) for p in sides[1].pieces]
        tokens = np.concatenate([side.tokens for side in sides])
        deal = data.dealt().deal
        starts = np.array([piece.start for piece in pieces])
        text = TextSource(tokens, sides[0].vocabulary, pieces)
        return cls(text, starts, deal.unit, deal.item_in_a)

    def span(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of the span that each character is in."""
        return np.searchsorted(self.starts, places, "right") - 1


def compare_texts(models: Models, data: TextDataModule, twins: list[Twin], seed: int) -> TwinReport:
    """Compare two text models; all ranks call it at once."""
    halves = TextHalves.of(data)
    references = TextReferences(halves.text, None)  # labels of halves come after the search
    references.prepare()
    judged: dict[str, JudgedTexts] = {}
    for half in HALVES:
        with evaluating(models[half].to(default_device())):
            texts = draw_texts(models[half], NUM_TEXTS, seed)
        judged[half] = judge_text(references, texts, seed=seed, together=True)
    cells = [_cell(judged[twin], twin, half, halves) for twin in HALVES for half in HALVES]
    dealt = describe_deal(data.dealt().deal)
    report = TwinReport("text", twins, dealt, NUM_TEXTS, cells, facts_p(cells), seed)
    tests = [
        (REPRODUCTION, lambda: _reproduction(judged, halves, data, seed)),
        (LIKELIHOOD, lambda: _likelihood(models, data, seed)),
    ]
    collect(report, tests)
    return report


def _cell(found: JudgedTexts, twin: str, half: str, halves: TextHalves) -> Cell:
    """Compare the texts of a twin with a half."""
    span = halves.span(np.array([copy.place for copy in found.copies], np.int64))
    mine = halves.in_a[span] == (half == "a")
    copies = [copy for copy, kept in zip(found.copies, mine, strict=True) if kept]
    inside = inside_of(
        np.array([copy.start for copy in copies], np.int64),
        np.array([copy.length for copy in copies], np.int64),
        len(found.text),
    )
    facts = np.array([copy.is_fact for copy in copies], np.bool_)
    units = np.unique(halves.unit[span[mine][facts]])
    share = Estimate(float(inside.mean()))
    return Cell(twin, half, share, len(copies), int(facts.sum()), len(units))


def _reproduction(
    judged: Mapping[str, JudgedTexts], halves: TextHalves, data: TextDataModule, seed: int
) -> Tested:
    """Test how many bits of each span the texts of either twin have in one passage."""
    figures: dict[str, NDArray[np.float64]] = {}
    best: dict[int, tuple[TextCopy, str]] = {}  # the passage of each span, and its text
    for half, found in judged.items():
        places = np.array([copy.place for copy in found.copies], np.int64)
        figures[half] = np.zeros(len(halves.starts))
        for copy, span in zip(found.copies, halves.span(places).tolist(), strict=True):
            figures[half][span] = max(figures[half][span], copy.bits)
            if halves.in_a[span] != (half == "a"):
                continue
            if span not in best or best[span][0].bits < copy.bits:
                best[span] = copy, found.text[copy.start : copy.start + copy.length]

    def name(span: int) -> str:
        file, offset = halves.text.place(best[span][0].place if span in best else _at(halves, span))
        return f"{file}, {offset:,}"

    def passages(span: int) -> tuple[str | None, str | None]:
        if span not in best:
            return None, None
        copy, passage = best[span]
        return halves.text.text(copy.place, copy.place + copy.source_length), passage

    rows = np.arange(len(halves.starts))
    measure = "bits of the best passage in the texts"
    tested = evidence_of(measure, figures, rows, data.dealt().deal, higher=True, seed=seed)
    return Tested(*tested, figures, rows, name, passages)


def _at(halves: TextHalves, span: int) -> int:
    return int(halves.starts[span])


class Windows(NamedTuple):
    """Windows of tokens, each inside a span."""

    tokens: torch.Tensor  # (n, t + 1)
    span: NDArray[np.int64]  # (n,)
    place: list[tuple[str, int]]  # (n,) half, and the first token there


def draw_windows(data: TextDataModule, length: int, seed: int) -> Windows:
    """At most MOST_WINDOWS windows, drawn without knowing which half they are in."""
    sides: dict[str, TextSource] = halves_of(data)
    every: list[tuple[int, str, int]] = []
    number = 0
    for half, side in sides.items():
        for _, start, stop in side.documents():
            every += [(number, half, at) for at in range(start, stop - length, length)]
            number += 1
    order = np.random.default_rng([seed, 2]).permutation(len(every))[:MOST_WINDOWS]
    chosen = [every[i] for i in sorted(order.tolist())]
    rows = [sides[half].tokens[at : at + length + 1].astype(np.int64) for _, half, at in chosen]
    tokens = torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, length + 1).long()
    span = np.array([span for span, *_ in chosen], np.int64)
    return Windows(tokens, span, [(half, at) for _, half, at in chosen])


def _likelihood(models: Models, data: TextDataModule, seed: int) -> Tested:
    """Test the losses of windows."""
    measure, deal = scored_by(models), data.dealt().deal
    found = draw_windows(data, WINDOWS[0], seed)
    if len(np.unique(deal.unit[found.span])) < FEWEST_UNITS:
        found = draw_windows(data, WINDOWS[1], seed)
    length = found.tokens.shape[1] - 1
    if not len(found.span):
        raise NotComputable(f"no span of the text has {length} tokens")
    figures = {half: item_losses(models[half], found.tokens, None) for half in HALVES}
    of_windows = deal._replace(unit=deal.unit[found.span])
    rows = np.arange(len(found.span))
    tested = evidence_of(measure, figures, rows, of_windows, higher=False, seed=seed)
    sides: dict[str, TextSource] = halves_of(data)

    def name(row: int) -> str:
        half, at = found.place[row]
        file, offset = sides[half].place(at)
        return f"{file}, {offset:,}"

    def passages(row: int) -> tuple[str | None, str | None]:
        half, at = found.place[row]
        return sides[half].text(at, at + length + 1), None

    return Tested(*tested, figures, rows, name, passages)
