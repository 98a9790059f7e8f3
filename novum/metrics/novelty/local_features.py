"""Local features: SIFT keypoints (Lowe, 2004) with RootSIFT descriptors (Arandjelović & Zisserman,
2012).

They stand for small pieces of an image, so a copy shows whatever is around it, over it, or missing.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novum.core.bars import progress as show_progress
from novum.metrics.features.extraction import Images, as_uint8, check_images

SMALLEST, LARGEST = 128, 512  # px of the longer side: other images are enlarged or shrunk
MOST_POINTS = 500  # of an image, those of the largest contrast
LEAST_CONTRAST = 0.01
WIDTH = 128  # numbers of a descriptor: 4 x 4 cells of 8 directions
SCALE = 512.0  # of a descriptor's numbers, stored as uint8
BLOCK = 256  # images read at a time
VARIANTS = 4  # as it is, mirrored, negative, both
CENTRE = 0.25  # px: of the first pixel, as OpenCV enlarges an image without moving its middle


class LocalFeatures(NamedTuple):
    """Keypoints of n images, one image after the other.

    Coordinates are centred and in half longer sides, so that lengths are the same in x and y.
    """

    points: Tensor  # (p, 4) float32: x, y, the radius described, and its direction in radians
    descriptors: Tensor  # (p, 128) uint8: SCALE times unit vectors
    starts: Tensor  # (n + 1,) int64: image i has points starts[i] to starts[i + 1]

    @property
    def owners(self) -> Tensor:
        """The image (p,) of each point."""
        return torch.arange(len(self.starts) - 1).repeat_interleave(self.starts.diff())

    def of(self, first: int, last: int) -> "LocalFeatures":
        """The features of images `first` to `last`."""
        start, end = int(self.starts[first]), int(self.starts[last])
        starts = self.starts[first : last + 1] - start
        return LocalFeatures(self.points[start:end], self.descriptors[start:end], starts)


def extract_local_features(
    source: Images,
    part: slice | None = None,
    *,
    progress: bool = True,
    see: Callable[[Tensor], object] | None = None,
) -> LocalFeatures:
    """Local features of uint8 images (n, c, h, w), gray or RGB, on the CPU's cores.

    Args:
        part: The rows that are wanted, if not all.
        see: Called with each block of images, so that others need not read them again.
    """
    import cv2

    cv2.setNumThreads(1)  # images are spread over threads instead
    rows = range(len(source)) if part is None else range(part.start, part.stop)
    found = [(np.zeros((0, 4), np.float32), np.zeros((0, WIDTH), np.uint8))]
    with (
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
        show_progress(
            total=len(rows), doing="local features", unit="img", delay=5, disable=not progress
        ) as bar,
    ):
        for block in _blocks(source, rows):
            if see is not None:
                see(block)
            for one in pool.map(_features, block.permute(0, 2, 3, 1).numpy()):
                found.append(one)
                bar.update()
    counts = torch.tensor([len(points) for points, _ in found[1:]], dtype=torch.int64)
    return LocalFeatures(
        torch.from_numpy(np.concatenate([points for points, _ in found])),
        torch.from_numpy(np.concatenate([descriptors for _, descriptors in found])),
        starts_of(counts),
    )


def starts_of(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def join(parts: list[LocalFeatures]) -> LocalFeatures:
    counts = torch.cat([part.starts.diff() for part in parts])
    return LocalFeatures(
        torch.cat([part.points for part in parts]),
        torch.cat([part.descriptors for part in parts]),
        starts_of(counts),
    )


def take(features: LocalFeatures, rows: Tensor) -> LocalFeatures:
    """The features of the images of these rows."""
    return _pieces(features, features.starts[:-1][rows], features.starts.diff()[rows])


def plainest(features: LocalFeatures, most: int) -> LocalFeatures:
    """At most so many features of each image, those of the largest contrast."""
    return _pieces(features, features.starts[:-1], features.starts.diff().clamp(max=most))


def _pieces(features: LocalFeatures, first: Tensor, counts: Tensor) -> LocalFeatures:
    starts = starts_of(counts)
    within = torch.arange(int(starts[-1])) - starts[:-1].repeat_interleave(counts)
    places = first.repeat_interleave(counts) + within
    return LocalFeatures(features.points[places], features.descriptors[places], starts)


def variant(descriptors: Tensor, number: int) -> Tensor:
    """Descriptors of the mirror image (bit 0 of the number) or of the negative (bit 1).

    A mirror swaps the rows of cells along the keypoint's direction, and turns directions around; a
    negative turns the keypoint's direction by 180 degrees, and so its cells.
    """
    return descriptors[:, _PERMUTATIONS[number]]


def mirrored_points(points: Tensor) -> Tensor:
    """Keypoints of the mirror image."""
    x, y, radius, direction = points.unbind(-1)
    return torch.stack([-x, y, radius, math.pi - direction], -1)


def _permutations() -> list[Tensor]:
    cells = torch.arange(WIDTH).view(4, 4, 8)
    backwards = (-torch.arange(8)) % 8
    mirror = cells.flip(0)[:, :, backwards].flatten()
    negative = cells.flip(0, 1).flatten()
    return [cells.flatten(), mirror, negative, mirror[negative]]


_PERMUTATIONS = _permutations()


def _blocks(source: Images, rows: range) -> Iterator[Tensor]:
    for first in range(rows.start, rows.stop, BLOCK):
        block = as_uint8(source[first : min(first + BLOCK, rows.stop)]).cpu()
        check_images(block)
        yield block


def _features(image: NDArray) -> tuple[NDArray, NDArray]:
    """Points and descriptors of a uint8 image (h, w, c)."""
    import cv2

    sift = cv2.SIFT.create(MOST_POINTS, contrastThreshold=LEAST_CONTRAST)
    gray = _at_size(image)
    points, descriptors = sift.detectAndCompute(gray, None)
    if not len(points):
        return np.zeros((0, 4), np.float32), np.zeros((0, WIDTH), np.uint8)
    response = np.array([point.response for point in points])
    order = np.argsort(-response, kind="stable")[:MOST_POINTS]
    height, width = gray.shape
    half = max(height, width) / 2
    placed = [
        (
            (point.pt[0] + CENTRE - width / 2) / half,
            (point.pt[1] + CENTRE - height / 2) / half,
            point.size / 2 / half,
            math.radians(point.angle),
        )
        for point in (points[i] for i in order)
    ]
    shares = descriptors[order] / np.maximum(descriptors[order].sum(1, keepdims=True), 1e-9)
    root = np.minimum(SCALE * np.sqrt(shares), 255).round().astype(np.uint8)
    return np.array(placed, np.float32), root


def _at_size(image: NDArray) -> NDArray:
    """Gray uint8 (h, w), its longer side between SMALLEST and LARGEST."""
    import cv2

    gray = image[..., 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    side = max(height, width)
    factor = min(max(side, SMALLEST), LARGEST) / side
    if factor == 1:
        return np.ascontiguousarray(gray)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(gray, size, interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA)
