"""The LightningCLI behind train.py."""

import contextlib
import copy
import inspect
import logging
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import yaml
from jsonargparse import Namespace
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter
from pytorch_lightning.callbacks.timer import Interval
from pytorch_lightning.cli import (
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from pytorch_lightning.utilities.model_helpers import is_overridden

import novum.callbacks
import novum.datamodules
import novum.lightning_modules
from novum.callbacks.checkpointing import LAST, use_atomic_checkpoints
from novum.callbacks.guard import Guard
from novum.callbacks.preemption import SIGNALS, Preempted
from novum.callbacks.run_identity import RunRecord
from novum.callbacks.summary import RunSummary, WriteSamples, print_figures
from novum.cli.lightning_errors import COMPLAINTS, complains, explain_lightning, explain_value
from novum.cli.program import CONFIGS, one_line_errors, program_name, stop
from novum.cli.run_folder import (
    NAMED,
    Place,
    RunTrainer,
    asked_place,
    check_changes,
    claim,
    kind,
    last_run,
    loggers_of,
    newest_whole,
    place_loggers,
)
from novum.cli.trainer_flags import apply_flags
from novum.core.checkpoints import read_checkpoint
from novum.core.distributed import is_rank_zero
from novum.core.errors import (
    InputError,
    NovumError,
    first_line,
    not_enough_memory,
    out_of_memory,
)
from novum.core.lightning_compat import callbacks_of, drop_events_after, model_instantiator
from novum.core.run_record import settings_of
from novum.core.security.configs import MEND_LINKS, check_links, config_of_run
from novum.core.security.fence import fenced
from novum.core.security.signature import sign
from novum.core.security.trust import trusts_all
from novum.core.security.untrusted import Untrusted
from novum.core.trainer_arguments import require_effect
from novum.lightning_modules import networks

LINKED = {  # what networks take from the data
    "generator": ("image_size", "channels"),
    "discriminator": ("image_size", "channels"),
    "network": ("image_size", "channels", "num_classes", "vocab_size"),
}
DEFAULT_CONFIG = CONFIGS / "default.yaml"

# the default of Timer's `interval`, which YAML does not know how to write
yaml.SafeDumper.add_representer(Interval, lambda dumper, x: dumper.represent_str(str(x.value)))


class Parser(LightningArgumentParser):
    """Says what is wrong with a config or an option in one line, and what may have been meant."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        stop(program_name(), explain_value(message, _known_names()))


PACKAGES = (novum.callbacks, novum.datamodules, novum.lightning_modules, networks)
BARE_NAME = re.compile(
    r"""(?:^|class_path["']?:\s*|[\[,]\s*)["']?([A-Z]\w*)["']?\s*(?=$|[],}])""", re.MULTILINE
)


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


def _known_names() -> dict[str, str]:
    """Our classes, and every argument of theirs and of the trainer; each with its key in a config.

    The key is '' for a class, and for arguments of callbacks and networks, of which there may be
    several.
    """
    known = {name: "" for package in PACKAGES for name in package.__all__}
    for package, key in zip(PACKAGES, ("", "data.", "model.", ""), strict=True):
        for cls in (getattr(package, name) for name in package.__all__):
            of = key if issubclass(cls, LightningModule | LightningDataModule) else ""
            for name in inspect.signature(cls).parameters:
                known[name] = known.get(name) or (of and f"{of}{name}")
    known |= {name: f"trainer.{name}" for name in inspect.signature(Trainer).parameters}
    top = ("trainer", "model", "data", "ckpt_path", "config", "seed_everything")
    return known | dict.fromkeys(("init_args", "class_path"), "") | {name: name for name in top}


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
        """Not here: a run that cannot go on is refused before its config is overwritten."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.already_saved:
            return
        if isinstance(trainer, RunTrainer):
            self.config = self.config.clone()
            self.config.trainer.logger = trainer.asked_logger
            self.config.ckpt_path = None
        super().setup(trainer, pl_module, "fit")
        config = Path(trainer.log_dir or ".") / self.config_filename
        if trainer.is_global_zero and config.is_file():
            text = config.read_text(encoding="utf-8")
            config.write_text(text + sign(text), encoding="utf-8")


