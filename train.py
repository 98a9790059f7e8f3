"""Train, validate, test and sample: `python train.py fit --config configs/dcgan_digits.yaml`."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from novum.errors import ROOT, first_line, program_name, stop
from novum.paths import RECIPE

CONFIGS = ROOT / "configs"

HELP = """\
usage: {program} {{fit,validate,test,predict}} [--config FILE] [--KEY VALUE ...]

  {program} fit --config configs/dcgan_digits.yaml            train
  {program} fit --config ... --ckpt_path last                 go on where the last run stopped
  {program} test --ckpt_path runs/.../checkpoints/best.ckpt   judge a checkpoint
  {program} predict --ckpt_path runs/.../checkpoints/best.ckpt  write samples: PNG, or text
  {program} fit --config dream.png                            repeat the picture that it wrote
  {program} fit --config ... --print_config                   show every value
  {program} fit --help                                        explain every key

experiments:
{experiments}
"""


def print_help(program: str) -> None:
    """Answers at once: the full parser needs seconds to import Lightning."""
    lines = []
    for path in sorted(CONFIGS.glob("*.yaml")):
        title = path.read_text().split("\n", 1)[0].removeprefix("#").strip()
        lines.append(f"  {path.stem:<22} {title}")
    print(HELP.format(program=program, experiments="\n".join(lines)))


def resolve_config(name: str) -> str:
    """A path as given, the recipe inside a PNG of ours, or the bundled config of that name."""
    if Path(name).suffix.lower() == ".png" and Path(name).is_file():
        return _recipe_in(Path(name))
    if Path(name).is_file():
        return _text(name)
    places = (CONFIGS / f"{Path(name).stem}.yaml", CONFIGS / "cluster" / f"{Path(name).stem}.yaml")
    return next((str(place) for place in places if place.is_file()), name)


def _text(name: str) -> str:
    """The path of a file that is text."""
    try:
        Path(name).read_text(encoding="utf-8")
    except ValueError as error:
        stop(program_name(), f"{name} is no config: it is no text in UTF-8 ({error})")
    return name


def _recipe_in(picture: Path) -> str:
    """A file with the config that made a picture, which it carries in its metadata.

    A picture is no code: its recipe may name known classes alone, and the results of repeating it
    go where they go by default.
    """
    import yaml

    from novum.datamodules.decode import open_untrusted
    from novum.trust import Untrusted, read_config

    try:
        with open_untrusted(picture, formats=("PNG",)) as image:
            recipe = image.text.get(RECIPE, "")
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
        stop(program_name(), f"{picture} is not a readable picture ({first_line(error)})")
    if "class_path" not in recipe:
        stop(program_name(), f"{picture} carries no recipe: give a PNG that `fit` wrote, or a YAML")
    try:
        config = read_config(recipe)
    except Untrusted as error:
        stop(
            program_name(),
            f"{picture}: its recipe {error}, which a picture may not; if you trust it as code, give"
            " it as a YAML file",
        )
    trainer = config.get("trainer")
    logger = trainer.pop("logger", None) if isinstance(trainer, dict) else None
    run = _name_of_run(logger) or picture.stem
    place = Path(tempfile.mkdtemp(prefix="novum-")) / f"{run}.yaml"
    place.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return str(place)


def _name_of_run(logger: object) -> str:
    """What a recipe's logger calls the run, without a folder; '' if it does not say."""
    arguments = logger.get("init_args") if isinstance(logger, dict) else None
    name = arguments.get("name") if isinstance(arguments, dict) else None
    return Path(name).name[:100] if isinstance(name, str) and "\0" not in name else ""


def _config_of_run(config: Path) -> str:
    """The config beside a checkpoint, if it is as harmless as the checkpoint."""
    from novum.trust import Untrusted, read_config

    try:
        read_config(config.read_text(encoding="utf-8"))
    except (Untrusted, UnicodeDecodeError) as error:
        said = error if isinstance(error, Untrusted) else "is no text"
        stop(
            program_name(),
            f"{config}, beside the checkpoint, {said}: if you trust it as code, use --config",
        )
    return str(config)


def expand_arguments(arguments: Sequence[str]) -> list[str]:
    """Config names become paths; a checkpoint without a config brings that of its own run."""
    expanded = [part for a in arguments for part in _split_option(a)]
    for i, option in enumerate(expanded[:-1]):
        if option == "--config":
            expanded[i + 1] = resolve_config(expanded[i + 1])
    if expanded and expanded[0] != "fit" and "--config" not in expanded:
        for option, value in zip(expanded, expanded[1:], strict=False):
            config = Path(value).parent.parent / "config.yaml"
            if option == "--ckpt_path" and config.is_file():
                expanded[1:1] = ["--config", _config_of_run(config)]
                break
    return expanded


def _split_option(argument: str) -> list[str]:
    option, equals, value = argument.partition("=")
    return [option, value] if equals and option in ("--config", "--ckpt_path") else [argument]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a user's mistake ends in one line and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print_help(program_name())
        return
    from novum.cli import run  # imports Lightning

    sys.argv[1:] = expand_arguments(given)
    run()


if __name__ == "__main__":
    main()
