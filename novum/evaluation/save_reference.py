"""Writing of reference bundles: what judging needs of a training set, so that others can judge
without the images.

What is written is what the evaluation itself computes of the references and keeps in its cache.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from novum.core import distributed
from novum.core.devices import default_device, place
from novum.core.errors import InputError, NotComputable
from novum.core.run_record import code_version, novum_version
from novum.core.tensor_file import DamagedFile, Parts, read_description, require_place, write_arrays
from novum.datamodules.groups import read_groups
from novum.datamodules.resolve_source import Opened
from novum.datamodules.sources.decode import ImageTransform
from novum.datamodules.sources.image_sources import ImageArray, ImageSource
from novum.datamodules.sources.reference_bundle import (
    FORMAT,
    HASHES,
    SCHEMA,
    THUMBNAILS,
    WHOLE_SIDE,
    BundledImages,
)
from novum.evaluation.audit import audit_line, audit_set, row_digests
from novum.evaluation.bundled_sets import power_digest
from novum.evaluation.evidence import ALIGNMENT, DETECTORS
from novum.evaluation.gate import LOCAL, pool_of_digests
from novum.evaluation.image_sets import NUM_SAMPLES, Sets, open_sets
from novum.evaluation.images import (
    Detector,
    default_features,
    detector_of,
    feature_names,
    power_settings,
    recall_of_planted,
    references_key,
    within_pool,
)
from novum.evaluation.request import Request
from novum.metrics.features import (
    load_extractor,
    reference_features,
    reference_moments,
    reference_neighbour_distances,
)
from novum.metrics.features.extraction import batch_features
from novum.metrics.features.feature_cache import NEIGHBOURS, near_name
from novum.metrics.functional.frechet import WIDEST
from novum.metrics.novelty import altered_copies
from novum.metrics.novelty.local_cache import feature_settings
from novum.metrics.novelty.local_copies import PER_FEATURE, TRIED
from novum.metrics.novelty.local_features import extract_local_features
from novum.metrics.novelty.pool import Pool

NO_PICTURES = "the bundle was made with --redacted and holds no pictures"
PER_IMAGE = 256  # bytes of its hash, its name and the like


class Plan(NamedTuple):
    """Contents of a bundle, chosen before the work."""

    path: Path
    sets: Sets
    level: str
    listed: list[str]  # as they were asked for
    spaces: list[str]  # of features
    detectors: list[str]
    left_out: dict[str, str]

    @property
    def whole(self) -> bool:
        """True if pictures are the images themselves."""
        return self.level == THUMBNAILS and max(self.sets.train.images.shape[1:]) <= WHOLE_SIDE


def save_reference(request: Request) -> Sets:
    """Write the bundle that a request asks for; return its sets, opened.

    Raises:
        InputError: If the place, the disk or the sets do not allow it.
    """
    path = request.save_reference
    assert path is not None
    if distributed.world_size() > 1:
        raise InputError("--save-reference is of one process: leave torchrun out")
    require_own(path)
    require_place(path, 0)
    names = feature_names(request.features)
    sets = open_sets(request)
    plan = plan_of(path, sets, names, request.redacted)
    require_place(path, bytes_needed(plan))
    arrays, described = contents(plan, request)
    write_arrays(path, arrays, described)
    size = sum(part.nbytes for parts in arrays.values() for part in parts)
    request.say(f"wrote {path}: {size / 1e6:,.1f} MB, {described_level(plan)}")
    return sets


def described_level(plan: Plan) -> str:
    if plan.level == HASHES:
        return "hashes and features, no picture and no name"
    return "with the images themselves" if plan.whole else "with thumbnails of 32 px"


def require_own(path: Path) -> None:
    """Raise InputError for a file in the bundle's place that is no bundle."""
    if not path.exists():
        return
    try:
        if path.is_file() and read_description(path).get("format") == FORMAT:
            return
    except DamagedFile:
        pass
    raise InputError(f"{path} exists and is no bundle of references: give another name")


def plan_of(path: Path, sets: Sets, names: list[str], redacted: bool) -> Plan:
    """Spaces of a bundle: the usual ones if none are named."""
    for side in (sets.train, sets.heldout):
        if side is not None and isinstance(side.images, BundledImages):
            raise InputError(f"{side.where} is a bundle already: copy it, or name the images")
    listed = names or default_features(sets)
    level = HASHES if redacted else THUMBNAILS
    shown = [name for name in listed if name in DETECTORS or name.startswith("pixels")]
    left_out = dict.fromkeys(shown, NO_PICTURES) if redacted else {}
    if left_out and names:
        raise InputError(f"--features {shown[0]} needs pictures, and --redacted writes none")
    kept = [name for name in listed if name not in left_out]
    plan = Plan(path, sets, level, listed, [], [], left_out)
    spaces = [n for n in kept if n not in DETECTORS and not (plan.whole and n in shown)]
    return plan._replace(spaces=spaces, detectors=[n for n in kept if n in DETECTORS])


def bytes_needed(plan: Plan) -> float:
    """Estimated size of the file."""
    train = plan.sets.train.images
    some = train[: min(TRIED, len(train))]
    each = float(PER_IMAGE)
    fixed = 0.0
    for name in plan.spaces:
        extractor = place(load_extractor(name), default_device())
        width = batch_features(extractor, some[:1].to(default_device())).shape[1]
        each += 4 * width + 16 * NEIGHBOURS
        fixed += 16 * width**2 if keeps_moments(len(train), width) else 0
    if plan.whole:
        each += some[0].numel()
    elif ALIGNMENT in plan.detectors:
        each += altered_copies.bytes_kept(train.shape[0])
    if LOCAL in plan.detectors:
        points = len(extract_local_features(some, progress=False).points)
        each += PER_FEATURE * points / len(some) + 32**2
    return fixed + each * sum(len(x) for name, x in plan.sets.images().items() if name != "samples")