class Linked:
    """Builds the model as Lightning does, without links that it does not accept."""

    def __init__(self, build: Any) -> None:
        self.build = build

    def __call__(
        self, cls: type, *args: Any, applied_instantiation_links: dict[str, Any], **kwargs: Any
    ) -> LightningModule:
        links = {k: v for k, v in applied_instantiation_links.items() if _taken(k, cls, kwargs)}
        return self.build(cls, *args, applied_instantiation_links=links, **kwargs)


class TrainCLI(LightningCLI):
    """Links data to networks, names a run after its config, and finds its last checkpoint."""

    made_of: Mapping[str, str] = {}
    claimed: Path | None = None

    @classmethod
    def forget_empty(cls) -> None:
        """Remove the folder of a run that never began."""
        if cls.claimed is not None:
            with contextlib.suppress(OSError):  # it is not empty
                cls.claimed.rmdir()

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The one that is asked for, if it is: a parser for each takes its time."""
        every = LightningCLI.subcommands()
        asked = sys.argv[1] if len(sys.argv) > 1 else ""
        return {asked: every[asked]} if asked in every else every

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
        for part in ("alphabet", "merges"):
            parser.link_arguments(f"data.{part}", f"model.init_args.{part}", apply_on="instantiate")

    def _add_instantiators(self) -> None:
        """Skip links that the model does not accept."""
        super()._add_instantiators()
        self.parser.add_instantiator(
            Linked(model_instantiator(self)), LightningModule, subclasses=True, prepend=True
        )

    def _dump_config(self) -> None:
        """With a place for the links to networks all of whose arguments come from the data."""
        super()._dump_config()
        arguments = (self.config_dump.get("model") or {}).get("init_args") or {}
        for name in LINKED:
            if isinstance(arguments.get(name), dict):
                arguments[name].setdefault("init_args", {})

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
            if out_of_memory(error):
                raise InputError(not_enough_memory(error)) from error
            raise InputError(explain_value(str(error), _known_names())) from error
        except (ArithmeticError, RuntimeError, TypeError) as error:
            if out_of_memory(error):
                raise
            raise InputError(  # what torch says of values that do not fit
                f"nothing can be built of this config ({type(error).__name__}: {first_line(error)})"
            ) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except NovumError:
            raise
        except (TypeError, ValueError) as error:  # Lightning's checks of its arguments
            raise InputError(explain_lightning(error)) from error
        if self.subcommand == "fit":
            record = RunRecord()
            record.settings = self._settings(self.config[str(self.subcommand)])
            callbacks_of(trainer).insert(0, record)
        return trainer

    def after_instantiate_classes(self) -> None:
        self._check_linked()
        self._check_images()
        trainer = cast(RunTrainer, self.trainer)
        trainer.run_folder = self._place.folder if self._place is not None else None
        trainer.asked_logger = self._asked_logger
        if self._place is not None and (done := self._place.done) is not None:
            for logger in trainer.loggers:
                drop_events_after(logger, done)
        check = getattr(self.model, "check_trainer", require_effect)
        check(self.trainer, str(self.subcommand))  # before other processes are started
        use_atomic_checkpoints(self.trainer)
        writers = (WriteSamples, BasePredictionWriter)
        if self.subcommand == "predict" and is_rank_zero():
            if not any(isinstance(x, writers) for x in callbacks_of(self.trainer)):
                print("predict writes nothing without WriteSamples among trainer.callbacks")
        if self.subcommand == "predict" and is_overridden("predict_dataloader", self.model):
            for guard in (x for x in callbacks_of(self.trainer) if isinstance(x, Guard)):
                guard.data = self.datamodule
            self.datamodule = None  # a generator says itself what to make

    def after_validate(self) -> None:
        """Lightning prints nothing of what callbacks measure."""
        if is_rank_zero():
            print_figures(self.trainer, self.model)

    def after_test(self) -> None:
        says = any(isinstance(x, RunSummary) for x in callbacks_of(self.trainer))
        if is_rank_zero() and not says:
            print_figures(self.trainer, self.model)

    def _check_linked(self) -> None:
        """Networks take what the data says; a config that says otherwise would do nothing."""
        arguments = self.config[str(self.subcommand)].model.get("init_args") or Namespace()
        for network, attributes in LINKED.items():
            given = arguments.get(f"{network}.init_args") or Namespace()
            made = getattr(self.model, network, None)
            parameters = inspect.signature(type(made)).parameters if made is not None else {}
            for name in set(attributes) & set(parameters):
                value, known = given.get(name), getattr(self.datamodule, name, None)
                if value not in (None, known, parameters[name].default):
                    raise InputError(
                        f"model.{network}.{name} is {value}, but it is the data that says it"
                        f" ({known}): leave it out of the model"
                    )

    def _check_images(self) -> None:
        """A picture is repeated from the images that it was made of."""
        now = getattr(self.datamodule, "fingerprints", dict)() if self.made_of else {}
        if changed := [x for x, digest in self.made_of.items() if now.get(x, digest) != digest]:
            raise InputError(
                f"the picture was made of another {changed[0]}: its pixels have the sha256"
                f" {self.made_of[changed[0]][:12]}..., those of now {now[changed[0]][:12]}...; give"
                " the file that it was, or name the images yourself with --data"
            )

    def before_instantiate_classes(self) -> None:
        config = self.config[str(self.subcommand)]
        given = config.get("ckpt_path")
        if given is None and self.subcommand != "fit":
            raise InputError(
                f"{self.subcommand} needs trained weights: give --ckpt_path FILE, or last or best"
                " of the runs of this config"
            )
        if given not in (None, "last", "best"):
            # fail before data is loaded; Lightning would unpickle one at a URL
            checkpoint = read_checkpoint(given)
            if self.subcommand == "fit":
                check_changes(given, checkpoint, self._settings(config))
        if config.trainer.get("logger") is True:
            config.trainer.logger = self._default_logger()
        apply_flags(config, str(self.subcommand))
        shares = isinstance(config.trainer.get("val_check_interval"), float)
        if shares and config.trainer.get("check_val_every_n_epoch") is None:
            config.trainer.check_val_every_n_epoch = 1  # a share of an epoch
        self._place = None if config.trainer.get("fast_dev_run") else self._find_place(config)
        self._asked_logger = copy.deepcopy(config.trainer.get("logger"))
        for logger in loggers_of(Namespace(logger=self._asked_logger)):
            if "version" in logger.init_args:  # another run has one of its own
                logger.init_args.version = None
        if self._place is not None:
            place_loggers(config.trainer, self._place)

    def _find_place(self, config: Namespace) -> Place | None:
        """Folder of the run; None if it is not on a disk of this machine."""
        files = config.get("config") or []
        root, experiment, version = asked_place(
            config.trainer, Path(files[-1]).stem if files else "default"
        )
        for logger in loggers_of(config.trainer):
            if kind(logger) in NAMED:
                logger.init_args.name = experiment
        if "://" in root:
            return None
        asked = config.get("ckpt_path")
        if asked in ("last", "best"):
            settings = self._settings(config) if self.subcommand == "fit" else None
            folder = last_run(root, experiment, version, settings)
            if self.subcommand != "fit" or asked == "best":
                config.ckpt_path = self._of_run(folder, asked, Path(root, experiment))
                if self.subcommand == "fit":
                    return self._claim(root, experiment, version)
                assert folder is not None
                _check_links(folder)
                return Place(root, experiment, folder.name)
            if folder is not None:
                path, checkpoint = newest_whole(folder / "checkpoints")
                config.ckpt_path = str(path)
                if self.subcommand == "fit":
                    check_changes(str(path), checkpoint, self._settings(config))
                return Place(root, experiment, folder.name, checkpoint)
            config.ckpt_path = None
            if is_rank_zero():
                print(f"no {LAST} under {Path(root, experiment)}: starting from the beginning")
        elif config.get("ckpt_path") and self.subcommand != "fit":
            run = Path(config.ckpt_path).parent.parent
            if config_of_run(Path(config.ckpt_path)):
                _check_links(run)
                # what is found out about a checkpoint goes into the folder of its run
                return Place(str(run.parent.parent), run.parent.name, run.name)
        return self._claim(root, experiment, version)

    def _claim(self, root: str, experiment: str, version: str | None) -> Place:
        place = claim(root, experiment, version)
        if version is None and is_rank_zero():
            type(self).claimed = place.folder
        return place

    def _of_run(self, folder: Path | None, name: str, runs: Path) -> str:
        """best.ckpt or last.ckpt of a run."""
        path = folder / "checkpoints" / f"{name}.ckpt" if folder is not None else None
        if path is None or not path.is_file():
            where = runs if folder is None else folder
            raise InputError(f"there is no {name}.ckpt under {where}: train with fit first")
        read_checkpoint(path)
        return str(path)

    def _settings(self, config: Namespace) -> dict[str, Any]:
        """Settings that the result depends on, as plain values."""
        text = self._parser(self.subcommand).dump(config, skip_none=False, skip_validation=True)
        return settings_of(yaml.safe_load(text))

    def _default_logger(self) -> Namespace:
        """The logger of configs/default.yaml, which `true` stands for."""
        logger = yaml.safe_load(DEFAULT_CONFIG.read_text())["trainer"]["logger"]
        return Namespace(
            class_path=logger["class_path"], init_args=Namespace(**logger["init_args"])
        )


def _check_links(run: Path) -> None:
    """ValueError if what is written into the folder of somebody's run would go elsewhere."""
    if trusts_all() or not is_rank_zero():  # other ranks were started by the one that knows
        return
    try:
        check_links(run)
    except Untrusted as error:
        raise InputError(f"{run} {error}: {MEND_LINKS}") from error


