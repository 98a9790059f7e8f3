"""Trees of image files: any folder, and CelebA."""

from pathlib import Path

import torch

from novum.core.errors import InputError, NotFoundError
from novum.core.files import read_regular
from novum.datamodules.sources.decode import EXTENSIONS
from novum.datamodules.sources.raw_images import FileRows, RawSet, Splits
from novum.datamodules.sources.walk import require_inside, walk

CELEBA_LABELS = "list_attr_celeba"
CELEBA_SPLIT = "list_eval_partition"
CELEBA_TEST = "2"  # 0 is train, 1 validation
MOST_BYTES = 1 << 28  # of a list; CelebA's longest has a tenth of it


def load_folder(path: Path, follow_links: bool = False) -> Splits:
    """Any tree of images. Subfolders `train` and `test` (or `val`) are the split, if there."""
    if not path.is_dir():
        raise NotFoundError(f"no folder {path}: give path a folder of images")
    for name in ("test", "val", "valid", "validation"):
        sides = path / "train", path / name
        if all(side.is_dir() for side in sides):
            train, heldout = (_read_tree(side, follow_links, path) for side in sides)
            if train.class_names != heldout.class_names:
                raise InputError(f"{path}: train and held-out folders have different subfolders")
            return Splits(train, heldout)
    return Splits(_read_tree(path, follow_links, path))


def _read_tree(root: Path, follow_links: bool, within: Path) -> RawSet:
    """Classes are the first-level subfolders, when every image is in one."""
    rows = FileRows(root, image_files(root, follow_links, within))
    if any("/" not in name for name in rows.ids):
        return RawSet(rows)
    folders = [name.split("/")[0] for name in rows.ids]
    names = sorted(set(folders))
    code = {name: i for i, name in enumerate(names)}
    return RawSet(rows, torch.tensor([code[name] for name in folders]), names)


def image_files(root: Path, follow_links: bool = False, within: Path | None = None) -> list[str]:
    """Sorted relative paths, with forward slashes, of a folder `within` the one handed over.

    Hidden files (macOS's ._a.jpg) are left out.
    """
    require_inside(root, within or root, follow_links)
    files = walk(root, is_image, follow_links, within, hidden="folders")
    if not files:
        raise InputError(f"no images in {root}: files ending in {', '.join(EXTENSIONS)} are read")
    return files


def is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in EXTENSIONS


def load_celeba(path: Path, attribute: str | None, follow_links: bool = False) -> Splits:
    """CelebA as torchvision or Kaggle lay it out; any folder of its images will do.

    `attribute` (`Smiling`) becomes a label of 0 or 1. The official partition is used if it is
    there, its test part held out.
    """
    root = _celeba_images(path)
    files = image_files(root, follow_links, path)
    everything = RawSet(FileRows(root, files))
    if attribute:
        values = _attribute(root, path, attribute, follow_links)
        labels = torch.tensor([int(values[Path(file).stem] == "1") for file in files])
        everything = RawSet(everything.rows, labels, [f"not {attribute}", attribute])
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
        if extension.lower() in EXTENSIONS:
            table[stem] = rest
        elif rest:  # the first line of a .txt is a count, and alone
            header = rest if first == "image_id" else [first, *rest]
    return header, table


def _pick(raw: RawSet, mask: torch.Tensor) -> RawSet:
    assert isinstance(raw.rows, FileRows)
    rows = FileRows(raw.rows.root, [raw.rows.ids[i] for i in mask.nonzero().flatten().tolist()])
    return RawSet(rows, None if raw.labels is None else raw.labels[mask], raw.class_names)
