"""Packages whose names are imported when they are asked for (PEP 562).

A package states its names once, as imports under `if TYPE_CHECKING:`, which type checkers, IDEs and
documentation tools read. `import novum.callbacks` then costs nothing, and asking for
`novum.callbacks.FilmStrip` imports one module.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def lazy_exports(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package.

    Args:
        package: Its `__name__`.
        file: Its `__file__`, whose imports under `if TYPE_CHECKING:` are its names.
    """
    modules = _declared(file)

    def __getattr__(name: str) -> Any:
        if name in modules:
            value = getattr(importlib.import_module(modules[name]), name)
        elif not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}"):
            value = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)  # the next access is an ordinary one
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return __getattr__, __dir__


def _declared(file: str) -> dict[str, str]:
    """Modules by the name that is imported from them."""
    found: dict[str, str] = {}
    for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                if isinstance(statement, ast.ImportFrom) and statement.module:
                    found |= {alias.name: statement.module for alias in statement.names}
    return found
