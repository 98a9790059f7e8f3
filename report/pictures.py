"""Pictures for TensorBoard and reports: uint8 tensors in, one RGB image or its bytes out."""

import io
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WHITE = 255
JPEG_PIXELS = 1_000_000  # above this a PNG takes too long to encode and too much disk


def to_rgb(images: Tensor) -> Tensor:
    """uint8 (n, 1 or 3, h, w) on any device -> uint8 (n, 3, h, w) on the CPU."""
    images = images.detach().cpu()
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def enlarge(images: Tensor, at_least: int = 64) -> Tensor:
    """Whole-number nearest-neighbour enlargement, so that small images can be seen."""
    factor = math.ceil(at_least / min(images.shape[-2:]))
    if factor <= 1:
        return images
    return images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def tile(images: Tensor, columns: int, gap: int = 2) -> Tensor:
    """Images (n, c, h, w), row by row -> one picture uint8 (3, H, W) with white gaps."""
    images = to_rgb(images)
    rows = math.ceil(len(images) / columns)
    blank = images.new_full((rows * columns - len(images), *images.shape[1:]), WHITE)
    padded = F.pad(torch.cat([images, blank]), (0, gap, 0, gap), value=WHITE)
    _, c, h, w = padded.shape
    grid = padded.view(rows, columns, c, h, w).permute(2, 0, 3, 1, 4)  # (c, rows, h, columns, w)
    return F.pad(grid.reshape(c, rows * h, columns * w), (gap, 0, gap, 0), value=WHITE)


def to_pil(picture: Tensor) -> Image.Image:
    """uint8 (3, H, W) -> PIL image."""
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())


def encode(image: Image.Image) -> bytes:
    """PNG bytes, or JPEG where the picture is large."""
    buffer = io.BytesIO()
    if image.width * image.height > JPEG_PIXELS:
        image.save(buffer, "JPEG", quality=92)
    else:
        image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def encode_gif(frames: Tensor, seconds: float = 4.0) -> bytes:
    """Frames uint8 (n, 3, H, W) -> a looping GIF that lasts `seconds`."""
    pictures = [to_pil(frame) for frame in frames]
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
    columns: Sequence[Tensor],
    headings: Sequence[str],
    captions: Sequence[Sequence[str]],
    row_labels: Sequence[str] = (),
    at_least: int = 64,
) -> Image.Image:
    """Columns of images (n, c, h, w) side by side under headings, a caption below each image.

    Args:
        columns: One tensor of n images per column.
        headings: A text of one or more lines per column.
        captions: Per column n texts, or an empty sequence.
        row_labels: n texts at the left, or nothing.
        at_least: Images are enlarged to at least this many pixels.
    """
    columns = [enlarge(to_rgb(c), at_least) for c in columns]
    font = ImageFont.load_default(size=12)
    line, gap = 16, 10
    top = line * (1 + max(text.count("\n") for text in headings)) + gap
    h, w = columns[0].shape[-2:]
    texts = [part for heading in headings for part in heading.split("\n")]
    widest = max([w, *_lengths(font, [texts, *captions])])
    cell_w, cell_h = int(widest) + gap, h + (line if any(captions) else 0) + gap
    left = int(max([0, *(font.getlength(t) for t in row_labels)])) + gap
    rows = len(columns[0])
    size = (left + cell_w * len(columns), top + cell_h * rows)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for j, (images, heading) in enumerate(zip(columns, headings, strict=True)):
        x = left + j * cell_w
        draw.text((x, gap // 2), heading, fill="black", font=font)
        for i, image in enumerate(images):
            y = top + i * cell_h
            sheet.paste(to_pil(image), (x, y))
            if captions and captions[j]:
                draw.text((x, y + h + 1), captions[j][i], fill="black", font=font)
    for i, label in enumerate(row_labels):
        draw.text((gap // 2, top + i * cell_h + h // 2 - 8), label, fill="black", font=font)
    return sheet


def _lengths(font: ImageFont.FreeTypeFont, captions: Sequence[Sequence[str]]) -> list[float]:
    return [font.getlength(text) for column in captions for text in column]
