"""Figures about attacks: accuracy against epsilon, and the flow from class to class."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from novum.report.pictures import Pixels

DPI = 110


def draw_robustness(
    epsilons: Sequence[float], accuracy: Sequence[float], confidence: Sequence[float]
) -> bytes:
    """PNG: accuracy, and how sure the network is of its wrong answers, against epsilon."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(epsilons, accuracy, "o-", label="accuracy")
    axes.plot(epsilons, confidence, "s--", label="mean confidence of wrong answers")
    axes.set(xlabel="epsilon (pixels in [0, 1])", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    return _png(figure)


def draw_class_flow(counts: np.ndarray, names: Sequence[str], title: str) -> bytes:
    """PNG of counts (k, k): rows are true classes, columns what attacked images are taken for."""
    size = 2.2 + 0.42 * len(names)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(title=title, xlabel="taken for", ylabel="true class")
    if len(names) <= 25:
        for (i, j), n in np.ndenumerate(counts):
            if n:
                color = "white" if shares[i, j] > 0.5 else "black"
                axes.text(j, i, str(n), ha="center", va="center", color=color, fontsize=7)
    return _png(figure)


def attack_figure(
    images: Pixels, headings: Sequence[str], captions: Sequence[Sequence[str]]
) -> Image.Image:
    """Images (n, h, w, 3) side by side, a heading above and lines of text below each."""
    font = ImageFont.load_default(size=15)
    n, h, w, _ = images.shape
    gap, line = 12, 20
    texts = [*headings, *(text for part in captions for text in part)]
    cell = max(w, *(int(font.getlength(text)) for text in texts)) + gap
    lines = max(len(part) for part in captions)
    sheet = Image.new("RGB", (gap + n * cell, h + (lines + 1) * line + 2 * gap), "white")
    draw = ImageDraw.Draw(sheet)
    for i in range(n):
        x = gap + i * cell
        draw.text((x, gap // 2), headings[i], fill="black", font=font)
        sheet.paste(Image.fromarray(images[i]), (x, gap + line))
        for j, text in enumerate(captions[i]):
            draw.text((x, gap + h + (j + 1) * line + 3), text, fill="black", font=font)
    return sheet


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
