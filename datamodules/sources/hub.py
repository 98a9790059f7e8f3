"""Places on the Hugging Face Hub: hf://datasets/OWNER/NAME, and hf://OWNER/NAME for a model."""

import hashlib
import re
from pathlib import Path, PurePosixPath

from novum.core import distributed
from novum.core.cache import cache_folder
from novum.core.errors import InputError, first_line
from novum.core.hub_places import DATASETS, HUB, NAME, is_hub

MODEL = re.compile(rf"({NAME})(?:@([\w./-]+?))?(?:/((?:[^/@]+/)*[^/@]+\.(?:ckpt|onnx)))?")
KINDS = (".ckpt", ".onnx")
BEST = ("best", "last")  # stems of checkpoints, in the order that they are taken


def local_model(place: str, option: str) -> Path:
    """The path of a model's file, which is fetched where the place is one of the hub."""
    return fetch_model(place, option) if is_hub(place) else Path(place)


def fetch_model(place: str, option: str = "--samples") -> Path:
    """A model's file in the cache, fetched with the config of its run where there is one.

    Args:
        place: hf://OWNER/NAME, with @REVISION and with /FILE if it has several.
        option: Where a user gave it.
    """
    given = MODEL.fullmatch(place.removeprefix(HUB).rstrip("/"))
    if given is None or place.startswith(DATASETS):
        raise InputError(
            f"{option} {place}: give a model as {HUB}OWNER/NAME or {HUB}OWNER/NAME/FILE.ckpt, with"
            " OWNER/NAME@REVISION for one revision"
        )
    repository, revision, file = given.groups()
    with distributed.local_rank_zero_first("a model of the hub"):
        try:
            return _fetch(repository, revision, file)
        except InputError:
            raise
        except Exception as error:  # of its client, the network or the disk
            raise InputError(
                f"{option} {place} cannot be fetched ({type(error).__name__}:"
                f" {first_line(error)}): look at the name, the network and `hf auth login`, or"
                " download it and give its path"
            ) from error


def _fetch(repository: str, revision: str | None, file: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    info = HfApi().model_info(repository, revision=revision)
    names = [sibling.rfilename for sibling in info.siblings or ()]
    file = file or choose_file(names, repository)
    if file not in names:
        listed = (
            ", ".join(name for name in names if name.endswith(KINDS)) or "no .ckpt and no .onnx"
        )
        raise InputError(f"{HUB}{repository} has no {file}: there are {listed}")
    parent = PurePosixPath(file).parent
    beside = parent.parent if parent.name == "checkpoints" else parent
    config = str(beside / "config.yaml")
    # a folder of its own for each revision: a run's config lies beside the checkpoint it is of
    key = hashlib.sha256(f"{repository}@{info.sha}".encode()).hexdigest()[:16]
    folder = cache_folder() / "hub" / key
    snapshot_download(
        repository,
        revision=info.sha,
        local_dir=folder,
        allow_patterns=[file, f"{file}.data", config],
    )
    return folder / file


def choose_file(names: list[str], repository: str) -> str:
    """The checkpoint or ONNX file of a repository: best.ckpt, last.ckpt, or its only one."""
    models = [name for name in names if name.endswith(KINDS)]
    for stem in BEST:
        found = [name for name in models if PurePosixPath(name).name == f"{stem}.ckpt"]
        if len(found) == 1:
            return found[0]
    if len(models) == 1:
        return models[0]
    listed = ", ".join(models[:10]) or "no .ckpt and no .onnx"
    raise InputError(f"{HUB}{repository} has {listed}: name one file, {HUB}{repository}/FILE")
