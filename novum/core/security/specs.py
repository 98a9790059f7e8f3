"""Plain values and class specs of untrusted files, parsed against type hints and then built.

A class spec is `{class_path: NAME, init_args: {...}}`, as jsonargparse writes it, and only where a
hint asks for a class; text is never parsed as one. jsonargparse would: it reads classes, and files
that name classes, out of any text that a hint lets it try.
"""

import collections.abc
import dataclasses
import enum
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from novum.core.security.allowed import find_allowed
from novum.core.security.untrusted import Untrusted

Hint = Any
CheckPlace = Callable[[type, str, Any], None]  # of an argument of a class; raises Untrusted

# to PyYAML 1e-4 is text
NUMBER = re.compile(
    r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.?(inf|nan)"
)  # YAML: 1e-4 is text
DURATION = re.compile(  # as str(timedelta) writes it
    r"((?P<days>\d{1,5}) days?, )?(?P<hours>\d{1,2}):(?P<minutes>\d\d):(?P<seconds>\d\d(\.\d+)?)"
)
WORD = re.compile(r"[a-z0-9_,:-]*")  # a choice by name (ddp, 16-mixed): no import path, no file
MOST_VALUES = 20_000  # of a file
MOST_DEPTH = 50
MOST_CHARACTERS = 100_000  # of one text
SEQUENCES = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable,
             collections.abc.Collection)  # fmt: skip
SPEC_KEYS = {"class_path", "init_args"}
EXTRA = {  # keyword arguments that these classes pass on, as our configs hold them
    "TensorBoardLogger": {"comment": str, "purge_step": int | None, "max_queue": int,
                          "flush_secs": int, "filename_suffix": str},
    "DDPStrategy": {"find_unused_parameters": bool, "gradient_as_bucket_view": bool,
                    "static_graph": bool, "broadcast_buffers": bool, "bucket_cap_mb": int | None,
                    "init_sync": bool, "check_reduction": bool},
}  # fmt: skip


class Spec(NamedTuple):
    """An allowed class or function, and its parsed arguments."""

    target: Any
    arguments: dict[str, Any]
    called: bool = True  # else passed on: a function, a type, or a class that lacks arguments


def build(cls: type, arguments: Any, check_place: CheckPlace) -> Any:
    """An object of a class on the list, from arguments of an untrusted file.

    Raises:
        Untrusted: If they name or hold anything that the constructors' hints do not ask for.
    """
    check_size(arguments)
    return construct(parse_arguments(cls, arguments, cls.__name__, check_place))


def check_size(value: Any) -> None:
    """Refuse what is too large or deep to walk: shared parts unfold a small file without end."""
    for number, _ in enumerate(_parts(value)):
        if number == MOST_VALUES:
            raise Untrusted("is far too large")


def _parts(value: Any) -> Iterator[Any]:
    left = [(value, 0)]
    while left:
        part, depth = left.pop()
        if depth > MOST_DEPTH:
            raise Untrusted("is nested too deeply")
        inner = part.values() if isinstance(part, dict) else part
        if isinstance(part, dict | list | tuple | set | frozenset):
            left.extend((x, depth + 1) for x in inner)
        yield part


def parse_arguments(
    cls: Any, arguments: Any, where: str, check_place: CheckPlace, given: int = 0
) -> Spec:
    """The arguments of a constructor; its first `given` ones come from the caller."""
    if not isinstance(arguments, dict):
        raise Untrusted(f"holds {_short(arguments)} as the arguments of {where}")
    hints = argument_hints(cls, given)
    parsed = {}
    for name, value in arguments.items():
        if name not in hints:
            raise Untrusted(f"gives {where} an argument {_short(name)}, which it does not take")
        parsed[name] = parse(value, hints[name], f"{where}.{name}", check_place)
        check_place(cls, name, value)
    return Spec(cls, parsed)


@functools.cache
def argument_hints(cls: Any, given: int = 0) -> dict[str, Hint]:
    """The hint of each argument that can be given by name; Any where there is none."""
    hints = typing.get_type_hints(cls.__init__)
    keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [p.name for p in inspect.signature(cls).parameters.values() if p.kind in keyword]
    found = {name: hints.get(name, Any) for name in names[given:]}
    return found | EXTRA.get(cls.__name__, {})


