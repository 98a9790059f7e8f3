"""Train, validate, test and sample: `python train.py fit --config configs/dcgan_digits.yaml`."""

import difflib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from novum.cli.program import (
    CONFIGS,
    Parser,
    one_line_errors,
    program_name,
    stop,
    stoppable,
    version_line,
)
from novum.cli.train_help import ALL, FULL, class_help, short_help
from novum.core.errors import first_line
from novum.core.security.configs import Config, config_of_run
from novum.core.security.trust import trusting

HELP = """\
usage: {program} {{fit,validate,test,predict}} [--config FILE] [--KEY VALUE ...]

  {program} fit --config configs/dcgan_digits.yaml            train
  {program} fit --config ... --ckpt_path last                 go on where the last run stopped
  {program} fit --config ... --twin                           two models of two halves, compared
  {program} test --ckpt_path runs/.../checkpoints/best.ckpt   judge a checkpoint
  {program} predict --ckpt_path runs/.../checkpoints/best.ckpt  write samples: PNG, or text
  {program} fit --config dream.png                            repeat the picture that it wrote
  {program} test --ckpt_path ... --trust                      take the config beside it as code
  {program} fit --config ... --print_config                   show every value
  {program} fit --help                                        the keys used most
  {program} fit --config ... --help_model                     every key of its model

experiments:
{experiments}
"""


LOGGERS = {
    name: f"pytorch_lightning.loggers.{cls}"
    for name, cls in {
        "tensorboard": "TensorBoardLogger",
        "wandb": "WandbLogger",
        "mlflow": "MLFlowLogger",
        "csv": "CSVLogger",
    }.items()
} | {"none": "false"}
COMMANDS = ("fit", "validate", "test", "predict")
TWIN = "--twin"
KEYS = (  # that completion knows
    "--ckpt_path", "--seed_everything", "--trust", "--print_config", "--help_model", "--help_data",
    TWIN, "--trainer.max_steps", "--trainer.devices", "--trainer.precision", "--trainer.logger",
    "--trainer.callbacks+", "--data.init_args.dataset", "--data.init_args.path",
    "--data.init_args.image_size", "--data.init_args.batch_size", "--model.init_args.lr",
)  # fmt: skip
MEANT = {"train": "fit", "eval": "validate", "evaluate": "test", "sample": "predict",
         "generate": "predict", "resume": "fit --ckpt_path last"}  # fmt: skip


def print_help(program: str) -> None:
    """Answers at once: the full parser needs seconds to import Lightning."""
    lines = []
    for path in sorted(CONFIGS.glob("*.yaml")):
        title = path.read_text().split("\n", 1)[0].removeprefix("#").strip()
        lines.append(f"  {path.stem:<22} {title}")
    print(HELP.format(program=program, experiments="\n".join(lines)))


