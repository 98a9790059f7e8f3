"""Audit of the sets before any figure: what was read, what was not, and which images are equal."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from novum.core import distributed
from novum.core.errors import InputError
from novum.datamodules.resolve_source import Opened
from novum.datamodules.sources.decode import Page, decoded
from novum.datamodules.sources.image_sources import ImageSource
from novum.datamodules.sources.raw_images import EXPECTED, SHOWN, Rows
from novum.datamodules.sources.reference_bundle import BundledImages
from novum.datamodules.sources.threads import CHUNK, in_threads
from novum.evaluation.image_sets import Sets
from novum.evaluation.request import Request
from novum.evaluation.set_overlap import find_overlap, overlap_lines
from novum.report.model import Overlap, Report, SetAudit

DARK = 64  # highest value of a set that leaves three quarters of the range unused
BLOCK_BYTES = 1 << 22  # of images that are hashed at once
MOST_SIZES = 8  # that are listed
NAMES = {"samples": "Samples", "train": "Training images", "heldout": "Held-out images"}


def add_audit(report: Report, sets: Sets, request: Request) -> dict[str, NDArray]:
    """Audit the sets into a report and print a line for each; return a hash of each image.

    Raises:
        InputError: If a set cannot be judged as it is.
    """
    opened = sets.opened()
    digests = {name: row_digests(side.images) for name, side in opened.items()}
    for name, side in opened.items():
        audit = audit_set(side, *digests[name])
        report.audit[name] = replace(audit, examples={}) if request.redacted else audit
        request.say(audit_line(name, side, report.audit[name]))
    report.overlap = find_overlap({name: rows for name, (rows, _, _) in digests.items()})
    for line in overlap_lines(report.audit, report.overlap, "image"):
        request.say(line)
    require_usable(opened, report.audit)
    report.notes += audit_caveats(report.audit, report.overlap)
    return {name: rows for name, (rows, _, _) in digests.items()}


def row_digests(images: ImageSource) -> tuple[NDArray, int, int]:
    """A 64-bit hash of each image's pixels, and the lowest and highest value of all.

    Each rank looks at its share, and all ranks return the same.
    """
    if isinstance(images, BundledImages):
        return images.hashes.numpy(), images.lowest, images.highest
    own = distributed.shard(len(images))
    step = max(1, BLOCK_BYTES // int(np.prod(images.shape)))
    blocks = [range(i, min(i + step, own.stop)) for i in range(own.start, own.stop, step)]
    parts = list(in_threads(partial(_digest_block, images), blocks, "auditing", unit_scale=step))
    hashes = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, np.int64)
    ends = [(low, high) for _, low, high in parts]
    every = chain(*distributed.all_gather_objects(ends, "audit"))
    lows, highs = zip(*every, strict=True)
    rows = distributed.all_gather_rows(torch.from_numpy(hashes), "audit").numpy()
    return rows, min(lows), max(highs)


def _digest_block(images: ImageSource, rows: range) -> tuple[NDArray, int, int]:
    pixels = images[rows.start : rows.stop].cpu().contiguous().numpy()
    found = b"".join(blake2b(image, digest_size=8).digest() for image in pixels)
    return np.frombuffer(found, np.int64), int(pixels.min()), int(pixels.max())


def audit_set(side: Opened, digests: NDArray, lowest: int, highest: int) -> SetAudit:
    """The audit of one set."""
    if isinstance(side.images, BundledImages):
        return audit_of_bundle(side.images)
    duplicates = len(digests) - len(np.unique(digests))
    channels, height, width = side.images.shape
    if side.survey is None:  # drawn, or streamed
        mode = "L" if channels == 1 else "RGB"
        return SetAudit(
            len(digests),
            modes={mode: len(digests)},
            sizes={_size(width, height): len(digests)},
            lowest=lowest,
            highest=highest,
            duplicates=duplicates,
        )
    survey, pages = side.survey, side.survey.pages
    other_size = pages.where(lambda page: (page.width, page.height) != pages.size)
    mixed = channels == 3 and pages.channels == 3
    gray = pages.where(lambda page: mixed and page.channels == 1)
    examples = {o.reason: list(o.examples) for o in survey.left_out}
    examples |= {"resized": _names(side, other_size), "gray_in_colour": _names(side, gray)}
    return SetAudit(
        read=len(digests),
        files=int((pages.frame < 1).sum()),
        frames=int((pages.frame >= 0).sum()),
        left_out={o.reason: o.number for o in survey.left_out},
        modes=_count(pages.counts(), lambda page: page.mode),
        sizes=_commonest(_count(pages.counts(), lambda page: _size(page.width, page.height))),
        resized=int(other_size.sum()),
        gray_in_colour=int(gray.sum()),
        lowest=lowest,
        highest=highest,
        stored_highest=_stored_highest(survey.deep) if highest <= DARK else None,
        duplicates=duplicates,
        examples={reason: names for reason, names in examples.items() if names},
    )


def audit_of_bundle(images: BundledImages) -> SetAudit:
    """The audit of the images that a reference bundle was made of."""
    try:
        return SetAudit(**images.described["audit"])
    except TypeError as error:
        raise InputError(
            f"{images.bundle.where} is damaged: its audit is none; make it again by"
            " --save-reference"
        ) from error


def _size(width: int, height: int) -> str:
    return f"{width} x {height}"


def _names(side: Opened, mask: NDArray) -> list[str]:
    return [str(side.images.ids[i]) for i in np.flatnonzero(mask)[:SHOWN].tolist()]


def _count(pages: dict[Page, int], key: Callable[[Page], str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for page, number in pages.items():
        counts[key(page)] += number
    return dict(counts.most_common())


def _commonest(counts: dict[str, int]) -> dict[str, int]:
    listed = list(counts.items())
    rest = sum(number for _, number in listed[MOST_SIZES:])
    return dict(listed[:MOST_SIZES]) | ({"other": rest} if rest else {})


def _stored_highest(rows: Rows | None) -> int | None:
    """Largest value of 16-bit images as they are stored."""
    if rows is None:
        return None
    chunks = [list(range(len(rows))[i : i + CHUNK]) for i in range(0, len(rows), CHUNK)]
    return max(in_threads(partial(_highest_of, rows), chunks, "looking at 16-bit values"))


def _highest_of(rows: Rows, chunk: list[int]) -> int:
    highest = 0
    for data in rows.read(chunk):
        with decoded(data) as image:
            highest = max(highest, int(np.asarray(image).max()))
    return highest


def audit_line(name: str, side: Opened, audit: SetAudit) -> str:
    """`samples: 120 images of 32 x 32 in colour from out/; left out 60: 60 .heic ...`."""
    channels, height, width = side.images.shape
    colour = "in gray" if channels == 1 else "in colour"
    words = [f"{audit.read:,} images of {_size(width, height)} {colour} from {side.where}"]
    if audit.frames:
        words.append(f"{audit.frames:,} are frames or pages, from {audit.files:,} files in all")
    if audit.left_out:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in audit.left_out.items())
        words.append(f"left out {sum(audit.left_out.values()):,}: {reasons}")
    if audit.resized:
        words.append(f"{audit.resized:,} of other sizes resized{_shown(audit, 'resized')}")
    if audit.gray_in_colour:
        gray = _shown(audit, "gray_in_colour")
        words.append(f"{audit.gray_in_colour:,} gray shown in colour{gray}")
    if audit.duplicates:
        words.append(f"{audit.duplicates:,} equal an earlier one")
    return f"{name}: {'; '.join(words)}"


def _shown(audit: SetAudit, reason: str) -> str:
    names = audit.examples.get(reason)
    return f" ({', '.join(names)}{', ...' if len(names) == SHOWN else ''})" if names else ""


def require_usable(opened: dict[str, Opened], audit: dict[str, SetAudit]) -> None:
    """Raise InputError for arrays of zeros and ones, which 0 to 255 would show as black."""
    for name, side in opened.items():
        if side.is_array and audit[name].lowest == 0 and audit[name].highest == 1:
            raise InputError(
                f"{side.where} holds values from 0 to 1, images are 0 to 255, and these would be"
                " judged as black: give (x * 255).astype(numpy.uint8)"
            )


def audit_caveats(audit: dict[str, SetAudit], overlap: Overlap | None) -> list[str]:
    """Sentences on what in the sets makes figures doubtful."""
    said = [_caveats_of(NAMES[name], side) for name, side in audit.items()]
    return [*chain(*said), *_overlap_caveats(audit, overlap)]


def _caveats_of(name: str, audit: SetAudit) -> Iterator[str]:
    unread = {r: n for r, n in audit.left_out.items() if r not in EXPECTED}
    if unread:
        reasons = ", ".join(
            f"{n:,} {reason}{_shown(audit, reason)}" for reason, n in unread.items()
        )
        yield f"{name}: left out {sum(unread.values()):,}: {reasons}."
    if audit.resized:
        sizes = ", ".join(f"{number:,} of {size}" for size, number in audit.sizes.items())
        yield (
            f"{name}: {audit.resized:,} of {audit.read:,} are not of the commonest size and were"
            f" resized{_shown(audit, 'resized')}; as stored: {sizes}."
        )
    if audit.gray_in_colour:
        yield (
            f"{name}: {audit.gray_in_colour:,} of {audit.read:,} are gray and were judged as"
            f" colour{_shown(audit, 'gray_in_colour')}."
        )
    yield from _range_caveats(name, audit)
    if audit.duplicates:
        yield f"{name}: {audit.duplicates:,} of {audit.read:,} equal an earlier one."


def _range_caveats(name: str, audit: SetAudit) -> Iterator[str]:
    """Values that leave most of the range unused, as data of another depth does."""
    lowest, highest, stored = audit.lowest, audit.highest, audit.stored_highest
    if lowest is None or highest is None or highest > DARK and lowest < highest:
        return
    if lowest == highest:
        yield f"{name}: every pixel of every image is {highest}."
    elif stored is not None:
        bits = stored.bit_length()
        yield (
            f"{name}: the largest value of the 16-bit images is {stored:,} of 65,535, so they are"
            f" judged nearly black; if it is data of {bits} bits, multiply it by"
            f" {65535 // (2**bits - 1)} before saving."
        )
    else:
        yield (
            f"{name}: the largest value of all images is {highest} of 255, so they are judged"
            " nearly black; scale them to 0..255 before saving."
        )


def _overlap_caveats(audit: dict[str, SetAudit], overlap: Overlap | None) -> Iterator[str]:
    if overlap is None:
        return
    if overlap.heldout_samples and not overlap.train_heldout:
        yield (
            f"{overlap.heldout_samples:,} of {audit['samples'].read:,} samples equal held-out"
            " images: was the generator trained on these?"
        )
