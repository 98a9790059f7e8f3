"""Help of `train.py COMMAND`: short, or all arguments of the classes that a config names."""

import importlib
import inspect
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from novum.core.errors import InputError

SHORT = """\
usage: {program} {command} --config NAME|FILE [--KEY VALUE ...]

  --config NAME|FILE         an experiment ({program} --help lists ours);
                             a second one is laid over it
  --ckpt_path last|FILE      go on where a run stopped; of test and predict the checkpoint
  --model.init_args.KEY V    of the model, such as lr; {help_model} lists them
  --data.init_args.KEY V     of the data: dataset, path, image_size, batch_size;
                             {help_data} lists them
  --trainer.max_steps N      and --trainer.devices N, --trainer.precision bf16-mixed,
                             --trainer.val_check_interval N, --trainer.logger wandb
  --trainer.callbacks+ C     one more callback
  --seed_everything N        another seed
  --twin                     of fit: two models of the two halves of the data, compared
  --trust                    take the config beside a checkpoint as code
  --print_config, --help_all  print every value; every key of the Trainer and all else
"""
FULL = {"--help_model": "model", "--help_data": "data"}
ALL = "--help_all"
HOMES = ("novum.lightning_modules", "novum.lightning_modules.networks", "novum.datamodules")


def short_help(program: str, command: str) -> str:
    """The keys that are used most."""
    example = f"{program} {command} --config dcgan_digits"
    names = {name.removeprefix("--"): name for name in FULL}
    return f"{SHORT.format(program=program, command=command, **names)}\nexample: {example}"


def class_help(section: str, configs: Sequence[str]) -> str:
    """Every argument of the model or the data that the configs name.

    Args:
        section: model or data.
        configs: Files, of which later ones overrule.
    """
    import yaml

    found: Mapping[str, Any] = {}
    for file in configs:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        given = content.get(section) if isinstance(content, dict) else None
        found = given if isinstance(given, dict) and "class_path" in given else found
    if not found:
        raise InputError(f"--help_{section} needs --config NAME: its {section} is what it explains")
    return "\n".join(_explained(found, f"--{section}"))


def _explained(spec: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Lines on a class and, below it, on the classes among its arguments."""
    cls = _find(str(spec["class_path"]))
    arguments = spec.get("init_args") or {}
    described = _descriptions(cls)
    yield f"{prefix} {spec['class_path']}: {_first_sentence(inspect.getdoc(cls) or '')}"
    width = shutil.get_terminal_size().columns
    for name, parameter in inspect.signature(cls).parameters.items():
        value = arguments.get(name, parameter.default)
        plain = getattr(value, "__name__", value)  # of a function or a class
        shown = "" if value is inspect.Parameter.empty or isinstance(value, dict) else f" {plain}"
        yield f"  {prefix}.init_args.{name}{shown}"
        text = described.get(name, "")
        yield from textwrap.wrap(text, max(40, width - 8), initial_indent=" " * 6,
                                 subsequent_indent=" " * 6)  # fmt: skip
    for name, value in arguments.items():
        if isinstance(value, dict) and "class_path" in value:
            yield ""
            yield from _explained(value, f"{prefix}.init_args.{name}")


def _find(path: str) -> Any:
    """The class of a full or a bare name."""
    module, _, name = path.rpartition(".")
    for home in [module] if module else HOMES:
        try:
            found = getattr(importlib.import_module(home), name, None)
        except ImportError as error:
            raise InputError(f"{path} cannot be imported: {error}") from error
        if found is not None:
            return found
    raise InputError(f"there is no class {path}")


def _descriptions(cls: Any) -> dict[str, str]:
    """Descriptions of arguments in the docstrings of a class and of its constructor."""
    from docstring_parser import parse

    texts = [inspect.getdoc(base) or "" for base in reversed(inspect.getmro(cls))]
    texts.append(inspect.getdoc(cls.__init__) or "")
    return {
        found.arg_name: " ".join((found.description or "").split())
        for text in texts
        for found in parse(text).params
    }


def _first_sentence(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())
