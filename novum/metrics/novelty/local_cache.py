"""Cache of what the detector of parts reads of the reference: local features and thumbnails, block
by block, and the index of the descriptors.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from novum.metrics.novelty import descriptor_index, local_features, overlap
from novum.metrics.novelty.local_features import LocalFeatures, starts_of
from novum.metrics.novelty.reference_blocks import (
    Arrays,
    Block,
    HeldArrays,
    ReferenceBlocks,
    StoredArrays,
)

SCHEMA = 2  # raise it whenever the same key would mean other numbers


def stored_features(
    blocks: ReferenceBlocks, block: Block, sides: list[int]
) -> StoredArrays | HeldArrays:
    """Place of a block's local features and thumbnails."""
    grays = [f"gray{i}" for i in range(len(sides))]

    def fits(arrays: Arrays) -> bool:
        counts, n = arrays["counts"], len(block)
        if counts.dtype != torch.int64 or counts.shape != (n,):
            return False
        total = int(counts.sum())
        shapes = {"points": (total, 4), "descriptors": (total, local_features.WIDTH)}
        shapes |= {gray: (n, side, side) for gray, side in zip(grays, sides, strict=True)}
        types = {"points": torch.float32}
        return all(
            arrays[name].shape == shape and arrays[name].dtype == types.get(name, torch.uint8)
            for name, shape in shapes.items()
        )

    held = blocks.held("local", feature_settings(), block, fits)
    if held is not None:
        return held
    path = blocks.entry(["local", *_settings()], block)
    return StoredArrays(path, ["points", "descriptors", *grays, "counts"], fits)


def as_arrays(features: LocalFeatures, pictures: list[Tensor]) -> Arrays:
    arrays = {"points": features.points, "descriptors": features.descriptors}
    arrays |= {f"gray{i}": picture for i, picture in enumerate(pictures)}
    return arrays | {"counts": features.starts.diff()}


def features_in(arrays: Mapping[str, Tensor]) -> LocalFeatures:
    return LocalFeatures(arrays["points"], arrays["descriptors"], starts_of(arrays["counts"]))


def stored_quantiser(blocks: ReferenceBlocks, items: str) -> StoredArrays:
    """Place of the quantiser of a pool, whose items have this digest."""
    whole = Block(0, 0, len(blocks.sources[0]), 0)
    sets = [blocks.entry([], Block(i, 0, len(x), 0)).name for i, x in enumerate(blocks.sources)]
    path = blocks.entry(["local quantiser", *_settings(), items, *sets], whole)
    return StoredArrays(path, ["centroids", "codebook"])


def stored_index(blocks: ReferenceBlocks, part: list[Block], known: str) -> StoredArrays:
    """Place of the index of some blocks, by a digest of its quantiser and items."""
    places = [blocks.entry([], block).name for block in part]
    path = blocks.entry(["local index", *_settings(), known, *places], part[0])
    return StoredArrays(path, ["index"])


def feature_settings() -> list[object]:
    """All that local features and thumbnails depend on beside the images."""
    import cv2

    return [
        SCHEMA,
        cv2.__version__,
        local_features.SMALLEST,
        local_features.LARGEST,
        local_features.MOST_POINTS,
        local_features.LEAST_CONTRAST,
        overlap.SIDES,
    ]


def _settings() -> list[object]:
    """Those, and what the index depends on."""
    import faiss

    index = [faiss.__version__, descriptor_index.PER_LIST, descriptor_index.MOST_LISTS]
    return [*feature_settings(), *index]
