"""Trees of image files: any folder, and CelebA."""

import os
from collections import defaultdict
from pathlib import Path

import torch

from novum.core.distributed import rank_zero_warn
from novum.core.errors import InputError, NotFoundError, printable
from novum.core.files import read_regular
from novum.datamodules.sources import dataset_json
from novum.datamodules.sources.decode import holds_image
from novum.datamodules.sources.raw_images import (
    NO_IMAGES,
    FileRows,
    Omission,
    RawSet,
    Splits,
    say_omissions,
)
from novum.datamodules.sources.suffixes import IMAGES, OTHERS, PACKED, UNREAD
from novum.datamodules.sources.walk import Walked, require_inside, search, warn_left_out

CELEBA_LABELS = "list_attr_celeba"
CELEBA_SPLIT = "list_eval_partition"
CELEBA_TEST = "2"  # 0 is train, 1 validation
MOST_BYTES = 1 << 28  # of a list; CelebA's longest has a tenth of it


def load_folder(path: Path, follow_links: bool = False, whole: bool = False) -> Splits:
    """Any tree of images. Subfolders `train` and `test` (or `val`) are the split, if there.

    Args:
        path: The folder.
        follow_links: Follow links that lead out of it.
        whole: Take all images for one set, whatever the subfolders are called.
    """
    if path.is_file():
        raise InputError(f"{path} is a file: unpack it, and give path the folder of its images")
    if not path.is_dir():
        raise NotFoundError(f"no folder {path}: give path a folder of images")
    for name in ("test", "val", "valid", "validation"):
        sides = path / "train", path / name
        if not whole and all(side.is_dir() for side in sides):
            train, heldout = (_read_tree(side, follow_links, path) for side in sides)
            if train.class_names != heldout.class_names:
                raise InputError(f"{path}: train and held-out folders have different subfolders")
            beside = _beside(path, ("train", name), follow_links)
            return Splits(
                train._replace(left_out=train.left_out + beside),
                heldout._replace(left_out=heldout.left_out + beside),
            )
    return Splits(_read_tree(path, follow_links, path))


def _beside(path: Path, sides: tuple[str, str], follow_links: bool) -> tuple[Omission, ...]:
    """Files of a folder that are in neither side of its split."""
    found = search(path, is_image, follow_links, counted=is_image)
    split = f"images beside the split into {sides[0]} and {sides[1]}"
    outside = {
        reason: [name for name in names if name.partition("/")[0] not in sides]
        for reason, names in {split: found.names, **found.left_out}.items()
    }
    outside = {reason: names for reason, names in outside.items() if names}
    warn_left_out(path, Walked(found.names, outside))
    return tuple(Omission.of(*item) for item in outside.items())


def _read_tree(root: Path, follow_links: bool, within: Path) -> RawSet:
    """Classes are those of a dataset.json, else first-level subfolders if every image is in one."""
    files, left_out = find_images(root, follow_links, within)
    rows = FileRows(root, files)
    content = dataset_json.read_content(root, follow_links)
    if content is not None:  # stylegan3 numbers its subfolders, which are no classes
        return RawSet(rows, dataset_json.labels_of(root, content, files), left_out=left_out)
    if any("/" not in name for name in rows.ids):
        return RawSet(rows, left_out=left_out)
    folders = [name.split("/")[0] for name in rows.ids]
    names = sorted(set(folders))
    code = {name: i for i, name in enumerate(names)}
    return RawSet(rows, torch.tensor([code[name] for name in folders]), names, left_out)


def image_files(root: Path, follow_links: bool = False, within: Path | None = None) -> list[str]:
    """Sorted relative paths, with forward slashes, of a folder `within` the one handed over."""
    return find_images(root, follow_links, within)[0]


def find_images(
    root: Path, follow_links: bool = False, within: Path | None = None
) -> tuple[list[str], tuple[Omission, ...]]:
    """`image_files`, and what else is in the folder: hidden (macOS's ._a.jpg), no image, or of a
    format that is not read."""
    require_inside(root, within or root, follow_links)
    found = search(root, lambda _: True, follow_links, within, counted=is_image)
    files, others = [], defaultdict(list)
    for name in found.names:
        reason = None if is_image(name) else _why_unread(root, name)
        (others[reason] if reason else files).append(name)
    warn_left_out(root, Walked(files, found.left_out))
    left_out = tuple(Omission.of(*item) for item in (found.left_out | others).items())
    if not files:
        beside = f"; left out: {say_omissions(left_out)}" if left_out else ""
        kinds = ", ".join(IMAGES)
        raise InputError(f"no images in {root}: files ending in {kinds} are read{beside}")
    if unread := [o for o in left_out if o.reason in others and o.reason != NO_IMAGES]:
        rank_zero_warn(printable(f"{root}: left out: {say_omissions(unread)}"))
    return files, left_out