def contents(plan: Plan, request: Request) -> tuple[dict[str, Parts], dict[str, Any]]:
    """Arrays and description of a bundle."""
    sets = plan.sets
    sides = {k: v for k, v in sets.opened().items() if k != "samples"}
    digests = {name: row_digests(side.images) for name, side in sides.items()}
    arrays: dict[str, Parts] = {}
    described: dict[str, Any] = {}
    for name, side in sides.items():
        described[name] = _describe(plan, request, name, side, digests[name])
        arrays |= {f"{name}/{key}": x for key, x in _of_images(plan, side, digests[name][0])}
        for space in plan.spaces:
            found = _of_space(side.images, space, moments=name == "train")
            arrays |= {f"{name}/{space}/{key}": [x] for key, x in found}
    group = read_groups(sets.groups, sets.images()) if sets.groups else None
    if group is not None:
        arrays["group"] = [group.numpy()]
    heldout = digests["heldout"][0] if "heldout" in digests else None
    pool = pool_of_digests(digests["train"][0], heldout, request.seed, group)
    detectors, left_out = _detectors(plan, pool)
    for name, detector in detectors.items():
        arrays |= _of_detector(plan, name, detector)
    power = None
    if sets.heldout is not None and detectors:
        known = references_key(sets, pool)
        used = [within_pool(name, detector, known) for name, detector in detectors.items()]
        recall = recall_of_planted(sets, detectors, used, known, request.seed)
        arrays["power"] = [recall]
        power = power_digest([*power_settings(sets, detectors, request.seed), known[-1]])
    return arrays, {
        "format": FORMAT,
        "schema": SCHEMA,
        "novum": novum_version(),
        "code": code_version(),
        "level": plan.level,
        "shape": list(sets.train.images.shape),
        "transform": _transform(sets.train.images),
        "features": plan.listed,
        "spaces": {name: load_extractor(name).spec for name in plan.spaces},
        "detectors": {name: _settings(name) for name in detectors},
        "left_out": plan.left_out | left_out,
        "power": power,
        "sets": described,
    }


def _settings(detector: str) -> list[object]:
    return list(altered_copies.SETTINGS) if detector == ALIGNMENT else feature_settings()


def _transform(images: ImageSource) -> str:
    channels, size, _ = images.shape
    return ImageTransform(size, channels).spec


def _describe(
    plan: Plan, request: Request, name: str, side: Opened, digests: tuple[NDArray, int, int]
) -> dict[str, Any]:
    """Description of one set, with its audit."""
    audit = audit_set(side, *digests)
    request.say(audit_line(name, side, audit))
    if plan.level == HASHES:
        audit = replace(audit, examples={})
    return {
        "name": Path(side.where).name if plan.level == THUMBNAILS else "",
        "fingerprint": side.images.fingerprint,
        "of_pixels": isinstance(side.images, ImageArray),
        "count": len(side.images),
        "native": side.native,
        "audit": asdict(audit),
    }


def _of_images(plan: Plan, side: Opened, hashes: NDArray) -> Iterator[tuple[str, Parts]]:
    """Hashes of a set, and where it is not redacted its names and whole pictures."""
    images = side.images
    yield "hashes", [hashes]
    if plan.level == HASHES:
        return
    if any(isinstance(name, str) for name in images.ids):
        told = "\0".join(map(str, images.ids)).encode("utf-8", "surrogateescape")
        yield "ids", [np.frombuffer(told, np.uint8)]
    elif list(images.ids) != list(range(len(images))):  # rows that could not be read are missing
        yield "rows", [np.array(images.ids, np.int64)]
    if plan.whole:
        step = 8192
        blocks = [images[i : min(i + step, len(images))] for i in range(0, len(images), step)]
        yield "pictures", [block.cpu().numpy() for block in blocks]


def keeps_moments(count: int, width: int) -> bool:
    """True if moments are smaller than features, out of which they are soon made otherwise."""
    return width <= WIDEST and count > 4 * width


def _of_space(images: ImageSource, name: str, moments: bool) -> Iterator[tuple[str, NDArray]]:
    """Features of a set, its moments, and its neighbour distances for the usual sample sizes."""
    extractor = place(load_extractor(name), default_device())
    features = reference_features(images, extractor)
    yield "features", features.numpy()
    if moments and keeps_moments(*features.shape):
        state = reference_moments(images, extractor).state()
        for part in ("mean", "scatter", "factor"):
            yield f"moments/{part}", np.ascontiguousarray(state[part].numpy())
    for size in sorted({min(NUM_SAMPLES, len(images)), len(images)}):
        near = reference_neighbour_distances(images, extractor, size)
        if near is not None:
            yield near_name(size), near.numpy()


def _detectors(plan: Plan, pool: Pool) -> tuple[dict[str, Detector], dict[str, str]]:
    """Detectors of the references, and why others are left out."""
    detectors: dict[str, Detector] = {}
    left_out: dict[str, str] = {}
    for name in plan.detectors:
        try:
            detectors[name] = detector_of(name, plan.sets, pool)
        except NotComputable as error:
            left_out[name] = str(error)
    return detectors, left_out


def _of_detector(plan: Plan, name: str, detector: Detector) -> dict[str, Parts]:
    """Arrays of a detector, block below block."""
    if name == ALIGNMENT and plan.whole:  # made anew from the images
        return {}
    found: dict[str, list[NDArray]] = {}
    for block, stored in detector.stored.items():
        side = ("train", "heldout")[block.source]
        for key, array in stored.known().items():
            found.setdefault(f"{side}/{name}/{key}", []).append(array.numpy())
    return dict(found)
