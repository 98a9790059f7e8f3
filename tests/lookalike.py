"""A device that computes on the CPU and says it is another, to see what a GPU would wait for.

Its tensors are of the device type `lookalike`, a Python backend of torch's PrivateUse1, and hold an
ordinary tensor. Autograd, optimizers and Lightning's loops run on them as they are. A mode above
all operations counts what makes the host wait for a GPU, and where:

- copies from the host's memory that is not pinned, or that are not asynchronous;
- reads back: copies to the host, `.item()`, `nonzero`, boolean masks and whatever else has a shape
  that the device alone knows.

Operations on tensors of two devices fail as on a GPU. The backend is registered for good, so what
uses it is a program of its own: tests/integration/device_steps.py.
"""

import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ContextDecorator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)


class Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


_setup_privateuseone_for_python_backend("lookalike", Backend())
torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) passes the mode


class _Nothing(ContextDecorator):
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _inference_mode(mode: Any = True) -> Any:
    """In place of torch's, whose tensors cannot be wrapped; set before the project is imported."""
    if callable(mode):
        return torch.no_grad()(mode)
    return torch.no_grad() if mode else _Nothing()


torch.inference_mode = _inference_mode
DEVICE = torch.device("lookalike", 0)
ROOT = Path(__file__).parents[1]
COPIES = ("aten::_to_copy", "aten::copy_", "aten::_copy_from")
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index")
READS = (
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::bincount",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::repeat_interleave",
    "aten::linalg_eigh",  # cuSOLVER's status is read, as of the next ones
    "aten::_linalg_eigh",
    "aten::_linalg_svd",
    "aten::linalg_cholesky_ex",
)
_pinned: set[int] = set()
_kept: list[Tensor] = []  # pinned tensors, whose ids must not be used again


class OnDevice(Tensor):
    """A tensor of the look-alike device, around one of the CPU."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnDevice":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.held = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with _active[-1]:  # backward runs outside of the mode
            return func(*args, **(kwargs or {}))

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.held})"

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: "OnDevice") -> None:
        Tensor.data.__set__(self, value)
        self.held = value.held

    def tolist(self) -> Any:
        _active[-1].read("tolist")
        return self.held.tolist()


def lstm(x: Tensor, hx: Any, weights: Any, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    """torch._VF.lstm for x (t, b, d), one direction: a GPU's is one kernel for all of it."""
    biased, layers, dropout, training = rest[:4]
    assert biased and not any(rest[4:])
    last = []
    for layer in range(layers):
        w_in, w_hidden, b_in, b_hidden = weights[4 * layer : 4 * layer + 4]
        h, c = hx[0][layer], hx[1][layer]
        steps = []
        for step in (x @ w_in.T + b_in).unbind(0):
            i, f, g, o = (step + h @ w_hidden.T + b_hidden).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            steps.append(h)
        last.append((h, c))
        x = torch.stack(steps)
        if layer < layers - 1:
            x = torch.nn.functional.dropout(x, dropout, training)
    h, c = zip(*last, strict=True)
    return x, torch.stack(h), torch.stack(c)


class Watch(TorchDispatchMode):
    """Counts by place in the project's code what makes the host wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.copies: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()

    def __enter__(self) -> "Watch":
        _active.append(self)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        _active.pop()

    def clear(self) -> None:
        self.operations = 0
        self.copies.clear()
        self.reads.clear()

    def read(self, what: str) -> None:
        self.reads[f"{_place()} {what}"] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name
        tensors = _tensors([*args, *kwargs.values()])
        ours = [x for x in tensors if isinstance(x, OnDevice)]
        self.operations += bool(ours)
        target = kwargs.get("device")
        if target is not None and torch.device(target).type == DEVICE.type:
            kwargs["device"] = torch.device("cpu")
        to_ours = target is not None and torch.device(target).type == DEVICE.type
        self._count(name, func, args, kwargs, tensors, ours, target, to_ours)
        found = func(
            *_mapped(_inner, args), **{key: _mapped(_inner, x) for key, x in kwargs.items()}
        )
        if name == "aten::copy_":
            return args[0]
        on_device = to_ours or (target is None and ours and name != "aten::_local_scalar_dense")
        known = {id(x.held): x for x in ours}  # what is changed in place stays the same object

        def wrap(x: Tensor) -> Tensor:
            if isinstance(x, OnDevice):
                return x
            return known[id(x)] if id(x) in known else OnDevice(x)

        return _mapped(wrap, found) if on_device else found

    def _count(
        self, name: str, func: Any, args: Any, kwargs: Any, tensors: Any, ours: Any, target: Any,
        to_ours: bool,
    ) -> None:  # fmt: skip
        host = [x for x in tensors if not isinstance(x, OnDevice)]
        if name in COPIES:
            if name == "aten::_to_copy":
                down = bool(ours) and target is not None and not to_ours
                up = bool(host) and to_ours
            else:
                up = isinstance(args[0], OnDevice) and bool(host)
                down = not isinstance(args[0], OnDevice) and bool(ours)
            waits = not (kwargs.get("non_blocking") or args[2:3] == (True,))
            if up and (waits or not all(id(x) in _pinned for x in host)):
                self.copies[_place()] += 1
            if down:
                self.read("to the host")
            return
        if name in READS and ours:
            self.read(name)
        if name in INDEXING and ours:
            indices = _tensors(args[1])
            if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
                self.read("boolean index")
            if isinstance(args[0], OnDevice) and any(not isinstance(x, OnDevice) for x in indices):
                self.copies[f"{_place()} index of the host"] += 1
            host = [x for x in host if not any(x is y for y in indices)]
        wrong = [x for x in host if x.ndim > 0]
        if ours and wrong and name != "aten::lift_fresh":
            raise RuntimeError(f"{name} on tensors of two devices: {_place()}")


def _tensors(arguments: Any) -> list[Tensor]:
    """Those of an operation, which takes them in lists at most: a pytree's walk is slower."""
    found = []
    for x in arguments:
        if isinstance(x, Tensor):
            found.append(x)
        elif isinstance(x, (list, tuple)):
            found += _tensors(x)
    return found


def _mapped(change: Callable[[Tensor], Tensor], x: Any) -> Any:
    if isinstance(x, Tensor):
        return change(x)
    return type(x)(_mapped(change, y) for y in x) if type(x) in (list, tuple) else x


def _inner(x: Tensor) -> Tensor:
    return x.held if isinstance(x, OnDevice) else x


def _place() -> str:
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and path != Path(__file__) and ".venv" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.lineno}"
    return "torch or Lightning"


def pin(x: Tensor, *_: Any) -> Tensor:
    pinned = x.clone()
    _pinned.add(id(pinned))
    _kept.append(pinned)
    return pinned


_active: list[Watch] = [Watch()]