def _quiet() -> None:
    """Lightning's advertising, and warnings of it about what we do on purpose or cannot mend."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
    for message in (
        ".*treespec",
        "Checkpoint directory .* exists and is not empty",
        ".*does not have many workers",
        r"Found .* module\(s\) in eval mode at the start of training",  # of frozen layers
        "Precision .* is not supported by the model summary",
    ):
        warnings.filterwarnings("ignore", message=message)


def run(
    trusted_texts: list[str] | None = None,
    made_of: Mapping[str, str] | None = None,
    twin: bool = False,
) -> None:
    """Parse sys.argv and do what it says.

    Args:
        trusted_texts: None if all configs are the user's; else what is, beside untrusted ones.
        made_of: Digests by name of the images that a picture was made of, which is to be repeated.
        twin: Train two models on two halves of the data, and compare them.
    """
    _quiet()
    import_named(sys.argv[1:])
    fence = contextlib.nullcontext() if trusted_texts is None else fenced(trusted_texts)
    try:
        with one_line_errors(), fence, _misconfigurations():
            TrainCLI.made_of = made_of or {}
            if twin:
                from novum.cli.twin_runs import train_twins

                train_twins()
            else:
                start(TrainCLI)
    except Preempted:
        for name in SIGNALS:  # ignore repeated signals
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        raise
    except SystemExit:
        TrainCLI.forget_empty()
        raise


@contextlib.contextmanager
def _misconfigurations() -> Iterator[None]:
    """Complaints of Lightning, and of torch's optimizers, become one line with the mend."""
    try:
        yield
    except MisconfigurationException as error:
        raise InputError(explain_lightning(error)) from error
    except COMPLAINTS as error:
        ours = isinstance(error, NovumError) or out_of_memory(error)
        if ours or not complains(error):
            raise
        raise InputError(explain_lightning(error)) from error


CLI = TypeVar("CLI", bound=TrainCLI)


def start(cls: type[CLI]) -> CLI:
    """Do what sys.argv says."""
    return cls(
        datamodule_class=LightningDataModule,
        trainer_class=RunTrainer,
        subclass_mode_data=True,
        save_config_callback=SaveFitConfig,
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
        auto_configure_optimizers=False,
        parser_class=Parser,
        parser_kwargs={
            name: {"default_config_files": [str(DEFAULT_CONFIG)]} for name in TrainCLI.subcommands()
        },
    )
