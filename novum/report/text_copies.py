"""Copied passages as a picture and as Markdown, for TensorBoard."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from novum.datamodules.sources.corpus import TextSource
from novum.metrics.novelty.text.differences import Piece, differences
from novum.report.events import literal
from novum.report.formatting import number
from novum.report.model import Passage
from novum.report.passages import passage_picture

COLOURS = {
    "verbatim": (247, 170, 165),
    "folded": (249, 213, 155),
    "near": (249, 213, 155),
    "common": (205, 212, 222),
    "boilerplate": (205, 212, 222),
}
DRAWN = 4000  # characters of a picture
LISTED = 10  # copies beside their sources
SHOWN = 400  # characters of each


def copies_picture(copies: Sequence[Passage], text: str) -> Image.Image:
    """Draw the samples around the copy with most bits, coloured where they were copied."""
    start = copies[0].sample - 200 if copies else 0
    first = max(0, min(start, len(text) - DRAWN))
    shown = text[first : first + DRAWN]
    colours = np.full((len(shown), 3), 255, np.uint8)
    for copy in reversed(copies):
        at = copy.sample - first
        colours[max(at, 0) : max(at + copy.length, 0)] = COLOURS[copy.kind]
    title = (
        f"{sum(c.is_copy for c in copies)} passages stand in the training text\n"
        "red: verbatim; yellow: altered; grey: set phrases, or in held-out text too"
    )
    return passage_picture(shown, colours, title)


def copies_markdown(copies: Sequence[Passage], text: str, train: TextSource) -> str:
    """The first copies beside their sources, most information first, what differs in bold.

    A table for each: TensorBoard squeezes one with columns of figures until nothing can be read.
    """
    if not copies:
        return "No passage stands in the training text, but what chance gives."
    parts = []
    for number_, copy in enumerate(copies[:LISTED], 1):
        own = text[copy.sample : copy.sample + min(copy.length, SHOWN)]
        source = train.text(copy.train, copy.train + min(copy.train_length, SHOWN))
        found = differences(own, source)
        sure = "a fact" if copy.fact else f"q {number(copy.q)}"
        parts += [
            f"**{number_}.** {sure}, {copy.bits or 0:,.0f} bits, {copy.length:,} characters,"
            f" from offset {copy.file_offset:,} of {literal(copy.file)}",
            f"| sample {copy.text} | training text |\n|---|---|\n"
            f"| {_cell(found.own, copy.length)} | {_cell(found.source, copy.train_length)} |",
        ]
    return "\n\n".join(parts)


def _cell(pieces: Sequence[Piece], length: int) -> str:
    """Text for a cell of a Markdown table, shown as it is, what differs in bold.

    TensorBoard shows `strong`, and `b` as the letters that it is written with.
    """
    shown = "".join(
        literal(p.text) if p.same or not p.text.strip() else f"<strong>{literal(p.text)}</strong>"
        for p in pieces
    )
    return (shown + (" …" if length > SHOWN else "")).replace("\n", " ↵ ")
