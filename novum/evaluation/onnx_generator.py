"""Generators in ONNX files: latents of a seed, and labels in turn, to uint8 images."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from novum.core.errors import InputError, NotFoundError, first_line
from novum.core.files import check_regular
from novum.core.pixels import signed_to_uint8, unit_to_uint8
from novum.core.seeds import derived_seed, random_generator
from novum.datamodules.sources.in_memory import images_of_array

SUFFIX = ".onnx"
RANGE = "value_range"  # metadata: what floats of the output mean
CLASSES = "num_classes"  # metadata: labels are 0 to this
RANGES = ("-1,1", "0,1", "0,255")
INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
FLOATS = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
}
CHUNK = 64  # images at once
DARK = -0.5  # some pixel of a batch is as dark as this, where floats are from -1 to 1
MEND = (
    "write it into the file: model = onnx.load(FILE);"
    " model.metadata_props.add(key='{key}', value='{value}'); onnx.save(model, FILE)"
)


class Inputs(NamedTuple):
    """Names of a model's inputs, and what each takes."""

    z: str
    latent_shape: tuple[int, ...]
    dtype: torch.dtype
    batch: int | None  # None: any number of rows
    labels: str | None = None
    label_type: type = np.int64
    seed: str | None = None
    seed_shape: tuple[int, ...] = ()


