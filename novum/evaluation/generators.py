"""Any generator: an object with `sample` or `sample_text`, a function, or a function's name."""

import contextlib
import difflib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from novum.core.errors import InputError, first_line

NAMED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
SIGNATURE = "a function of n and seed that returns n images (uint8), or n texts"

Draw = Callable[[int, int], Any]


def is_function_name(place: object) -> bool:
    """True of `package.module:function`, unless a file is called so."""
    return isinstance(place, str) and bool(NAMED.fullmatch(place)) and not Path(place).exists()


def named_function(place: str) -> Draw:
    """Import `package.module:function`, from the current folder too; runs that module's code."""
    module_name, _, name = place.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # behind all that is installed
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            raise InputError(
                f"--samples {place}: there is no module {error.name}, neither installed nor in"
                " this folder"
            ) from error
        raise InputError(f"--samples {place}: {module_name} needs {error.name}") from error
    except Exception as error:
        raise InputError(f"--samples {place}: importing it failed: {_said(error)}") from error
    found = getattr(module, name, None)
    if found is None:
        functions = [x for x, value in vars(module).items() if callable(value)]
        near = difflib.get_close_matches(name, functions, 1)
        raise InputError(
            f"--samples {place}: {module_name} has no {name}"
            + (f": did you mean {near[0]}?" if near else f"; give {SIGNATURE}")
        )
    if not callable(found):
        raise InputError(f"--samples {place}: {name} cannot be called; give {SIGNATURE}")
    return found


def called(function: Draw, n: int, seed: int, name: str) -> Any:
    """Call the user's function; an error in it is one line that says where."""
    try:
        return function(n, seed)
    except Exception as error:
        raise InputError(
            f"--samples {name}: called with n={n}, seed={seed} it failed: {_said(error)}; give"
            f" {SIGNATURE}"
        ) from error


def _said(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}, line {last.lineno}"
    return f"{type(error).__name__}: {first_line(error)} ({where})"


def function_name(function: Any) -> str:
    """`module:function`, or the class of what is called."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', type(function).__module__)}:{name}"


@contextlib.contextmanager
def evaluating(generator: Any) -> Iterator[None]:
    """A module in evaluation mode while this lasts."""
    if not isinstance(generator, nn.Module):
        yield
        return
    training = {module for module in generator.modules() if module.training}
    generator.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
