"""The LightningCLI behind train.py."""

import contextlib
import inspect
import logging
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.cli import (
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from pytorch_lightning.utilities.model_helpers import is_overridden

import novum.callbacks
import novum.datamodules
import novum.lightning_modules
from novum.callbacks.checkpointing import LAST, PREVIOUS, use_atomic_checkpoints
from novum.callbacks.preemption import SIGNALS, Preempted
from novum.cli.lightning_errors import explain_lightning, explain_value
from novum.cli.program import CONFIGS, one_line_errors, program_name, stop
from novum.core.checkpoints import read_checkpoint
from novum.core.distributed import is_rank_zero
from novum.core.errors import InputError, NovumError, first_line, out_of_memory
from novum.core.lightning_compat import model_instantiator
from novum.core.protocols import AXES
from novum.core.security.configs import MEND_LINKS, check_links, config_of_run
from novum.core.security.fence import fenced
from novum.core.security.signature import sign
from novum.core.security.trust import trusts_all
from novum.core.security.untrusted import Untrusted
from novum.lightning_modules import networks

LINKED = {  # what networks take from the data
    "generator": ("image_size", "channels"),
    "discriminator": ("image_size", "channels"),
    "network": ("image_size", "channels", "num_classes"),
}
DEFAULT_CONFIG = CONFIGS / "default.yaml"


class Parser(LightningArgumentParser):
    """Says what is wrong with a config or an option in one line, and what may have been meant."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        stop(program_name(), explain_value(message, _known_names()))


PACKAGES = (novum.callbacks, novum.datamodules, novum.lightning_modules, networks)
BARE_NAME = re.compile(r"""(?:^|class_path:\s*)["']?([A-Z]\w*)["']?\s*$""", re.MULTILINE)


def import_named(arguments: Sequence[str]) -> None:
    """Import the classes called by bare names: jsonargparse looks through imported ones alone.

    A dotted class path imports what it names; --help and --print_config list everything.
    """
    texts = [argument.partition("=")[2] or argument for argument in arguments]
    for option, value in zip(arguments, arguments[1:], strict=False):
        if option == "--config" and Path(value).is_file():
            texts.append(Path(value).read_text(encoding="utf-8", errors="replace"))
    named = {match for text in texts for match in BARE_NAME.findall(text)}
    everything = any(a.split("=")[0].endswith(("help", "print_config")) for a in arguments)
    for package in PACKAGES:
        for name in package.__all__:
            if everything or name in named:
                getattr(package, name)


def _known_names() -> set[str]:
    """Our classes, and every argument of theirs and of the trainer."""
    classes = [getattr(package, name) for package in PACKAGES for name in package.__all__]
    names = {name for c in (Trainer, *classes) for name in inspect.signature(c).parameters}
    names |= {name for package in PACKAGES for name in package.__all__}
    return names | {"init_args", "class_path", "trainer", "model", "data", "ckpt_path", "config"}


def _taken(link: str, cls: type, arguments: dict[str, Any]) -> bool:
    """Return True if a model of that class and arguments accepts a link.

    A link ends in `model.init_args.KEY` or in `model.init_args.NETWORK.init_args.KEY`.
    """
    *_, owner, _, key = link.split(".")
    if owner == "model":
        return key in inspect.signature(cls).parameters
    return owner in arguments and key in inspect.signature(type(arguments[owner])).parameters


class SaveFitConfig(SaveConfigCallback):
    """Writes a signed config.yaml for `fit` alone: `test` would write one that `fit` refuses."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or self.already_saved:
            return
        super().setup(trainer, pl_module, stage)
        config = Path(trainer.log_dir or ".") / self.config_filename
        if trainer.is_global_zero and config.is_file():
            text = config.read_text(encoding="utf-8")
            config.write_text(text + sign(text), encoding="utf-8")


class ModelInstantiator:
    """Builds the model with the links that it accepts; a class, which ddp_spawn can pickle."""

    def __init__(self, lightnings: Any) -> None:
        self.lightnings = lightnings

    def __call__(
        self, cls: type, *args: Any, applied_instantiation_links: dict[str, Any], **kwargs: Any
    ) -> LightningModule:
        links = {k: v for k, v in applied_instantiation_links.items() if _taken(k, cls, kwargs)}
        return self.lightnings(cls, *args, applied_instantiation_links=links, **kwargs)


class TrainCLI(LightningCLI):
    """Links data to networks, names a run after its config, and finds its last checkpoint."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("seed_everything", "model.init_args.seed")
        for network, attributes in LINKED.items():
            for attribute in attributes:
                parser.link_arguments(
                    f"data.{attribute}",
                    f"model.init_args.{network}.init_args.{attribute}",
                    apply_on="instantiate",
                )
        parser.link_arguments(
            "data.vocab_size",
            "model.init_args.network.init_args.vocab_size",
            apply_on="instantiate",
        )
        parser.link_arguments("data.alphabet", "model.init_args.alphabet", apply_on="instantiate")

    def _add_instantiators(self) -> None:
        """Skip links that the model does not accept."""
        super()._add_instantiators()
        instantiate = ModelInstantiator(model_instantiator(self))
        self.parser.add_instantiator(instantiate, LightningModule, subclasses=True, prepend=True)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            super().parse_arguments(parser, args)
        except ValueError as error:  # of a value that jsonargparse takes for a path
            raise InputError(f"the config cannot be read ({first_line(error)})") from error

    def _parse_ckpt_path(self) -> None:
        """Overrides Lightning's rule that a checkpoint's hyper-parameters beat the config."""

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except NovumError:
            raise
        except ValueError as error:  # of values, from jsonargparse or a constructor
            raise InputError(explain_value(str(error), _known_names())) from error
        except (ArithmeticError, RuntimeError, TypeError) as error:
            if out_of_memory(error):
                raise
            raise InputError(  # what torch says of values that do not fit
                f"nothing can be built of this config ({type(error).__name__}: {first_line(error)})"
            ) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        try:
            return super().instantiate_trainer(**kwargs)
        except NovumError:
            raise
        except (TypeError, ValueError) as error:  # Lightning's checks of its arguments
            raise InputError(explain_lightning(error)) from error

    def after_instantiate_classes(self) -> None:
        on_cpu = isinstance(self.trainer.accelerator, CPUAccelerator)
        if self.config[str(self.subcommand)].trainer.sync_batchnorm and on_cpu:
            raise InputError(
                "trainer.sync_batchnorm is for GPUs: torch has none for CPUs; leave it"
            )
        use_atomic_checkpoints(self.trainer)
        if self.subcommand == "predict" and is_overridden("predict_dataloader", self.model):
            self.datamodule = None  # a generator says itself what to make

    def before_instantiate_classes(self) -> None:
        config = self.config[str(self.subcommand)]
        if config.get("ckpt_path") not in (None, "last"):
            # fail before data is loaded; Lightning would unpickle one at a URL
            read_checkpoint(config.ckpt_path)
        loggers = _named_loggers(config.trainer.get("logger"))
        if not loggers:
            return
        files = config.get("config") or []
        for logger in loggers:
            if logger.name is None:
                logger.name = Path(str(files[-1])).stem if files else "default"
        if config.get("ckpt_path") == "last":
            config.ckpt_path = _continue_last_run(loggers)
        elif config.get("ckpt_path") and self.subcommand != "fit":
            run = Path(config.ckpt_path).parent.parent
            if config_of_run(Path(config.ckpt_path)):
                _check_links(run)
                # what is found out about a checkpoint goes into the folder of its run
                for logger in loggers:
                    logger.save_dir = str(run.parent.parent)
                    logger.name, logger.version = run.parent.name, run.name


def _check_links(run: Path) -> None:
    """ValueError if what is written into the folder of somebody's run would go elsewhere."""
    if trusts_all() or not is_rank_zero():  # other ranks were started by the one that knows
        return
    try:
        check_links(run)
    except Untrusted as error:
        raise InputError(f"{run} {error}: {MEND_LINKS}") from error


def _named_loggers(configured: Any) -> list[Any]:
    """The arguments of those loggers that name a run."""
    loggers = configured if isinstance(configured, list) else [configured]
    arguments = [getattr(logger, "init_args", None) or {} for logger in loggers]
    return [given for given in arguments if "name" in given]


def _continue_last_run(loggers: list[Any]) -> str | None:
    """The newest checkpoint of the run, whose folder and curves then go on; None starts afresh."""
    runs = Path(loggers[0].save_dir, loggers[0].name)
    found = [path for name in (LAST, PREVIOUS) for path in runs.glob(f"*/checkpoints/{name}")]
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        if is_rank_zero():
            print(f"no {LAST} under {runs}: starting from the beginning")
        return None
    path, checkpoint = newest_whole(newest.parent)
    for logger in loggers:
        logger.version = path.parent.parent.name
        for axis in AXES.keys() & checkpoint.keys() if "purge_step" in logger else ():
            logger.purge_step = checkpoint[axis] + 1  # drop what was logged after the checkpoint
    return str(path)


def newest_whole(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Read last.ckpt; if it is damaged, fall back to previous.ckpt and warn."""
    damages = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.is_file():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except ValueError as error:
            damages.append((path.stat().st_mtime, str(error)))
            continue
        for written, damage in damages:
            lost = max(0.0, written - path.stat().st_mtime)
            print(
                f"{damage}; going on from {path}, step {checkpoint['global_step']}, which was"
                f" written {lost:.0f} s earlier",
                file=sys.stderr,
            )
        return path, checkpoint
    told = "; ".join(damage for _, damage in damages)
    raise InputError(f"{told}: give another --ckpt_path, such as {folder / 'best.ckpt'}, or none")


def _quiet() -> None:
    """Lightning's advertising, and warnings of it about what we do on purpose or cannot mend."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
    for message in (
        ".*treespec",
        "The dirpath has changed",
        "Checkpoint directory .* exists and is not empty",
        ".*does not have many workers",
        "Precision .* is not supported by the model summary",
    ):
        warnings.filterwarnings("ignore", message=message)


def run(trusted_texts: list[str] | None = None) -> None:
    """Parse sys.argv and do what it says.

    Args:
        trusted_texts: None if all configs are the user's; else what is, beside untrusted ones.
    """
    _quiet()
    import_named(sys.argv[1:])
    fence = contextlib.nullcontext() if trusted_texts is None else fenced(trusted_texts)
    try:
        with one_line_errors(), fence, _misconfigurations():
            _train()
    except Preempted:
        for name in SIGNALS:  # ignore repeated signals
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        raise


@contextlib.contextmanager
def _misconfigurations() -> Iterator[None]:
    """Lightning's complaints about the trainer's arguments become one line with the mend."""
    try:
        yield
    except MisconfigurationException as error:
        raise InputError(explain_lightning(error)) from error


def _train() -> None:
    TrainCLI(
        datamodule_class=LightningDataModule,
        subclass_mode_data=True,
        save_config_callback=SaveFitConfig,
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
        auto_configure_optimizers=False,
        parser_class=Parser,
        parser_kwargs={
            name: {"default_config_files": [str(DEFAULT_CONFIG)]}
            for name in LightningCLI.subcommands()
        },
    )
