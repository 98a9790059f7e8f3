"""Our checkpoints: their contents and the module in them. Loads weights only; never unpickles."""

import importlib
import inspect
import os
import pickletools
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from novum.core import security
from novum.core.errors import InputError, first_line
from novum.core.lightning_compat import CLI_KEYS
from novum.core.security.allowed import find_allowed
from novum.core.security.places import CONTROL, within
from novum.core.security.specs import construct, parse_arguments

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

MEND = "--trust if it is yours (from code: novum.trusting), or let `predict` write samples"
MOST_PARTS = 1_000_000  # of a checkpoint, shared ones counted each time
MOST_DEPTH = 100
KEPT_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
OVERTAKEN = "transfer"  # a checkpoint whose weights training began with: these are later ones


def load_module(
    path: Path, method: str | tuple[str, ...] = "features", kind: str = "feature extractor"
) -> "LightningModule":
    """The module with that method, or one of several, that a checkpoint holds, built by its saved
    arguments.

    Raises:
        InputError: If there is none, or its arguments name what is not on the list of
            `novum.core.security.allowed`, unless the user trusts the file.
    """
    checkpoint = read_checkpoint(path)
    arguments = checkpoint.get("hyper_parameters") or {}
    if not isinstance(arguments, dict):
        raise InputError(f"{path} is not a Novum checkpoint: its arguments have no names")
    cls = _module_class(arguments.get("_class_path", ""), path, method, kind)
    return build_module(cls, checkpoint, path)


def build_module(
    cls: "type[LightningModule]", checkpoint: dict[str, Any], path: str | Path, **given: Any
) -> "LightningModule":
    """A module of that class with a checkpoint's arguments, except those given, and its weights.

    Raises:
        InputError: As `load_module`.
    """
    try:
        if security.trusts_all():
            return _trusted_module(cls, path, **given)
        saved = checkpoint.get("hyper_parameters") or {}
        passed_over = (*CLI_KEYS, *given, OVERTAKEN)
        arguments = {k: v for k, v in saved.items() if k not in passed_over}
        security.check_size(arguments)
        if missing := _missing(cls, arguments | given):
            named = ", ".join(f"{name}=..." for name in missing)
            raise InputError(
                f"{path} holds a {cls.__name__} that was built in Python, of which it knows plain"
                f" values alone: load it with {cls.__name__}.load_from_checkpoint(path, {named})"
            )
        places = within(security.run_folder(Path(path)))
        spec = parse_arguments(cls, arguments, cls.__name__, places)
        module = construct(spec._replace(arguments=spec.arguments | given))
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"], strict=module.strict_loading)
        return module
    except security.Untrusted as error:
        raise InputError(f"{path} {error}: {MEND}") from error
    except Exception as error:  # what a constructor says of damaged arguments or weights
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is a damaged checkpoint: {cls.__name__} cannot be built from it"
            f" ({type(error).__name__}: {first_line(error)})"
        ) from error


def _missing(cls: type, given: dict[str, Any]) -> list[str]:
    """Arguments of a class that are neither given nor have a default."""
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind in plain and parameter.default is parameter.empty and name not in given
    ]


