"""References that come from a bundle: what it gives, and what cannot be judged with it."""

import hashlib
import json
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novum.core.errors import InputError
from novum.datamodules.sources.reference_bundle import HASHES, BundledImages, ReferenceBundle
from novum.evaluation.image_sets import Sets


def bundled(sets: Sets) -> Iterator[BundledImages]:
    """References that are of a bundle."""
    for side in (sets.train, sets.heldout):
        if side is not None and isinstance(side.images, BundledImages):
            yield side.images


def lacking_spaces(sets: Sets, names: Sequence[str]) -> dict[str, str]:
    """Spaces that cannot be judged for the lack of data in a bundle, and why."""
    found = {name: [x.lacks(name) for x in bundled(sets)] for name in names}
    return {name: next(filter(None, why)) for name, why in found.items() if any(why)}


def listed_spaces(sets: Sets) -> list[str]:
    """Spaces that the training set's bundle was made for; none if it is of no bundle."""
    images = sets.train.images
    return images.bundle.listed if isinstance(images, BundledImages) else []


def picture_notes(sets: Sets) -> list[str]:
    """Sentences on what the page shows in the place of training images."""
    notes = []
    for bundle in _bundles(sets):
        if bundle.level == HASHES:
            notes.append(
                f"{bundle.where} holds hashes in the place of images and of their names: gray"
                " squares stand for them."
            )
        elif not bundle.whole:
            notes.append(
                f"{bundle.where} holds thumbnails: training images are shown enlarged from 32 px."
            )
    return notes


def _bundles(sets: Sets) -> list[ReferenceBundle]:
    return list({x.bundle.digest: x.bundle for x in bundled(sets)}.values())


def bundled_groups(sets: Sets) -> Tensor | None:
    """Groups of training and held-out images that a bundle was made with."""
    if not isinstance(sets.train.images, BundledImages):
        return None
    bundle = sets.train.images.bundle
    if bundle.group is None:
        return None
    if sets.heldout is None:
        return torch.from_numpy(bundle.group[: len(sets.train.images)].numpy().copy())
    if not _same_bundle(sets):
        raise InputError(
            f"{bundle.where} was made with groups of its own held-out images: give it as --heldout"
            " too"
        )
    return torch.from_numpy(bundle.group.numpy().copy())


def _same_bundle(sets: Sets) -> bool:
    sides = list(bundled(sets))
    return len(sides) == 2 and sides[0].bundle.digest == sides[1].bundle.digest


def power_digest(settings: Sequence[object]) -> str:
    """Digest of all that a power card depends on beside the images."""
    return hashlib.sha256(json.dumps(list(settings)).encode()).hexdigest()


def bundled_power(sets: Sets, settings: Sequence[object], edits: int) -> NDArray[np.float64] | None:
    """Recall, low and high of so many edits as a bundle has them, if by these settings."""
    if not _same_bundle(sets):
        return None
    bundle = next(bundled(sets)).bundle
    if bundle.described.get("power") != power_digest(settings):
        return None
    array = bundle.arrays.get("power")
    if array is None or array.shape != (edits, 3):
        return None
    return np.array(array.numpy(), np.float64)


def lacking_images(sets: Sets) -> str:
    """Name of a bundle that does not hold the images themselves, '' if none is."""
    return next((str(x.bundle.where) for x in bundled(sets) if not x.bundle.whole), "")


def lacking_power(sets: Sets) -> str:
    """Reason why copies cannot be planted, '' if they can."""
    where = lacking_images(sets)
    return where and (
        f"copies are planted in images, which {where} does not hold, and its own power card is of"
        " another seed, choice of detectors, held-out set or version"
    )