class Configs:
    """The configs of a command line: files, names, recipes in pictures, that of a checkpoint's run.

    `untrusted` says whether one of them is data, from which only listed classes may be built.
    """

    def __init__(self, typed: Sequence[str] = ()) -> None:
        self.typed, self.untrusted = typed, False
        self.files: list[str] = []  # of the user
        self.made_of: dict[str, str] = {}  # name -> digest of the images that a picture was made of

    def resolve(self, name: str) -> str:
        """Resolve a path, the recipe inside one of our PNGs, or the name of a bundled config."""
        if Path(name).suffix.lower() == ".png" and Path(name).is_file():
            return self._recipe_in(Path(name))
        if Path(name).is_file():
            self.files.append(_text(name))
            return name
        if name == "null":
            return name
        stem = f"{Path(name).stem}.yaml"
        places = (CONFIGS / stem, CONFIGS / "cluster" / stem)
        found = next((str(place) for place in places if place.is_file()), None)
        if found is None:
            names = [path.stem for path in CONFIGS.rglob("*.yaml")]
            near = difflib.get_close_matches(Path(name).stem, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"{program_name()} --help lists ours"
            stop(program_name(), f"there is no config {name}: {hint}")
        return found

    def _recipe_in(self, picture: Path) -> str:
        """A file with the config that made a picture; the results of repeating it go where they
        go by default."""
        from novum.core.security.configs import parse_config, without_logger
        from novum.datamodules.sources.decode import open_untrusted
        from novum.report.recipes import RECIPE

        try:
            with open_untrusted(picture, formats=("PNG",)) as image:
                recipe = getattr(image, "text", {}).get(RECIPE, "")
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
            stop(program_name(), f"{picture} is not a readable picture ({first_line(error)})")
        if "class_path" not in recipe:
            stop(
                program_name(),
                f"{picture} carries no recipe: give a PNG that `fit` wrote, or a YAML",
            )
        with self._refusing(f"{picture}: its recipe"):
            config = parse_config(recipe)
            values, logger = without_logger(config.values)
            self._check(config, values, picture.absolute().parent)
        if not any(a.startswith(("--data", "--seed_everything")) for a in self.typed):
            self.made_of = images_of_recipe(recipe)
        name = _name_of_run(logger) or _plain(picture.stem) or "picture"
        return _write_config(values, name)

    def of_run(self, config: Path) -> str:
        """The config beside a checkpoint; its loggers write into the folder of its run."""
        from novum.core.security.configs import logging_into, parse_config, read_text

        with self._refusing(f"{config}, beside the checkpoint,"):
            found = parse_config(read_text(config))
            self._check(found, logging_into(None, found.values), config.parent)
        if found.trusted:
            return str(config)
        return _write_config(logging_into(config.parent, found.values), config.parent.parent.name)

    def trusted_texts(self) -> list[str] | None:
        """Return what the user wrote, if untrusted configs come with it; else None."""
        if not self.untrusted:
            return None
        return [*self.typed, *(Path(file).read_text(encoding="utf-8") for file in self.files)]

    def _check(self, config: Config, values: dict[str, Any], folder: Path) -> None:
        """Untrusted, if a config that is not code holds values that only code may."""
        from novum.core.security.configs import check_config
        from novum.core.security.places import within

        if not config.trusted:
            self.untrusted = True
            check_config(values, within(folder, _values_typed(self.typed)))

    @contextmanager
    def _refusing(self, what: str) -> Iterator[None]:
        from novum.core.security import Untrusted

        try:
            yield
        except Untrusted as error:
            stop(program_name(), f"{what} {error}: add --trust if you trust it as code")


def images_of_recipe(recipe: str) -> dict[str, str]:
    """Name -> sha256 of the pixels of each image that a picture was made of (report/recipes.py)."""
    head = "".join(line for line in recipe.splitlines(True) if line.startswith("# "))
    found = re.findall(r"^# image (.+): sha256 of its pixels ([0-9a-f]{64})$", head, re.MULTILINE)
    return dict(found)


def _text(name: str) -> str:
    """The path of a file that is text, and YAML of keys and values."""
    import yaml

    try:
        values = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or first_line(error)
        stop(program_name(), f"{name}{where} is not YAML ({what}): mend it")
    except ValueError as error:
        stop(program_name(), f"{name} is not a config: it is not text in UTF-8 ({error})")
    if not isinstance(values, dict):
        held = "nothing" if values is None else f"a {type(values).__name__}"
        keys = "give keys such as model, data and trainer with their values"
        stop(program_name(), f"{name} is not a config: it holds {held}, {keys}")
    return name


def _write_config(values: dict[str, Any], name: str) -> str:
    import yaml

    place = Path(tempfile.mkdtemp(prefix="novum-")) / f"{name}.yaml"
    place.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return str(place)


def _values_typed(arguments: Sequence[str]) -> list[str]:
    """Values of options that the user typed; `test` alone does not name ./test."""
    pairs = zip(["", *arguments], arguments, strict=False)
    after = [value for option, value in pairs if option.startswith("--") and "=" not in option]
    return after + [a.partition("=")[2] for a in arguments if a.startswith("--") and "=" in a]


def _name_of_run(logger: object) -> str:
    """Name of the run in a recipe's logger, as the name of a folder; '' if it has none."""
    arguments = logger.get("init_args") if isinstance(logger, dict) else None
    name = arguments.get("name") if isinstance(arguments, dict) else None
    return _plain(Path(name).name) if isinstance(name, str) else ""


def _plain(name: str) -> str:
    """A name that cannot leave its folder and is safe to print."""
    return re.sub(r"[^\w. -]", "_", name)[:60].strip(". ")


def expand_arguments(
    arguments: Sequence[str], configs: Configs | None = None
) -> tuple[list[str], list[str] | None]:
    """Config names become paths; a checkpoint without a config brings that of its own run.

    The second value is None, or what the user wrote if one of the configs is untrusted.
    """
    configs = configs or Configs(arguments)
    expanded = [part for a in arguments for part in _split_option(a)]
    _check_command(expanded)
    _name_loggers(expanded)
    for i, option in enumerate(expanded[:-1]):
        if option == "--config":
            expanded[i + 1] = configs.resolve(expanded[i + 1])
    options = zip(expanded, expanded[1:], strict=False)
    checkpoint = next((value for option, value in options if option == "--ckpt_path"), None)
    if checkpoint and checkpoint not in ("last", "best", "null") and "://" not in checkpoint:
        _check_checkpoint(Path(checkpoint))
    if expanded and expanded[0] != "fit" and "--config" not in expanded:
        if checkpoint and (config := config_of_run(Path(checkpoint))):
            expanded[1:1] = ["--config", configs.of_run(config)]
        elif checkpoint and not any(option.startswith("--model") for option in expanded):
            stop(
                program_name(),
                f"{checkpoint} has no config of a run beside it: give --config NAME as well",
            )
    return expanded, configs.trusted_texts()


def _name_loggers(arguments: list[str]) -> None:
    """wandb, mlflow, csv and tensorboard, or a list of them, as classes; none is no logger."""
    for i, option in enumerate(arguments[:-1]):
        if option in ("--trainer.logger", "--trainer.logger+"):
            names = [x.strip(" '\"") for x in arguments[i + 1].strip("[]").split(",")]
            known = [LOGGERS.get(name.lower().removesuffix("logger"), "") for name in names]
            if len(known) > 1 and LOGGERS["none"] in known:
                stop(program_name(), f"{option} {arguments[i + 1]}: none stands alone")
            if not any(names):
                meant = ", ".join(LOGGERS)
                stop(
                    program_name(), f"{option} has no name: give one of {meant}, or a list of them"
                )
            if not all(known):
                continue
            if option.endswith("+") or len(known) > 1:
                whole = [{"class_path": x, "init_args": {"save_dir": "runs"}} for x in known]
                arguments[i + 1] = json.dumps(whole if len(known) > 1 else whole[0])
            else:  # a class alone keeps the name and the version that are given
                arguments[i + 1] = known[0]


def _check_command(arguments: Sequence[str]) -> None:
    """Stop with what may have been meant by a command or a config without its option."""
    command, *rest = arguments or [""]
    if command not in COMMANDS and not command.startswith("-"):
        near = difflib.get_close_matches(command, COMMANDS) or ["fit"]
        meant = MEANT.get(command, near[0])
        stop(program_name(), f"there is no command {command}: did you mean {meant}?")
    if rest and not rest[0].startswith("-"):
        stop(program_name(), f"{rest[0]} is no option: did you mean --config {rest[0]}?")


def _check_checkpoint(path: Path) -> None:
    """Stop if there is no such file, naming those in a run's folder."""
    if path.is_file():
        return
    found = sorted(path.glob("checkpoints/*.ckpt")) or sorted(path.glob("*.ckpt"))
    found = found or sorted(path.parent.glob("*.ckpt"))
    meant = difflib.get_close_matches(str(path), ("last", "best"), 1) or found[:1]
    hint = f"did you mean {meant[0]}?" if meant else "give a .ckpt file of a run, last or best"
    stop(program_name(), f"there is no checkpoint {path}: {hint}")


def _split_option(argument: str) -> list[str]:
    option, equals, value = argument.partition("=")
    if option in ("--trainer.logger", "--trainer.logger+") and equals:
        return [option, value]
    if option == "-c":
        option = "--config"
        argument = argument.replace("-c", "--config", 1)
    return [option, value] if equals and option in ("--config", "--ckpt_path") else [argument]


def _from_environment(arguments: list[str]) -> list[str]:
    """Options that Lightning's variables give, such as PL_FIT__CONFIG; those typed come later."""
    if not arguments or arguments[0] not in COMMANDS:
        return arguments
    start = f"PL_{arguments[0].upper()}__"
    found = sorted((k, v) for k, v in os.environ.items() if k.startswith(start) and v)
    keys = [(key.removeprefix(start).lower().replace("__", "."), value) for key, value in found]
    keys.sort(key=lambda pair: pair[0] != "config")  # the config first, which others change
    options = [part for key, value in keys for part in (f"--{key}", value)]
    return [arguments[0], *options, *arguments[1:]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a user's mistake ends in one line and exit code 2."""
    given = _from_environment(list(sys.argv[1:] if arguments is None else arguments))
    if not given or given[0] in ("-h", "--help"):
        print_help(program_name())
        return
    if given == ["--version"]:
        print(version_line())
        return
    if given[0] == "--print_shtab":
        print_completion(given[1:])
        return
    if given[0] in COMMANDS and {"-h", "--help"} & set(given):
        print(short_help(program_name(), given[0]))
        return
    with stoppable(), trusting("--trust" in given):
        twin = TWIN in given
        if twin and given[0] != "fit":
            stop(program_name(), f"{TWIN} is of fit: it trains two models and compares them")
        arguments = [a for a in given if a not in ("--trust", TWIN)]
        configs = Configs(arguments)
        if asked := [FULL[a] for a in given if a in FULL]:
            print_class_help(asked[0], given, configs)
            return
        arguments = ["--help" if a == ALL else a for a in arguments]
        sys.argv[1:], trusted_texts = expand_arguments(arguments, configs)
        if trusted_texts is None:  # classes of one's own; behind all that is installed
            sys.path.append(os.getcwd())
        from novum.cli.lightning_cli import run  # imports Lightning

        if twin:  # ranks that Lightning starts are given these arguments
            sys.argv.append(TWIN)
        run(trusted_texts, configs.made_of, twin)


def print_class_help(section: str, given: Sequence[str], configs: Configs) -> None:
    """Explain every argument of the model or the data of the configs on the command line."""
    with one_line_errors():
        parts = [part for argument in given for part in _split_option(argument)]
        pairs = zip(parts, parts[1:], strict=False)
        files = [configs.resolve(value) for option, value in pairs if option == "--config"]
        sys.path.append(os.getcwd())  # classes of one's own
        print(class_help(section, files))


def print_completion(shell: Sequence[str]) -> None:
    """Completion of commands, configs and the keys used most, as a script for a shell."""
    parser = Parser("Train, validate, test and sample.", "")
    names = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--config", "-c", choices=names)
    for key in KEYS:
        parser.add_argument(key)
    parser.parse_args(["fit", "--print_shtab", *shell])


if __name__ == "__main__":
    main()
