"""Copied passages as a picture and as Markdown, for TensorBoard."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text import JudgedTexts
from novum.metrics.novelty.text.judging import Queries
from novum.report.events import literal
from novum.report.model import Passage
from novum.report.passages import passage_picture

COLOURS = {"verbatim": (247, 170, 165), "near": (249, 213, 155), "common": (205, 212, 222)}
DRAWN = 4000  # characters of a picture
LISTED = 10  # copies beside their sources
SHOWN = 400  # characters of each


def copies_picture(copies: Sequence[Passage], queries: Queries, train: TextSource) -> Image.Image:
    """Draw the samples around the longest copy, coloured where they were copied."""
    longest = max(copies, key=lambda c: c.length, default=None)
    start = 0 if longest is None else longest.sample - 200
    first = max(0, min(start, len(queries.tokens) - DRAWN))
    text = train.vocabulary.decode(queries.tokens[first : first + DRAWN])
    colours = np.full((len(text), 3), 255, np.uint8)
    for copy in copies:
        at = copy.sample - first
        colours[max(at, 0) : max(at + copy.length, 0)] = COLOURS[copy.kind]
    title = (
        f"{len(copies)} passages of 50 or more characters stand in the training text\n"
        "red: verbatim; yellow: but for case and white space; grey: in held-out text too"
    )
    return passage_picture(text, colours, title)


def copies_markdown(copies: Sequence[Passage], judged: JudgedTexts, train: TextSource) -> str:
    """Table of the first copies beside their sources."""
    if not copies:
        return "No passage of 50 characters stands in the training text."
    rows = ["| sample | training text | where | characters | q |", "|---|---|---|---|---|"]
    for copy in copies[:LISTED]:
        tokens = judged.queries.tokens[copy.sample : copy.sample + copy.length]
        own = train.vocabulary.decode(tokens)
        source = train.text(copy.train, copy.train + copy.train_length)
        where = f"{_cell(copy.file)}, {copy.file_offset:,}"
        rows.append(
            f"| {_cell(own)} | {_cell(source)} | {where} | {copy.length:,} | {copy.q:.3g} |"
        )
    return "\n".join(rows)


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table, shown as it is."""
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]} …"
    return literal(text).replace("\n", " ↵ ")
