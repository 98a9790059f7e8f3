"""Pictures for TensorBoard and reports: uint8 images in, one RGB picture or its bytes out.

All of it is NumPy and Pillow: a torch operation in a second thread would start a second OpenMP
pool, and every later training step would share the cores with it (measured: 3 times slower).
"""

import io
import math
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WHITE = 255
CARD = 350  # pixels that TensorBoard gives to the width of a picture
LEGIBLE = 9  # height of letters there
SMALLEST = 12  # of letters in a picture
JPEG_PIXELS = 1_000_000  # above this a PNG takes too long to encode and too much disk

Pixels = np.ndarray  # uint8 (n, h, w, 3), or (h, w, 3) for one picture


def to_rgb(images: Tensor) -> Pixels:
    """uint8 (n, 1, 3 or 4, h, w) on any device -> uint8 (n, h, w, 3); RGBA over white."""
    pixels = images.detach().cpu().numpy().transpose(0, 2, 3, 1)
    if pixels.shape[3] == 4:
        alpha = pixels[..., 3:].astype(np.uint16)
        over = pixels[..., :3] * alpha + WHITE * (WHITE - alpha)
        return ((over + WHITE // 2) // WHITE).astype(np.uint8)
    return np.broadcast_to(pixels, (*pixels.shape[:3], 3))


def enlarge(pixels: Pixels, at_least: int = 64) -> Pixels:
    """Whole-number nearest-neighbour enlargement, so that small images can be seen."""
    factor = math.ceil(at_least / min(pixels.shape[1:3]))
    return pixels if factor <= 1 else pixels.repeat(factor, axis=1).repeat(factor, axis=2)


def tile(pixels: Pixels, columns: int, gap: int = 2) -> Pixels:
    """Images (n, h, w, 3), row by row -> one picture (H, W, 3) with white gaps."""
    n, h, w, _ = pixels.shape
    rows = math.ceil(n / columns)
    cells = np.full((rows * columns, h + gap, w + gap, 3), WHITE, dtype=np.uint8)
    cells[:n, :h, :w] = pixels
    grid = cells.reshape(rows, columns, h + gap, w + gap, 3).swapaxes(1, 2)
    picture = grid.reshape(rows * (h + gap), columns * (w + gap), 3)
    return np.pad(picture, ((gap, 0), (gap, 0), (0, 0)), constant_values=WHITE)


def fit_height(pixels: Sequence[Pixels], height: int = 256, gap: int = 4) -> Pixels:
    """Pictures (h, w, 3) of any sizes side by side, all as high as `height`."""
    parts = []
    for picture in pixels:
        width = max(1, round(picture.shape[1] * height / picture.shape[0]))
        image = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
        parts += [np.asarray(image), np.full((height, gap, 3), WHITE, dtype=np.uint8)]
    return np.concatenate(parts[:-1], axis=1)


def encode(picture: Pixels | Image.Image) -> bytes:
    """PNG bytes, or JPEG where the picture is large."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    if image.width * image.height > JPEG_PIXELS:
        image.save(buffer, "JPEG", quality=92)
    else:
        image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def encode_gif(frames: Sequence[Pixels], seconds: float = 4.0) -> bytes:
    """Frames (H, W, 3) -> a looping GIF that lasts `seconds`."""
    pictures = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=int(1000 * seconds / len(pictures)),
        loop=0,
    )
    return buffer.getvalue()


def captioned_table(
    columns: Sequence[Pixels],
    headings: Sequence[str],
    captions: Sequence[Sequence[str]] = (),
    at_least: int = 64,
) -> Image.Image:
    """Columns of images (n, h, w, 3) side by side under headings, a caption below each image.

    Letters are as large as can be read on a card of TensorBoard, which shows the whole picture.

    Args:
        columns: One array of n images per column.
        headings: A text of one or more lines per column.
        captions: Per column n texts, or an empty sequence.
        at_least: Images are enlarged to at least this many pixels.
    """
    columns = [enlarge(c, at_least) for c in columns]
    h, w = columns[0].shape[1:3]
    gap = 10
    size = max(SMALLEST, round(LEGIBLE * (gap + (w + gap) * len(columns)) / CARD))
    font, line = ImageFont.load_default(size=size), size + 4
    headings = [_wrapped(heading, font, w) for heading in headings]
    top = line * (1 + max(text.count("\n") for text in headings)) + gap
    texts = [t for heading in headings for t in heading.split("\n")]
    texts += [t for column in captions for t in column]
    cell_w = int(max(w, *(font.getlength(t) for t in texts))) + gap
    cell_h = h + (line if captions else 0) + gap
    sheet = Image.new("RGB", (gap + cell_w * len(columns), top + cell_h * len(columns[0])), "white")
    draw = ImageDraw.Draw(sheet)
    for j, (images, heading) in enumerate(zip(columns, headings, strict=True)):
        x = gap + j * cell_w
        draw.text((x, gap // 2), heading, fill="black", font=font, spacing=4)
        for i, image in enumerate(images):
            y = top + i * cell_h
            sheet.paste(Image.fromarray(image), (x, y))
            if captions and captions[j]:
                draw.text((x, y + h + 1), captions[j][i], fill="black", font=font)
    return sheet


def _wrapped(heading: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """A heading in lines as wide as an image, parted where a name has a mark of its own."""
    lines = []
    for whole in heading.split("\n"):
        lines.append("")
        for part in re.split(r"(?<=[_/@ -])", whole):
            if lines[-1] and font.getlength(lines[-1] + part) > width:
                lines.append("")
            lines[-1] += part
    return "\n".join(lines)
