"""Any generator: an object with `sample` or `sample_text`, a function, or a function's name."""

import contextlib
import difflib
import importlib
import inspect
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
    except (Exception, SystemExit) as error:
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
    except (Exception, SystemExit) as error:  # its exit code is no verdict
        raise InputError(
            f"--samples {name}: called with n={n}, seed={seed} it failed: {_said(error)}; give"
            f" {SIGNATURE}"
        ) from error


def require_method(generator: Any, name: str, *numbers: int) -> None:
    """Raise InputError unless a method takes these numbers and a seed.

    Args:
        generator: What was given as samples.
        name: `sample` or `sample_text`.
        numbers: Of images, or of texts and their characters.
    """
    if isinstance(generator, type):
        raise InputError(f"samples is the class {generator.__name__}: give an instance of it")
    try:
        inspect.signature(getattr(generator, name)).bind(*numbers, seed=0)
    except ValueError:
        return  # a signature that Python cannot see
    except TypeError as error:
        wanted = "sample(n, seed=...)" if len(numbers) == 1 else f"{name}(n, length, seed=...)"
        raise InputError(
            f"samples is a {type(generator).__name__}, whose {name} is no generator's"
            f" ({error}): give {wanted}, or {SIGNATURE}"
        ) from error


def require_no_file_name(place: str) -> None:
    """Raise InputError for a function that is named by its file, with the name that is meant."""
    file, colon, name = place.rpartition(":") if ":" in place else (place, "", "FUNCTION")
    is_file = file.endswith(".py") and (colon or Path(file).is_file())
    if "://" in place or Path(place).is_dir() or not (is_file or colon and "/" in file):
        return
    module = file.removeprefix("./").removesuffix(".py").strip("/").replace("/", ".")
    raise InputError(f"--samples {place}: a function is named as {module}:{name}")


def _said(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        where = f"{Path(error.filename or '').name}, line {error.lineno}"
        return f"{type(error).__name__}: {error.msg} ({where})"
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