def _trusted_module(
    cls: "type[LightningModule]", path: str | Path, **given: Any
) -> "LightningModule":
    """Build a module of any classes, as Lightning does; weights are never unpickled."""
    from pytorch_lightning import LightningModule

    load = LightningModule.load_from_checkpoint.__func__
    return load(cls, path, map_location="cpu", weights_only=True, **given)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A Lightning checkpoint's contents, tensors left on disk; no code in it is run."""
    check_whole(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file raises about anything
        raise _damaged(path, first_line(error)) from error
    parts = ("state_dict", "pytorch-lightning_version")
    missing = [x for x in parts if not isinstance(checkpoint, dict) or x not in checkpoint]
    if missing:
        raise InputError(f"{path} is not a Lightning checkpoint: it has no {missing[0]}")
    for name in ("images_seen", "tokens_seen"):
        if not isinstance(checkpoint.get(name, 0), int):
            raise InputError(f"{path} is a damaged checkpoint: its {name} is not a number")
    _check_parts(checkpoint, path)
    _check_names(checkpoint, path)
    _check_kept_paths(checkpoint, path)
    return checkpoint


def _check_parts(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Raise ValueError for parts that unfold without end when shown, and tensors not of weights.

    A tensor of stride 0 has any number of elements, which a copy of it would take memory for.
    """
    size, left = Path(path).stat().st_size, [(checkpoint, 0)]
    for number in range(MOST_PARTS + 1):
        if not left:
            return
        part, depth = left.pop()
        if number == MOST_PARTS or depth > MOST_DEPTH:
            raise _damaged(path, "it is nested too deeply, or too large")
        if isinstance(part, torch.Tensor) and not _is_plain(part, size):
            raise _damaged(path, f"it holds a tensor of {tuple(part.shape)} that is not a weight")
        if isinstance(part, dict):
            left += [(x, depth + 1) for pair in part.items() for x in pair]
        elif isinstance(part, list | tuple | set | frozenset):
            left += [(x, depth + 1) for x in part]


def _is_plain(tensor: torch.Tensor, most: int) -> bool:
    """Return True if a tensor is dense, in memory, and of at most `most` elements."""
    dense = tensor.layout is torch.strided and not (tensor.is_nested or tensor.is_quantized)
    return dense and tensor.device.type == "cpu" and tensor.numel() <= most


def _check_names(checkpoint: dict[str, Any], path: str | Path) -> None:
    """ValueError unless what programs show of a checkpoint by name is text for a terminal."""
    weights = checkpoint["state_dict"]
    if not isinstance(weights, dict):
        raise _damaged(path, "its state_dict is none")
    classes = checkpoint.get("class_names", ())
    for name in (*weights, *(classes if isinstance(classes, list | tuple) else ())):
        if not isinstance(name, str) or CONTROL.search(name):
            raise _damaged(path, f"it holds {_short(name)} as a name")


def _short(value: Any) -> str:
    """Without unfolding anything but text."""
    return repr(value[:200]) if isinstance(value, str) else f"a {type(value).__name__}"


def _check_kept_paths(checkpoint: dict[str, Any], path: str | Path) -> None:
    """ValueError unless the checkpoints that callbacks remember lie in their own folders.

    Lightning's ModelCheckpoint deletes those that it replaces, wherever `..` leads.
    """
    callbacks = checkpoint.get("callbacks")
    for state in callbacks.values() if isinstance(callbacks, dict) else ():
        if not isinstance(state, dict):
            continue
        best, folder = state.get("best_k_models"), state.get("dirpath")
        kept = [*(best if isinstance(best, dict) else ()), *(state.get(k) for k in KEPT_PATHS)]
        for file in filter(None, kept):  # Lightning takes the run's own folder where none is said
            if not (isinstance(folder, str) and isinstance(file, str) and _lies_in(folder, file)):
                raise _damaged(path, f"it keeps {_short(file)}, outside of {_short(folder)}")


def _lies_in(folder: str, file: str) -> bool:
    if folder.startswith(("file:", "local:")):
        return False
    if "://" in folder:
        return file.startswith(f"{folder.rstrip('/')}/") and ".." not in Path(file).parts
    inside = Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))
    return inside and "://" not in file


def check_whole(path: str | Path) -> None:
    """ValueError if a checkpoint is missing or not as it was written, to the last bit.

    torch.load compares no checksums: of a flipped bit it would make other weights.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no checkpoint {path}: give a .ckpt file of a run")
    try:
        with zipfile.ZipFile(path) as archive:
            if packed := [x for x in archive.infolist() if x.compress_type != zipfile.ZIP_STORED]:
                raise InputError(f"{packed[0].filename} is compressed, as torch compresses none")
            broken = archive.testzip()
            _check_pickles(archive)
    except Exception as error:
        raise _damaged(path, first_line(error)) from error
    if broken is not None:
        raise _damaged(path, f"{broken} does not match its checksum")


def _check_pickles(archive: zipfile.ZipFile) -> None:
    """ValueError for the one thing that torch would unpickle to any size: zeros by their number."""
    for name in archive.namelist():
        if name.endswith(".pkl"):
            for code, argument, _ in pickletools.genops(archive.read(name)):
                if code.name == "GLOBAL" and str(argument).endswith(" bytearray"):
                    raise InputError("it holds a bytearray")


def _damaged(path: str | Path, cause: str) -> InputError:
    return InputError(f"{path} is not a checkpoint, or a damaged one: {cause}")


def _module_class(
    class_path: str, path: Path, method: str | tuple[str, ...], kind: str
) -> "type[LightningModule]":
    methods = (method,) if isinstance(method, str) else method
    class_path = class_path[:200] if isinstance(class_path, str) else ""
    cls = find_allowed(class_path)
    if cls is None and security.trusts_all():
        cls = _import_class(class_path, path)
    if not isinstance(cls, type) or not any(callable(getattr(cls, x, None)) for x in methods):
        mend = "" if cls else f"; {MEND}"
        raise InputError(
            f"{path} is not a {kind} checkpoint: it holds {class_path or 'no module of a class'},"
            f" and a module of novum with a method {' or '.join(methods)} is needed{mend}"
        )
    return cls


def _import_class(class_path: str, path: Path) -> Any:
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path} holds {class_path}, which cannot be imported ({first_line(error)}): add its"
            " folder to PYTHONPATH"
        ) from error
