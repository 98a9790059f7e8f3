"""Reference bundles: one file of what judging needs of a training set and its held-out images.

Others judge with it without the images. `novum/evaluation/save_reference.py` writes it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.nn import functional as F

from novum.core.errors import InputError, NotFoundError
from novum.core.tensor_file import DamagedFile, read_arrays
from novum.datamodules.sources.decode import ImageTransform
from novum.datamodules.sources.image_sources import Index
from novum.datamodules.sources.suffixes import BUNDLE

FORMAT = "novum reference bundle"
SCHEMA = 1  # raise it whenever a bundle of before would mean other figures
WHOLE_SIDE = 32  # px up to which pictures are the images themselves
HASHES = "hashes"  # no picture, no name, no feature that is a picture
THUMBNAILS = "thumbnails"
GRAY = 128  # in the place of pictures that are not there
MEND = "make it again by --save-reference"
OF_FEATURES = ("points", "descriptors")  # arrays with a row for each local feature of an image


def is_bundle(where: object) -> TypeGuard[str]:
    """True of a place that is named as a bundle is."""
    return isinstance(where, str) and where.endswith(BUNDLE)


class ReferenceBundle:
    """The contents of a file, checked.

    Args:
        where: As the user named it.
        described: Its description.
        arrays: Its arrays by name, mapped.
    """

    def __init__(self, where: str, described: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        self.where, self.described, self.arrays = where, described, arrays
        channels, height, width = (int(n) for n in described["shape"])
        self.shape = (channels, height, width)
        self.level = str(described["level"])
        self.whole = self.level == THUMBNAILS and max(height, width) <= WHOLE_SIDE
        self.spaces: Mapping[str, str] = {**described["spaces"]}
        self.detectors: Mapping[str, object] = {**described["detectors"]}
        self.listed = [str(name) for name in described["features"]]
        self.left_out: Mapping[str, str] = {**described["left_out"]}
        self.digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()
        self.sides = {name: BundledImages(self, name) for name in described["sets"]}
        self.group = arrays.get("group")  # of training, then held-out images held out whole
        total = sum(map(len, self.sides.values()))
        if "train" not in self.sides or self.group is not None and self.group.shape != (total,):
            raise _damaged(where, "its sets or their groups are not whole")

    def side(self, name: str) -> "BundledImages":
        """The images of `train` or `heldout`."""
        if name not in self.sides:
            raise InputError(
                f"{self.where} holds no held-out images: name some, --heldout PATH, or none"
            )
        return self.sides[name]


class BundledImages:
    """One set of a bundle, in the place of its images.

    It has pixels only where the bundle holds whole pictures. Features and other arrays are those
    that were computed from the images.
    """

    labels = None
    class_names = None

    def __init__(self, bundle: ReferenceBundle, name: str) -> None:
        self.bundle, self.name = bundle, name
        self.described: Mapping[str, Any] = bundle.described["sets"][name]
        self.count, self.shape = int(self.described["count"]), bundle.shape
        self.fingerprint = str(self.described["fingerprint"])
        # of what was computed with this bundle: the images themselves may give something else
        self.cache_name = f"{self.fingerprint} of the bundle {bundle.digest}"
        self.lowest, self.highest = (int(self.described["audit"][x]) for x in ("lowest", "highest"))
        self.hashes = self._array("hashes", (self.count,), torch.int64)
        self.ids: Sequence[int | str] = self._ids()
        self._starts: Tensor | None = None
        if bundle.whole:
            self._array("pictures", (self.count, *self.shape), torch.uint8)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, indices: Index) -> Tensor:
        if not self.bundle.whole:
            raise InputError(
                f"{self.bundle.where} does not hold the images themselves, which this needs: give"
                " their place instead"
            )
        return self.bundle.arrays[f"{self.name}/pictures"][indices]

    @property
    def pictures(self) -> "BundledPictures":
        """Images as a page can show them."""
        return BundledPictures(self)

    def lacks(self, space: str) -> str:
        """Reason why a space cannot be judged with it; '' if it can."""
        bundle = self.bundle
        held = space in bundle.spaces or space in bundle.detectors
        if bundle.whole or held:
            return ""
        if space in bundle.left_out:
            return bundle.left_out[space]
        return f"{bundle.where} was made without it"

    def known(self, space: str, spec: str, what: str) -> Tensor | None:
        """An array of a feature space, None if it is not held.

        Raises:
            InputError: If it was computed by another network or transform.
        """
        array = self.bundle.arrays.get(f"{self.name}/{space}/{what}")
        if array is None:
            return None
        made = self.bundle.spaces.get(space)
        if made != spec:
            raise InputError(
                f"{self.bundle.where} holds features of {space} as {made}, and here they are"
                f" {spec}: {MEND} here, or judge with the network that it was made with"
            )
        return array

    def block(self, detector: str, settings: object, rows: slice) -> dict[str, Tensor] | None:
        """Arrays that a detector reads of some rows, None if it is not held.

        Raises:
            InputError: If it was computed with other settings.
        """
        made = self.bundle.detectors.get(detector)
        if made is None:
            return None
        if made != json.loads(json.dumps(settings)):
            raise InputError(
                f"{self.bundle.where} was made for the detector '{detector}' of another version:"
                f" {MEND} here, or leave it out, --features NAME[,NAME]"
            )
        prefix = f"{self.name}/{detector}/"
        arrays = {
            name.removeprefix(prefix): array
            for name, array in self.bundle.arrays.items()
            if name.startswith(prefix)
        }
        if not arrays:
            return None
        features = self._features_of(arrays, rows)
        return {name: x[features if name in OF_FEATURES else rows] for name, x in arrays.items()}

    def _features_of(self, arrays: Mapping[str, Tensor], rows: slice) -> slice:
        """Rows of the local features of images."""
        if "counts" not in arrays:
            return slice(0, 0)
        if self._starts is None:
            counts = arrays["counts"]
            if len(counts) != self.count or bool((counts < 0).any()):
                raise _damaged(self.bundle.where, "its counts are not those of its images")
            self._starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        return slice(int(self._starts[rows.start]), int(self._starts[rows.stop]))

    def _ids(self) -> Sequence[int | str]:
        if self.bundle.level == HASHES:
            return [hashed.tobytes().hex() for hashed in self.hashes.numpy()]
        if f"{self.name}/rows" in self.bundle.arrays:
            return self._array("rows", (self.count,), torch.int64).tolist()
        told = self.bundle.arrays.get(f"{self.name}/ids")
        if told is None:
            return range(self.count)
        ids = told.numpy().tobytes().decode("utf-8", "surrogateescape").split("\0")
        if len(ids) != self.count:
            raise _damaged(self.bundle.where, f"it has {len(ids)} names of {self.count} images")
        return ids

    def _array(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        array = self.bundle.arrays.get(f"{self.name}/{name}")
        if array is None or array.shape != shape or array.dtype != dtype:
            raise _damaged(self.bundle.where, f"its {self.name}/{name} is not of its images")
        return array


class BundledPictures:
    """Pictures of a set for a page: the images, their thumbnails enlarged, or gray squares."""

    def __init__(self, images: BundledImages) -> None:
        self.images, self.ids, self.shape = images, images.ids, images.shape
        self.labels, self.class_names, self.fingerprint = None, None, images.fingerprint

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Index) -> Tensor:
        bundle = self.images.bundle
        if bundle.whole:
            return self.images[indices]
        small = bundle.arrays.get(f"{self.images.name}/alignment/images")
        if small is None:
            rows = torch.empty(len(self), 0)[indices]
            return torch.full((*rows.shape[:-1], *self.shape), GRAY, dtype=torch.uint8)
        found = small[indices]
        several = found if found.ndim == 4 else found[None]
        large = F.interpolate(several, self.shape[1:], mode="nearest")
        return large if found.ndim == 4 else large[0]


def open_bundle(where: str) -> ReferenceBundle:
    """The bundle at a place, read once while it does not change.

    Raises:
        InputError: If it is none, is damaged, or was made by another version or transform.
    """
    path = Path(where).expanduser()
    if not path.exists():
        raise NotFoundError(f"there is no bundle of references {where}")
    if path.is_dir():
        raise InputError(f"{where} is a folder: a bundle of references is one file")
    at = path.stat()
    return _open(where, at.st_mtime_ns, at.st_size)


@lru_cache(maxsize=4)
def _open(where: str, _changed: int, _size: int) -> ReferenceBundle:
    try:
        described, arrays = read_arrays(Path(where).expanduser())
    except DamagedFile as error:
        raise _damaged(where, str(error)) from error
    if described.get("format") != FORMAT:
        raise InputError(f"{where} is no bundle of references: make one by --save-reference")
    if described.get("schema") != SCHEMA:
        raise InputError(
            f"{where} is a bundle of another version (Novum {described.get('novum')}, format"
            f" {described.get('schema')}; this one reads {SCHEMA}): {MEND}"
        )
    try:
        bundle = ReferenceBundle(where, described, arrays)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(where, "its description lacks what a bundle has") from error
    channels, size, _ = bundle.shape
    if described.get("transform") != ImageTransform(size, channels).spec:
        raise InputError(
            f"{where} holds images by another transform ({described.get('transform')}) than this"
            f" version's ({ImageTransform(size, channels).spec}): {MEND}"
        )
    return bundle


def _damaged(where: str, what: str) -> InputError:
    return InputError(f"{where} is damaged ({what}): copy it again, or {MEND}")
