"""Class specs of any spelling build what is on the list; those of our own runs all do."""

import inspect
import json
import random
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import instantiate_module

from novum.cli import train
from novum.core.security import Untrusted, build
from novum.core.security.allowed import allowed_names, find_allowed
from novum.core.security.configs import check_config, logging_into, parse_config
from novum.core.security.fence import fenced
from novum.core.security.places import anywhere, within
from novum.core.security.specs import MOST_VALUES, Spec, argument_hints, construct, parse
from tests.core.security import attacks
from tests.fuzz.outcome import LONG, ends_well

BEFORE = sorted((Path(__file__).parent / "before").glob("*.json"))  # runs of the commit before
SPECS = LONG or 2000


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("hint", "value", "parsed"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float, "1e-4", 1e-4),
        (float | None, None, None),
        (float | Literal["auto"], "auto", "auto"),
        (bool | int, True, True),
        (str | list[str], ["a"], ["a"]),
        (tuple[float, float], [1, 2.5], (1.0, 2.5)),
        (tuple[str, ...], ["a", "b"], ("a", "b")),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (timedelta | None, "0:30:00", timedelta(minutes=30)),
        (timedelta, "2 days, 1:00:00", timedelta(days=2, hours=1)),
        (Colour, "RED", Colour.RED),
        (Any, [1, "a"], [1, "a"]),
    ],
)
def test_plain_values(hint, value, parsed):
    assert parse(value, hint, "x", anywhere) == parsed


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, "3"),
        (int, True),
        (int, 2**63),
        (float, "1.0)"),
        (bool, 1),
        (str, 1),
        (str, "x" * 100_001),
        (Literal["a"], "b"),
        (Literal[1], True),
        (list[str], "[a]"),
        (list[str], [["a"]]),
        (tuple[float, float], [1.0]),
        (dict[str, int], {"class_path": 1}),
        (dict[str, int], {1: 1}),
        (timedelta, "soon"),
        (Colour, "BLUE"),
        (Colour, {"a": 1}),
        (Any, {"a": 1}),
        (str | torch.nn.Module, "torch.nn.Identity"),  # jsonargparse would import it
        (type[torch.nn.RNNBase], "torch.nn.Identity"),
        (Callable[[Any], torch.optim.Optimizer], "torch.nn.Identity"),
        (torch.nn.RNNBase, {"class_path": "torch.nn.Identity"}),
        (torch.nn.Module, {"class_path": "torch.nn.Identity", "args": []}),
        (torch.nn.Module, {"class_path": ["torch.nn.Identity"]}),
        (torch.nn.Module, {"class_path": "torch.nn.Identity", "init_args": "{}"}),
    ],
)
def test_what_a_hint_does_not_say_is_refused(hint, value):
    with pytest.raises(Untrusted):
        parse(value, hint, "x", anywhere)


def test_callables_and_types():
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1, "betas": [0.5, 0.9]}}
    made = construct(parse(adam, Callable[[Any], torch.optim.Optimizer], "x", anywhere))
    optimizer = made([torch.nn.Parameter(torch.zeros(1))])
    assert optimizer.defaults["lr"] == 0.1 and optimizer.defaults["betas"] == (0.5, 0.9)
    loss = "novum.lightning_modules.losses.hinge_discriminator_loss"
    assert construct(parse(loss, Callable, "x", anywhere)) is find_allowed(loss)
    cell = construct(parse("torch.nn.GRU", type[torch.nn.RNNBase], "x", anywhere))
    assert cell is torch.nn.GRU


def test_shared_parts_do_not_unfold_without_end():
    part: list = ["x"] * 10
    for _ in range(11):
        part = [part] * 10
    with pytest.raises(Untrusted, match="too large"):
        build(find_allowed("novum.lightning_modules.GAN"), {"betas": part}, anywhere)
    endless: dict = {}
    endless["a"] = endless
    with pytest.raises(Untrusted, match="nested too deeply"):
        build(find_allowed("novum.lightning_modules.GAN"), endless, anywhere)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(Untrusted, match="too large"):
        parse_config("\n".join(lines))
    for text in ("[" * 5000, "x" * 300_000, "a: 1\nb", "- 1", "\0", f"{MOST_VALUES * [1]}"):
        with pytest.raises(Untrusted):
            parse_config(text)


# -- what our own runs wrote ---------------------------------------------------------------------


@pytest.mark.parametrize("path", BEFORE, ids=lambda path: path.stem)
def test_runs_of_before_are_accepted(path, tmp_path):
    run = json.loads(path.read_text())
    typed = ["input.txt"]  # of char_lstm_shakespeare, whose text the user has to name
    for text in (run["config"], run.get("recipe") or "{}"):
        config = parse_config(text)
        assert not config.trusted
        check_config(logging_into(None, config.values), within(tmp_path, typed))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", BEFORE, ids=lambda path: path.stem)
def test_checkpoints_of_before_are_built_as_lightning_built_them(path):
    run = json.loads(path.read_text())
    if "deep" in path.stem or "transfer" in path.stem or "stylegan_cifar10" in path.stem:
        pytest.skip("the same classes as another, and large")
    arguments = {k: v for k, v in run["arguments"].items() if k != "_instantiator"}
    theirs = instantiate_module(LightningModule, dict(arguments))
    cls = find_allowed(arguments.pop("_class_path"))
    torch.manual_seed(0)
    ours = build(cls, arguments, within(None))
    assert type(ours) is type(theirs) is cls
    shapes = {name: list(tensor.shape) for name, tensor in ours.state_dict().items()}
    shapes |= {"delta": run["state"].get("delta")} if "delta" in shapes else {}  # as the image's
    assert shapes == run["state"]
    for name in inspect.signature(cls).parameters:
        mine, other = getattr(ours, name, None), getattr(theirs, name, None)
        assert type(mine) is type(other), name
        if isinstance(mine, bool | int | float | str | list | tuple):
            assert mine == other, name


