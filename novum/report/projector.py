"""Samples and references as points in TensorBoard's Projector, each with its picture."""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector import (
    ProjectorConfig,  # pyright: ignore[reportAttributeAccessIssue]
)

from novum.core.errors import InputError
from novum.report.figures import few
from novum.report.formatting import plain
from novum.report.pictures import Pixels, tile

MOST_POINTS = 2000  # so that it loads in a few seconds
DIMENSIONS = 256  # principal ones: of Fashion-MNIST 9 of 10 nearest neighbours stay the same
THUMBNAIL = 48  # pixels
FORMULA = ("=", "+", "-", "@")  # what one begins with
SHEET = 8192  # pixels of the largest side that browsers take as one texture


def choose_points(
    sizes: Mapping[str, int],
    first: Mapping[str, Sequence[int]],
    at_most: int = MOST_POINTS,
) -> dict[str, np.ndarray]:
    """Rows to show of each set, as many of each: those named `first`, then a fixed random choice.

    Args:
        sizes: How many rows each set has.
        first: Rows not to be missed: copies, and what they are copies of.
        at_most: Points in all.
    """
    share = at_most // len(sizes)
    chosen = {}
    for name, size in sizes.items():
        kept = np.unique(np.asarray(first.get(name, ()), dtype=np.int64))[:share]
        others = np.setdiff1d(np.arange(size), kept)
        chosen[name] = np.union1d(kept, few(others, share - len(kept)))
    return chosen


def write_projector(
    folder: Path,
    features: Mapping[str, np.ndarray],
    images: Pixels,
    facts: Mapping[str, Sequence[object]],
) -> None:
    """Writes what the Projector tab shows of a log folder.

    Args:
        folder: The folder of TensorBoard's events.
        features: Per feature space the features (n, d) of all points.
        images: uint8 (n, h, w, 3).
        facts: Per column of the metadata n values: the set, the file name, the q-value.
    """
    lengths = {len(column) for column in (*features.values(), images, *facts.values())}
    if len(lengths) != 1:
        raise InputError(
            f"features, images and facts have {sorted(lengths)} rows: give as many of each"
        )
    place = folder / "projector"
    place.mkdir(parents=True, exist_ok=True)
    sheet, cell = sprite(images)
    sheet.save(place / "sprite.png")
    (place / "metadata.tsv").write_text(_table(facts), encoding="utf-8")
    config = ProjectorConfig()
    for i, (name, values) in enumerate(features.items()):
        path = f"projector/features_{i}.tsv"
        np.savetxt(folder / path, principal(values), fmt="%.5g", delimiter="\t")
        space = config.embeddings.add(tensor_name=plain(name), tensor_path=path)
        space.metadata_path = "projector/metadata.tsv"
        space.sprite.image_path = "projector/sprite.png"
        space.sprite.single_image_dim.extend(cell)
    (folder / "projector_config.pbtxt").write_text(text_format.MessageToString(config))


def principal(features: np.ndarray) -> np.ndarray:
    """Features (n, d) in their principal directions, at most DIMENSIONS of them."""
    features = np.asarray(features, dtype=np.float32)
    kept = min(DIMENSIONS, *features.shape)
    if kept == features.shape[1]:
        return features
    from sklearn.decomposition import PCA

    return PCA(kept, svd_solver="randomized", random_state=0).fit_transform(features)


def sprite(images: Pixels) -> tuple[Image.Image, tuple[int, int]]:
    """All thumbnails in one square sheet, row by row, and the width and height of one."""
    columns = ceil(sqrt(len(images)))
    side = min(THUMBNAIL, SHEET // columns)
    small = [Image.fromarray(np.ascontiguousarray(image)) for image in images]
    for picture in small:
        picture.thumbnail((side, side))
    sheet = tile(np.stack([np.asarray(picture) for picture in small]), columns, gap=0)
    return Image.fromarray(sheet), small[0].size


def _table(facts: Mapping[str, Sequence[object]]) -> str:
    """Tab-separated; the Projector wants a heading only where there are two columns or more."""
    rows = list(zip(*facts.values(), strict=True))
    if len(facts) > 1:
        rows.insert(0, tuple(facts))
    return "".join("\t".join(_entry(value) for value in row) + "\n" for row in rows)


def _entry(value: object) -> str:
    """Escape a cell so that it stays one and its text can be recovered.

    A backslash is doubled; after a single one stands what would part cells or rows, be lost at
    either end or in an empty line, or begin a formula where a spreadsheet opens the file.
    """
    if not isinstance(value, str):
        return plain(f"{value:.4g}" if isinstance(value, float) else value)
    text = plain(value.replace("\\", "\\\\")).replace("\n", "\\n")
    inner = text.strip(" ")
    start, end = (len(text) - len(cut(" ")) for cut in (text.lstrip, text.rstrip))
    if not inner:
        return "\\x20" * len(text) or "\\empty"
    formula = "\\" * (not start and inner.startswith(FORMULA))
    return "\\x20" * start + formula + inner + "\\x20" * end