def _why_unread(root: Path, name: str) -> str | None:
    """Reason to leave out a file that is not named as an image; None for an image without one."""
    suffix = extension(name)
    if suffix in UNREAD:
        return f".{suffix} cannot be decoded"
    if suffix in PACKED:
        return "arrays, tables or archives"
    if suffix in OTHERS:
        return NO_IMAGES
    try:
        if not holds_image(root / name):
            return NO_IMAGES
    except (OSError, InputError):
        return "cannot be read"
    return f"images named .{suffix}" if suffix else None


def extension(name: str) -> str:
    """Lower-case, without the dot."""
    return os.path.splitext(name)[1][1:].lower()


def is_image(name: str) -> bool:
    return extension(name) in IMAGES


def load_celeba(path: Path, attribute: str | None, follow_links: bool = False) -> Splits:
    """CelebA as torchvision or Kaggle lay it out; any folder of its images will do.

    `attribute` (`Smiling`) becomes a label of 0 or 1. The official partition is used if it is
    there, its test part held out.
    """
    root = _celeba_images(path)
    files, left_out = find_images(root, follow_links, path)
    everything = RawSet(FileRows(root, files), left_out=left_out)
    if attribute:
        values = _attribute(root, path, attribute, follow_links)
        labels = torch.tensor([int(values[Path(file).stem] == "1") for file in files])
        names = [f"not {attribute}", attribute]
        everything = everything._replace(labels=labels, class_names=names)
    partition = _find_list(root, path, CELEBA_SPLIT, follow_links)
    if partition is None:
        return Splits(everything)
    _, part = read_list(partition)
    is_test = torch.tensor([part.get(Path(file).stem) == [CELEBA_TEST] for file in files])
    if is_test.all() or not is_test.any():  # some part of the images, all of one side
        return Splits(everything)
    return Splits(_pick(everything, ~is_test), _pick(everything, is_test))


def _celeba_images(path: Path) -> Path:
    if not path.is_dir():
        raise NotFoundError(f"no folder {path}: give path the folder of img_align_celeba")
    name = "img_align_celeba"
    places = [path / name / name, path / "celeba" / name, path / name]  # Kaggle nests the folder
    return next((place for place in places if place.is_dir()), path)


def _find_list(root: Path, path: Path, name: str, follow_links: bool) -> Path | None:
    places = (path, path / "celeba", root.parent, root)
    files = (place / f"{name}.{end}" for place in places for end in ("txt", "csv"))
    found = next((file for file in files if file.is_file()), None)
    if found:
        require_inside(found, found.parent, follow_links)
    return found


def _attribute(root: Path, path: Path, attribute: str, follow_links: bool) -> dict[str, str]:
    """One attribute of every listed image."""
    file = _find_list(root, path, CELEBA_LABELS, follow_links)
    if file is None:
        raise NotFoundError(
            f"label_column {attribute!r} needs {CELEBA_LABELS}.txt or .csv in {path}: put it there"
        )
    names, table = read_list(file)
    if attribute not in names:
        raise InputError(f"no attribute {attribute!r} in {file}: there are {', '.join(names)}")
    column = names.index(attribute)
    return {stem: values[column] for stem, values in table.items()}


def read_list(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Column names, and values by file stem, of CelebA's .txt lists and of Kaggle's .csv copies."""
    header: list[str] = []
    table = {}
    for line in read_regular(path, MOST_BYTES).decode().splitlines():
        first, *rest = line.replace(",", " ").split() or [""]
        stem, _, extension = first.partition(".")
        if extension.lower() in IMAGES:
            table[stem] = rest
        elif rest:  # the first line of a .txt is a count, and alone
            header = rest if first == "image_id" else [first, *rest]
    return header, table


def _pick(raw: RawSet, mask: torch.Tensor) -> RawSet:
    assert isinstance(raw.rows, FileRows)
    rows = FileRows(raw.rows.root, [raw.rows.ids[i] for i in mask.nonzero().flatten().tolist()])
    labels = None if raw.labels is None else raw.labels[mask]
    return RawSet(rows, labels, raw.class_names, raw.left_out)