# -- anything else -------------------------------------------------------------------------------


def importable() -> list[str]:
    """The classes and functions of all modules that this process has loaded, by dotted names."""
    names = set()
    for module in list(sys.modules):
        for name, thing in list(vars(sys.modules[module]).items()):
            if isinstance(type(thing), type) and callable(thing):
                names.add(f"{module}.{name}")
    return sorted(names)


SPELLINGS: list[Callable[[dict], Any]] = [
    lambda spec: spec,
    lambda spec: spec["class_path"],
    json.dumps,
    lambda spec: yaml.safe_dump(spec, default_flow_style=True),
    lambda spec: [spec],
    lambda spec: [[json.dumps(spec)]],
    lambda spec: {"a": spec},
    lambda spec: {"a": json.dumps(spec)},
    lambda spec: {"class_path": "torch.nn.Identity", "init_args": {"a": spec}},
    lambda spec: {"class_path": "torch.nn.Identity", "dict_kwargs": {"a": spec}},
    lambda spec: spec | {"dict_kwargs": {"a": 1}},
    lambda spec: {"class_path": json.dumps(spec)},
    lambda spec: {"init_args": spec},
    lambda spec: {"class_path": "novum.lightning_modules.GAN", "init_args": {"generator": spec}},
]  # fmt: skip


def targets(parsed: Any) -> Iterator[Any]:
    """Everything that building would call or pass on."""
    if isinstance(parsed, Spec):
        yield parsed.target
        parsed = parsed.arguments
    if isinstance(parsed, dict):
        parsed = list(parsed.values())
    for part in parsed if isinstance(parsed, list | tuple) else ():
        yield from targets(part)


def random_specs(count: int) -> Iterator[tuple[Any, Any, str]]:
    """A spec in some spelling, and the hint of some argument of a listed class to put it in."""
    draw = random.Random(0)
    names, listed = importable(), allowed_names()
    classes = [x for x in map(find_allowed, listed) if inspect.isclass(x)]
    places = [(c, n, h) for c in classes for n, h in argument_hints(c).items()]
    of_objects = [place for place in places if "Module" in str(place[2])]
    for _ in range(count):
        name = draw.choice(draw.choice((listed, names, names)))
        arguments = draw.choice([{}, {}, {"args": ["touch", "ran"]}, {"lr": 0.1}, {"path": "x"}])
        spec = {"class_path": name, "init_args": arguments}
        cls, argument, hint = draw.choice(draw.choice((places, of_objects)))
        yield draw.choice(SPELLINGS)(spec), hint, f"{cls.__name__}.{argument}"


def test_no_spec_of_anything_importable_builds_what_is_not_on_the_list():
    assert len(importable()) > 20_000
    on_list = list(map(find_allowed, allowed_names()))
    accepted = 0
    for value, hint, where in random_specs(SPECS):
        try:
            parsed = parse(value, hint, where, within(None))
        except Untrusted:
            continue
        found = list(targets(parsed))
        assert all(any(x is y for y in on_list) for x in found), (where, value)
        accepted += bool(found)
    assert accepted  # some are the right class in the right place


class Canary:
    """Says that it was built."""

    built = 0

    def __init__(self, *args: object, **kwargs: object) -> None:
        Canary.built += 1


def test_the_second_fence_holds_alone():
    """jsonargparse without Novum's check before it."""
    from jsonargparse import ArgumentParser

    name = f"{__name__}.Canary"
    sys.modules.setdefault(__name__, sys.modules[Canary.__module__])
    with fenced([]):
        for cls, hint in [("torch.nn.ParameterDict", "parameters"), ("torch.nn.Identity", "a")]:
            for spelling in SPELLINGS:
                parser = ArgumentParser(exit_on_error=False)
                parser.add_subclass_arguments(torch.nn.Module, "x")
                value = spelling({"class_path": name, "init_args": {}})
                spec = {"class_path": cls, "init_args": {hint: value}}
                try:
                    parser.instantiate_classes(parser.parse_object({"x": spec}))
                except Exception:  # noqa: S112 - refused, in any words
                    continue
    assert Canary.built == 0


def test_the_fence_is_taken_down():
    from jsonargparse._common import parsing_settings

    before = dict(parsing_settings)
    with pytest.raises(KeyError), fenced(["mine.Model"]):
        assert parsing_settings["import_path_verdicts"]["mine"]
        raise KeyError
    assert parsing_settings == before


@pytest.mark.filterwarnings("ignore")
def test_a_class_of_the_user_comes_with_a_picture(tmp_path, monkeypatch):
    """What the user types is code, even beside a recipe that is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mine.py").write_text(
        "from pytorch_lightning import Callback\nclass Mine(Callback):\n"
        "    def setup(self, trainer, module, stage): open('mine.txt', 'w').close()\n"
    )
    path = attacks.picture(Path("x.png"), attacks.config())
    arguments = ["fit", "--config", str(path), "--trainer.callbacks+=mine.Mine",
                 "--trainer.accelerator=cpu", "--trainer.fast_dev_run=true"]  # fmt: skip
    assert ends_well("train.py", lambda: train.main(arguments)) == 0
    assert Path("mine.txt").exists()


def test_no_listed_class_takes_just_anything():
    """jsonargparse reads specs out of text wherever a hint lets it."""
    loose = {
        (thing.__name__, name)
        for thing in map(find_allowed, allowed_names())
        if inspect.isclass(thing)
        for name, hint in argument_hints(thing).items()
        if hint in (Any, object) or "Any" in str(hint)
    }
    assert {name for _, name in loose} <= {"params"}  # of optimizers: never in a config
