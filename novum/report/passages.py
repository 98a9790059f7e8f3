"""Passages of text as pictures, a colour behind each character (TensorBoard's text has none)."""

from collections.abc import Sequence

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from novum.report.pictures import Pixels

SIZE = 14  # of the letters, pixels
MARGIN = 10


def passage_picture(
    text: str,
    colours: Pixels,
    title: str = "",
    columns: int = 100,
) -> Image.Image:
    """Text in letters of one width, wrapped at `columns`, on a colour for each character.

    Args:
        text: n characters; a newline ends a line, and its colour is shown there.
        colours: uint8 (n, 3).
        title: One or more lines above.
        columns: Most characters in a line.
    """
    places = _places(text, columns)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans Mono"), SIZE)
    width, height = font.getlength("m"), SIZE + 5
    rows = 1 + max((row for row, _ in places), default=0)
    heading = title.splitlines()
    top = MARGIN + height * len(heading) + (MARGIN if heading else 0)
    widest = max([len(line) for line in heading] + [column + 1 for _, column in places])
    size = (int(2 * MARGIN + widest * width), top + rows * height + MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(heading):
        draw.text((MARGIN, MARGIN + i * height), line, fill="black", font=font)
    for character, colour, (row, column) in zip(text, colours, places, strict=True):
        x, y = MARGIN + column * width, top + row * height
        draw.rectangle((x, y, x + width, y + height - 1), fill=tuple(map(int, colour)))
        if character.isprintable():
            draw.text((x, y + 1), character, fill="black", font=font)
    return sheet


def _places(text: str, columns: int) -> list[tuple[int, int]]:
    """Row and column of each character; a tab is one column wide."""
    places, row, column = [], 0, 0
    for character in text:
        if column >= columns and character != "\n":
            row, column = row + 1, 0
        places.append((row, column))
        row, column = (row + 1, 0) if character == "\n" else (row, column + 1)
    return places


def shades(
    values: Sequence[float] | np.ndarray, low: tuple[int, int, int], high: tuple[int, int, int]
) -> Pixels:
    """Values (n,) in [-1, 1] as colours (n, 3): white at 0, `low` at -1, `high` at 1."""
    values = np.clip(np.asarray(values, np.float64), -1, 1)[:, None]
    ends = np.where(values < 0, np.array(low), np.array(high))  # (n, 3)
    return (255 + (ends - 255) * np.abs(values)).round().astype(np.uint8)