class OnnxGenerator:
    """A generator (z (n, d)[, labels (n,)][, seed]) -> images, run by onnxruntime.

    z is standard normal, and that of Novum's own generators for the same seed.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.session = _session(place)
        known = dict(self.session.get_modelmeta().custom_metadata_map)
        self.inputs = find_inputs(self.session.get_inputs(), place)
        self.num_classes = _classes(known, place) if self.inputs.labels else 0
        self.range = known.get(RANGE)
        self.declared = self.range is not None
        if self.range not in (None, *RANGES):
            raise InputError(
                f"{place}: {RANGE} is {self.range!r}: give one of {' or '.join(RANGES)}"
            )
        seen = known.get("images_seen", "")
        self.images_seen = int(seen) if seen.isdecimal() and len(seen) < 16 else 0

    def sample(self, n: int, *, seed: int | None = None, labels: Tensor | None = None) -> Tensor:
        """n uint8 images (n, c, h, w); the same for the same seed."""
        shape = (n, *self.inputs.latent_shape)
        z = torch.randn(shape, generator=random_generator(seed)).to(self.inputs.dtype)
        if labels is None and self.num_classes:
            labels = torch.arange(n) % self.num_classes
        size = self.inputs.batch or CHUNK
        return self._images(
            np.concatenate([self._run(z, labels, seed, i, size) for i in range(0, n, size)])
        )

    def _run(
        self, z: Tensor, labels: Tensor | None, seed: int | None, first: int, size: int
    ) -> np.ndarray:
        """The output for rows from the first on, at most `size`, of a batch of `size` rows."""
        wanted, own = self.inputs, z[first : first + size]
        rows = first + torch.arange(size) % len(own)
        feed = {wanted.z: z[rows].numpy()}
        if wanted.labels is not None and labels is not None:
            feed[wanted.labels] = labels[rows].numpy().astype(wanted.label_type)
        if wanted.seed is not None:
            number = derived_seed(seed or 0, first) % 2**31
            feed[wanted.seed] = np.full(wanted.seed_shape, number, np.int64)
        try:
            (made, *_) = self.session.run(None, feed)
        except Exception as error:  # onnxruntime's errors have no class in common
            raise InputError(f"--samples {self.place}: {first_line(error)}") from error
        if not isinstance(made, np.ndarray) or len(made) != size:
            given = getattr(made, "shape", type(made).__name__)
            raise InputError(
                f"--samples {self.place}: of {size} latents it made {given}: its first output must"
                " be images, one for each"
            )
        return made[: len(own)]

    def _images(self, made: np.ndarray) -> Tensor:
        """uint8 (n, c, h, w) of an output (n, c, h, w) or (n, h, w, c)."""
        if made.dtype.kind == "f":
            made = self._of_floats(torch.from_numpy(made).float()).numpy()
        images = images_of_array(made, f"--samples {self.place}, its first output,")
        images = images[..., None] if images.ndim == 3 else images
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))

    def _of_floats(self, made: Tensor) -> Tensor:
        low, high = float(made.min()), float(made.max())
        if not np.isfinite([low, high]).all():
            raise InputError(f"--samples {self.place} makes values that are not finite")
        if not self.declared:
            self.range = self._guessed(low, high)
        if self.range == "0,255":
            return made.round().clamp(0, 255).to(torch.uint8)
        return (signed_to_uint8 if self.range == "-1,1" else unit_to_uint8)(made)

    def _guessed(self, low: float, high: float) -> str:
        """The range of a first batch, if it can be one alone; later ones must keep to it."""
        found = self.range
        if found is None and -1 <= low <= DARK:
            found = "-1,1"
        elif found is None and low >= 0:
            found = "0,1"
        if found is not None and high <= 1 and low >= (-1 if found == "-1,1" else 0):
            return found
        raise InputError(
            f"--samples {self.place} makes floats from {low:.3g} to {high:.3g}, neither 0 to 1 nor"
            f" plainly -1 to 1: {MEND.format(key=RANGE, value=RANGES[0])}"
        )


def _session(place: str) -> Any:
    path = Path(place).expanduser()
    if not path.exists():
        raise NotFoundError(f"no file {place}: give an ONNX file of a generator")
    check_regular(path)
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise InputError(f"--samples {place} needs onnxruntime: pip install onnxruntime") from error
    usable = set(runtime.get_available_providers())
    wanted = [f"{kind}ExecutionProvider" for kind in ("CUDA", "CPU")]
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # its warnings are of how it plans, not of the model
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return runtime.InferenceSession(
            str(path), options, providers=[name for name in wanted if name in usable]
        )
    except Exception as error:  # of a damaged file about anything
        raise InputError(
            f"{place} is not an ONNX model that onnxruntime can run: {first_line(error)}"
        ) from error


def find_inputs(given: list[Any], place: str) -> Inputs:
    """Inputs by type and shape: floats (N, d) are z, integers (N,) labels, one integer a seed.

    Raises:
        InputError: If there is another input, or two of a kind.
    """
    found: dict[str, Any] = {}
    for one in given:
        kind = _kind(one)
        if kind is None or kind in found:
            raise _other_inputs(given, place)
        found[kind] = one
    if "z" not in found:
        raise InputError(f"--samples {place} takes no latents, floats (N, d): it is no generator")
    z, labels = found["z"], found.get("labels")
    batches = {x.shape[0] for x in (z, labels) if x is not None and isinstance(x.shape[0], int)}
    if len(batches) > 1:
        raise InputError(
            f"--samples {place} takes {z.shape} latents and {labels and labels.shape} labels"
        )
    return Inputs(
        z.name,
        tuple(z.shape[1:]),
        FLOATS[z.type],
        batches.pop() if batches else None,
        labels and labels.name,
        INTEGERS[labels.type] if labels else np.int64,
        found["seed"].name if "seed" in found else None,
        tuple(found["seed"].shape) if "seed" in found else (),
    )


def _other_inputs(given: list[Any], place: str) -> InputError:
    listed = "; ".join(f"{x.name} {x.type[7:-1]} {x.shape}" for x in given)
    return InputError(
        f"--samples {place} takes {listed}: a generator takes latents, floats (N, d) or"
        " (N, d, 1, 1), and may take labels, integers (N,), and one integer as seed; wrap another"
        " in a function: --samples module:function"
    )


def _kind(one: Any) -> str | None:
    """Kind of an input, by its type and shape; None if a generator has none of that kind."""
    shape = list(one.shape)
    if one.type in FLOATS:
        sized = len(shape) > 1 and all(isinstance(x, int) and x > 0 for x in shape[1:])
        return "z" if sized and (len(shape) == 2 or shape[2:] == [1, 1]) else None
    if one.type == "tensor(int64)" and (not shape or one.name == "seed" and shape == [1]):
        return "seed"
    return "labels" if one.type in INTEGERS and len(shape) == 1 else None


def _classes(known: Mapping[str, str], place: str) -> int:
    given = known.get(CLASSES, "")
    if given.isdecimal() and 0 < int(given[:9]) < 2**31:
        return int(given[:9])
    raise InputError(
        f"--samples {place} takes labels, and does not say how many classes there are:"
        f" {MEND.format(key=CLASSES, value=10)}"
    )
