"""Configs of somebody else: the recipe in a picture, the config.yaml beside a checkpoint."""

import functools
import inspect
import os
import stat
from collections.abc import Collection
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import yaml

from novum.core.errors import InputError, NotFoundError
from novum.core.security import places, specs
from novum.core.security.signature import is_own
from novum.core.security.trust import trusts_all
from novum.core.security.untrusted import Untrusted

MOST_CHARACTERS = 2**18  # of a config; PyYAML needs seconds for that many
CONFIG = "config.yaml"
MEND = "give these places yourself, or --trust if the run is yours"
MEND_LINKS = "remove it, or --trust if the run is yours"
LOGGER_PLACES = ("save_dir", "name", "version")


class Loader(yaml.SafeLoader):
    """Without merge keys (`<<`), ten of which in a row unfold a few lines without end."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "holds a merge key")
        super().flatten_mapping(node)


class Config(NamedTuple):
    """A parsed config, and whether it may be taken for code."""

    values: dict[str, Any]
    trusted: bool  # written by a run of this user, or --trust


def parse_config(text: str) -> Config:
    """YAML of somebody else's as plain values.

    Raises:
        Untrusted: If it is none, or too large.
    """
    if len(text) > MOST_CHARACTERS:
        raise Untrusted("is far too large")
    try:
        values = yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError) as error:
        raise Untrusted("is not YAML") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise Untrusted("is not a config")
    specs.check_size(values)
    return Config(values, trusts_all() or is_own(text, values))


def check_config(values: dict[str, Any], check_place: specs.CheckPlace) -> None:
    """Raise Untrusted unless a config for train.py builds what is on the list, and no more."""
    for key, value in values.items():
        hint = _sections().get(key)
        if hint is None:
            raise Untrusted(f"holds {str(key)[:100]!r}, which is not a key of a config")
        if key == "trainer":
            specs.parse_arguments(hint, {} if value is None else value, key, check_place)
        else:
            specs.parse(value, hint, key, check_place)


@functools.cache
def _sections() -> dict[str, Any]:
    """The keys of a config; a checkpoint, and how it is read, are the user's to say."""
    from pytorch_lightning import LightningDataModule, LightningModule, Trainer

    return {
        "seed_everything": bool | int,
        "trainer": Trainer,
        "model": LightningModule,
        "data": LightningDataModule,
        "ckpt_path": NoneType,
        "weights_only": NoneType,
        "verbose": bool,
        "return_predictions": bool | None,
    }


def without_logger(values: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """A config without its loggers, and these."""
    trainer = values.get("trainer")
    if not isinstance(trainer, dict):
        return values, None
    kept = {k: v for k, v in trainer.items() if k not in ("logger", "logger+")}
    return values | {"trainer": kept}, trainer.get("logger")


def logging_into(run: Path | None, values: dict[str, Any]) -> dict[str, Any]:
    """A config whose loggers write into a run's folder; None: they do not say where."""
    stripped, logger = without_logger(values)
    if logger is None:
        return values
    loggers = logger if isinstance(logger, list) else [logger]
    moved = [_moved(x, run) for x in loggers]
    there = moved if isinstance(logger, list) else moved[0]
    return stripped | {"trainer": stripped["trainer"] | {"logger": there}}


def _moved(logger: Any, run: Path | None) -> Any:
    if not isinstance(logger, dict) or not isinstance(logger.get("init_args"), dict):
        return logger
    kept = {k: v for k, v in logger["init_args"].items() if k not in LOGGER_PLACES}
    if run is not None:
        there = str(run.parent.parent), run.parent.name, run.name
        kept |= dict(zip(LOGGER_PLACES, there, strict=True))
    return logger | {"init_args": kept}


def run_folder(checkpoint: Path) -> Path:
    """The folder that is handed over with a checkpoint: its run's, or the one it is in."""
    folder = checkpoint.absolute().parent
    of_run = folder.name == "checkpoints" and (folder.parent / CONFIG).is_file()
    return folder.parent if of_run else folder  # ~/checkpoints/x.ckpt hands over no home


def config_of_run(checkpoint: Path) -> Path | None:
    """config.yaml of a checkpoint's run, if it is there and no link to elsewhere."""
    run = run_folder(checkpoint)
    config = run / CONFIG
    inside = config.is_file() and config.resolve().parent == run.resolve()
    return config if inside and run != checkpoint.absolute().parent else None


def check_links(run: Path) -> None:
    """Raise Untrusted if what is written into a run's folder would go elsewhere, or never end.

    Into `checkpoints`, which may lie on another disk, only `fit` writes.
    """
    top = os.path.realpath(run)
    for folder, folders, files in os.walk(top):
        for name in {*folders, *files} - ({"checkpoints"} if folder == top else set()):
            path = os.path.join(folder, name)
            inside = Path(os.path.realpath(path)).is_relative_to(top)
            mode = os.lstat(path).st_mode
            if not inside or not (stat.S_ISLNK(mode) or stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise Untrusted(f"holds {name[:100]}, which is a link out of it or no regular file")


def read_text(config: Path) -> str:
    """At most what a config may have.

    Raises:
        Untrusted: If it is not text.
    """
    try:
        with open(config, encoding="utf-8") as file:
            return file.read(MOST_CHARACTERS + 1)
    except UnicodeDecodeError as error:
        raise Untrusted("is not text") from error


def arguments_of_run(
    checkpoint: Path, cls: type, typed: Collection[str] = ()
) -> dict[str, Any] | None:
    """The data module's arguments of a checkpoint's run; None if it is of another class, or
    there is no config.yaml of a run.

    Raises:
        Untrusted: If they would read files elsewhere that the user did not name.
        InputError: If it is not a config of a run.
    """
    if not checkpoint.is_file():
        raise NotFoundError(f"there is no checkpoint {checkpoint}")
    config = config_of_run(checkpoint)
    return data_arguments(config, cls, typed) if config else None


def data_arguments(config: Path, cls: type, typed: Collection[str] = ()) -> dict[str, Any] | None:
    """Arguments of the data module `cls` in a run's config; None if its data is another's."""
    try:
        values, trusted = parse_config(read_text(config))
        data = values["data"]
        if not data["class_path"].endswith(f".{cls.__name__}"):
            return None
        arguments = data["init_args"]
        parse = functools.partial(specs.parse_arguments, cls, arguments, "data")
        parsed = parse(places.anywhere)
        inspect.signature(cls).bind(**arguments)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{config} is not a config of a run: mend it or move it away") from error
    try:
        parse(places.anywhere if trusted else places.within(config.parent, typed))
    except Untrusted as error:
        raise Untrusted(f"{config} {error}: {MEND}") from error
    return specs.construct(parsed._replace(target=dict))