def parse(value: Any, hint: Hint, where: str, check_place: CheckPlace) -> Any:
    """The value as the hint says, class specs as `Spec`.

    Raises:
        Untrusted: If it is not what the hint says, or names what is not on the list.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        return parse(value, inner[0], where, check_place)
    if origin in (Union, types.UnionType):
        return _parse_union(value, inner, where, check_place)
    if origin is Literal:
        found = [x for x in inner if type(x) is type(value) and x == value]
        return found[0] if found else _refuse(value, where)
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return _parse_callable(value, inner, where, check_place)
    if origin is type:
        return _parse_type(value, inner[0], where)
    if origin in SEQUENCES or hint in SEQUENCES:
        return _parse_sequence(value, origin or hint, inner, where, check_place)
    if origin in (dict, Mapping, collections.abc.Mapping) or hint is dict:
        return _parse_mapping(value, inner, where, check_place)
    if hint in PLAIN:
        return PLAIN[hint](value, where)
    if isinstance(hint, type) and hint not in (Any, object):
        return _parse_object(value, hint, where, check_place)
    return _parse_untyped(value, where)


def _refuse(value: Any, where: str) -> Any:
    raise Untrusted(f"holds {_short(value)} as {where}")


def _parse_untyped(value: Any, where: str) -> Any:
    """Plain values, where nothing says what it may be; passed on as they are."""
    if isinstance(value, list | tuple):
        return [_parse_untyped(part, where) for part in value]
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain else _refuse(value, where)


def _short(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("class_path"), str):
        return f"the class {value['class_path'][:100]}"
    shown = isinstance(value, str | float) or isinstance(value, int) and abs(value) < 2**63
    text = repr(value) if shown else f"a {type(value).__name__}"  # Python shows no huge number
    return text if len(text) <= 100 else text[:97] + "..."


def _parse_none(value: Any, where: str) -> None:
    return None if value is None else _refuse(value, where)


def _parse_bool(value: Any, where: str) -> bool:
    return value if isinstance(value, bool) else _refuse(value, where)


def _parse_int(value: Any, where: str) -> int:
    plain = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return value if plain else _refuse(value, where)


def _parse_float(value: Any, where: str) -> float:
    if isinstance(value, str) and NUMBER.fullmatch(value.lower()):
        return float(value.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if isinstance(value, float):
        return value
    return float(_parse_int(value, where))


def _parse_text(value: Any, where: str) -> str:
    plain = isinstance(value, str) and len(value) <= MOST_CHARACTERS
    return value if plain else _refuse(value, where)


def _parse_duration(value: Any, where: str) -> timedelta:
    found = DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return _refuse(value, where)
    return timedelta(**{unit: float(number or 0) for unit, number in found.groupdict().items()})


PLAIN: dict[Hint, Callable[[Any, str], Any]] = {
    None: _parse_none,
    types.NoneType: _parse_none,
    bool: _parse_bool,
    int: _parse_int,
    float: _parse_float,
    str: _parse_text,
    Path: _parse_text,
    timedelta: _parse_duration,
}


def _parse_union(value: Any, hints: tuple, where: str, check_place: CheckPlace) -> Any:
    if isinstance(value, str) and str in hints and any(map(_asks_for_object, hints)):
        # jsonargparse would try such a text as an import path and as a file of arguments
        return value if WORD.fullmatch(value) else _refuse(value, where)
    errors = []
    for hint in sorted(hints, key=_width):
        try:
            return parse(value, hint, where, check_place)
        except Untrusted as error:
            errors.append(error)
    named = (e for e in errors if "names" in str(e) or isinstance(value, dict))
    raise next(named, errors[0])


def _width(hint: Hint) -> int:
    """Exact hints first: 1 is an int before it is a float, and auto a choice before it is text."""
    return {float: 1, str: 2}.get(hint, 0)


def _asks_for_object(hint: Hint) -> bool:
    plain = hint in PLAIN and hint is not timedelta
    return not plain and hint not in (list, dict) and get_origin(hint) not in (Literal, *SEQUENCES)


def _parse_sequence(
    value: Any, kind: Any, inner: tuple, where: str, check_place: CheckPlace
) -> Any:
    if not isinstance(value, list | tuple):
        _refuse(value, where)
    fixed = kind is tuple and inner and inner[-1] is not Ellipsis
    if fixed and len(value) != len(inner):
        raise Untrusted(f"holds {len(value)} values as {where}, which takes {len(inner)}")
    hints = inner if fixed else (inner[0] if inner else str,) * len(value)
    parts = [parse(v, h, where, check_place) for v, h in zip(value, hints, strict=True)]
    return tuple(parts) if kind is tuple else parts


def _parse_mapping(value: Any, inner: tuple, where: str, check_place: CheckPlace) -> dict:
    if not isinstance(value, dict) or "class_path" in value or not inner:
        _refuse(value, where)
    return {
        _parse_text(k, where): parse(v, inner[1], f"{where}.{k}", check_place)
        for k, v in value.items()
    }


def _parse_callable(value: Any, inner: tuple, where: str, check_place: CheckPlace) -> Spec:
    """A function by its name, or a class that the caller gives the arguments of the hint."""
    if isinstance(value, str):
        found = _listed(value, where)
        if inspect.isfunction(found):
            return Spec(found, {}, called=False)
        value = {"class_path": value}
    found, arguments = _parse_spec(value, where)
    result = inner[-1] if inner else None
    if not isinstance(found, type) or not isinstance(result, type) or not issubclass(found, result):
        raise Untrusted(f"names {value['class_path']} as {where}, which it cannot be")
    given = len(inner[0]) if isinstance(inner[0], list) else 1
    return parse_arguments(found, arguments, where, check_place, given)._replace(called=False)


def _parse_type(value: Any, base: Hint, where: str) -> Spec:
    if not isinstance(value, str):
        _refuse(value, where)
    found = _listed(value, where)
    if not isinstance(found, type) or not isinstance(base, type) or not issubclass(found, base):
        raise Untrusted(f"names {value} as {where}, which it cannot be")
    return Spec(found, {}, called=False)


def _parse_object(value: Any, hint: type, where: str, check_place: CheckPlace) -> Any:
    if issubclass(hint, enum.Enum):
        names = {member.name: member for member in hint}
        return names[value] if isinstance(value, str) and value in names else _refuse(value, where)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict) and "class_path" not in value:
        return parse_arguments(hint, value, where, check_place)
    if isinstance(value, str):
        value = {"class_path": value}
    found, arguments = _parse_spec(value, where)
    if not isinstance(found, type) or not issubclass(found, hint):
        raise Untrusted(f"names {value['class_path']} as {where}, which it cannot be")
    return parse_arguments(found, arguments, where, check_place)


def _parse_spec(value: Any, where: str) -> tuple[Any, Any]:
    """Class that a spec names, and its arguments as they are."""
    if not isinstance(value, dict) or "class_path" not in value:
        _refuse(value, where)
    if more := value.keys() - SPEC_KEYS:
        raise Untrusted(f"holds {_short(min(more, key=str))} beside the class_path of {where}")
    arguments = value.get("init_args")
    return _listed(value["class_path"], where), {} if arguments is None else arguments


def _listed(name: Any, where: str) -> Any:
    found = find_allowed(name) if isinstance(name, str) else _refuse(name, where)
    if found is None:
        raise Untrusted(f"names {_short(name).strip(chr(39))} as {where}, which is not on the list")
    return found


def construct(parsed: Any) -> Any:
    """Builds what `parse` returned."""
    if isinstance(parsed, Spec):
        arguments = {name: construct(value) for name, value in parsed.arguments.items()}
        if parsed.called:
            return parsed.target(**arguments)
        return functools.partial(parsed.target, **arguments) if arguments else parsed.target
    if isinstance(parsed, list | tuple):
        return type(parsed)(construct(part) for part in parsed)
    if isinstance(parsed, dict):
        return {key: construct(value) for key, value in parsed.items()}
    return parsed
