"""Copied passages as a picture and as Markdown, for TensorBoard."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from novum.datamodules.text import TextSource
from novum.metrics.novelty.text import JudgedTexts
from novum.metrics.novelty.text.judging import Queries
from novum.report.events import literal
from novum.report.passages import passage_picture
from novum.report.text import kind

COLOURS = {"verbatim": (247, 170, 165), "near": (249, 213, 155), "common": (205, 212, 222)}
DRAWN = 4000  # characters of a picture
LISTED = 10  # copies beside their sources
SHOWN = 400  # characters of each


def copies_picture(
    copies: Sequence[Mapping[str, Any]], queries: Queries, train: TextSource
) -> Image.Image:
    """The samples from the longest copy on, coloured where they were copied."""
    longest = max(copies, key=lambda c: c["length"], default={"sample": 0})
    first = max(0, min(longest["sample"] - 200, len(queries.tokens) - DRAWN))
    text = train.vocabulary.decode(queries.tokens[first : first + DRAWN])
    colours = np.full((len(text), 3), 255, np.uint8)
    for copy in copies:
        at = copy["sample"] - first
        colours[max(at, 0) : max(at + copy["length"], 0)] = COLOURS[kind(copy)]
    title = (
        f"{len(copies)} passages of 50 or more characters stand in the training text\n"
        "red: verbatim; yellow: but for case and white space; grey: in held-out text too"
    )
    return passage_picture(text, colours, title)


def copies_markdown(
    copies: Sequence[Mapping[str, Any]], judged: JudgedTexts, train: TextSource
) -> str:
    """The first copies beside their sources, as a table."""
    if not copies:
        return "No passage of 50 characters stands in the training text."
    rows = ["| sample | training text | where | characters | q |", "|---|---|---|---|---|"]
    for copy in copies[:LISTED]:
        start, place = copy["sample"], copy["train"]
        own = train.vocabulary.decode(judged.queries.tokens[start : start + copy["length"]])
        source = train.text(place, place + copy["train_length"])
        where = f"{_cell(copy['file'])}, {copy['file_offset']:,}"
        rows.append(
            f"| {_cell(own)} | {_cell(source)} | {where} | {copy['length']:,} | {copy['q']:.3g} |"
        )
    return "\n".join(rows)


def _cell(text: str) -> str:
    """Text in a cell of Markdown, no character of which means anything."""
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]} …"
    return literal(text).replace("\n", " ↵ ")
